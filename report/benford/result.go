// SPDX-License-Identifier: BSD-2-Clause

package benford

import (
	"fmt"
	"math"

	"rcptgate/kit/term"
)

// Result is how the digits of a set of numbers compare with the law.
type Result struct {
	What   string  `json:"what"` // what the numbers are: "subject lengths"
	Digits string  `json:"digits"`
	Base   int     `json:"base"`
	N      uint64  `json:"n"`     // numbers that were counted
	Zeros  uint64  `json:"zeros"` // nought has no first digit
	Short  uint64  `json:"short"` // numbers with one digit, where two are needed
	Rows   []Digit `json:"rows"`
	MAD    float64 `json:"mad"` // mean absolute deviation of the shares
	// Floor is the MAD that as many numbers of a perfect set have by chance, on average.
	Floor   float64 `json:"noise_floor"`
	Verdict string  `json:"verdict"` // "close", "acceptable", "marginal", "does not conform", "too few numbers", "no bounds for this base"
	Chi2    float64 `json:"chi2"`
	DF      int     `json:"df"`
	ChiP    float64 `json:"chi2_p"`
	KS      float64 `json:"ks"` // greatest distance of the cumulated shares
	KS5     float64 `json:"ks_5_percent"`
	P5      uint64  `json:"p5"` // a twentieth of the numbers is below
	Median  uint64  `json:"median"`
	P95     uint64  `json:"p95"`
	// Decades is how many orders of magnitude lie between P5 and P95. The law is to be
	// expected from about two on.
	Decades float64 `json:"decades"`
}

// Digit is one digit's share.
type Digit struct {
	Digit    string  `json:"digit"`
	Count    uint64  `json:"count"`
	Share    float64 `json:"share"`
	Expected float64 `json:"expected"`
	Z        float64 `json:"z"` // beyond 1.96 by chance once in twenty, beyond 2.58 once in a hundred
}

// Verdicts.
const (
	Close      = "close"
	Acceptable = "acceptable"
	Marginal   = "marginal"
	Deviates   = "does not conform"
	TooFew     = "too few numbers"
	NoBounds   = "no bounds for this base"
)

// bounds are Nigrini's for the MAD in base 10: up to which it is close, acceptable, marginal.
var bounds = map[Which][3]float64{
	First:    {.006, .012, .015},
	Second:   {.008, .010, .012},
	FirstTwo: {.0012, .0018, .0022},
}

// Result compares what was counted with the law.
func (c *Count) Result(what string) *Result {
	_, expected := law(c.Which, c.Base)
	r := &Result{What: what, Digits: c.Which.String(), Base: c.Base, N: c.n, Zeros: c.zeros, Short: c.short, DF: len(expected) - 1,
		P5: c.percentile(.05), Median: c.percentile(.5), P95: c.percentile(.95)}
	if r.P5 > 0 {
		r.Decades = math.Log10(float64(r.P95) / float64(r.P5))
	}
	n := float64(c.n)
	cumulated := 0.0
	for i, e := range expected {
		d := Digit{Digit: DigitName(c.lowest+i, c.Base, c.Which), Count: c.counts[i], Expected: e}
		if n > 0 {
			d.Share = float64(d.Count) / n
			d.Z = z(d.Share, e, n)
			r.Chi2 += n * (d.Share - e) * (d.Share - e) / e
			r.Floor += math.Sqrt(2 * e * (1 - e) / (math.Pi * n))
		}
		r.MAD += math.Abs(d.Share - e)
		cumulated += d.Share - e
		r.KS = max(r.KS, math.Abs(cumulated))
		r.Rows = append(r.Rows, d)
	}
	r.MAD /= float64(len(expected))
	r.Floor /= float64(len(expected))
	if n > 0 {
		r.KS5 = 1.36 / math.Sqrt(n)
		r.ChiP = chiTail(r.Chi2, float64(r.DF))
	}
	r.Verdict = r.judge(c.Which)
	return r
}

// z is the deviation of a share in standard deviations, with the continuity correction where
// it is smaller than the deviation.
func z(share, expected, n float64) float64 {
	diff := math.Abs(share - expected)
	if correction := 1 / (2 * n); correction < diff {
		diff -= correction
	}
	return math.Copysign(diff/math.Sqrt(expected*(1-expected)/n), share-expected)
}

// judge gives the verdict. Where chance alone would leave a perfect set out of "close", there
// is none.
func (r *Result) judge(w Which) string {
	b := bounds[w]
	switch {
	case r.Base != 10:
		return NoBounds
	case r.N == 0 || r.Floor > b[0]:
		return TooFew
	case r.MAD <= b[0]:
		return Close
	case r.MAD <= b[1]:
		return Acceptable
	case r.MAD <= b[2]:
		return Marginal
	}
	return Deviates
}

// Enough is how many numbers a verdict needs.
func Enough(w Which) int {
	_, expected := law(w, 10)
	sum := 0.0
	for _, e := range expected {
		sum += math.Sqrt(2 * e * (1 - e) / math.Pi)
	}
	perRoot := sum / float64(len(expected))
	return int(math.Ceil(perRoot * perRoot / (bounds[w][0] * bounds[w][0])))
}

// Sentence says the verdict for people.
func (r *Result) Sentence() string {
	switch r.Verdict {
	case TooFew:
		w, _ := ParseWhich(r.Digits)
		return fmt.Sprintf("%s: too few to tell, at least %d are needed.", term.Count(r.N, "number"), Enough(w))
	case NoBounds:
		return fmt.Sprintf("The deviation is %.1f times what chance makes of a perfect set. (Bounds are known for base 10 only.)", r.MAD/max(r.Floor, 1e-12))
	case Deviates:
		return fmt.Sprintf("The digits do not conform to Benford's law: MAD %.4f.", r.MAD)
	case Close:
		return fmt.Sprintf("The digits conform to Benford's law closely: MAD %.4f.", r.MAD)
	case Acceptable:
		return fmt.Sprintf("The digits conform to Benford's law acceptably: MAD %.4f.", r.MAD)
	}
	return fmt.Sprintf("The digits conform to Benford's law marginally: MAD %.4f.", r.MAD)
}

// Caution says why the law may not be expected of these numbers, or "".
func (r *Result) Caution() string {
	if r.N > 0 && r.Decades < 2 {
		return fmt.Sprintf("Nine of ten numbers are between %d and %d, %.1f decades: the law is to be expected from about two decades on.", r.P5, r.P95, r.Decades)
	}
	return ""
}
