// SPDX-License-Identifier: BSD-2-Clause

package benford

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Which are the digits that are counted.
type Which uint8

// The digits, from the front.
const (
	First    Which = iota // the first digit, 1 to base-1
	Second                // the second, 0 to base-1
	FirstTwo              // the first two as one number, base to base*base-1
)

// String gives the word for the command line.
func (w Which) String() string { return [...]string{"first", "second", "first-two"}[w] }

// ParseWhich reads the word of the command line.
func ParseWhich(s string) (Which, error) {
	for _, w := range []Which{First, Second, FirstTwo} {
		if s == w.String() {
			return w, nil
		}
	}
	return 0, fmt.Errorf("unknown digits %q; known are first, second, first-two", s)
}

// The bases that can be asked for.
const (
	MinBase = 3
	MaxBase = 36
)

// leading gives the first digit of n in base, and the first two as one number, 0 if n has
// only one. n is not 0.
func leading(n, base uint64) (first, two uint64) {
	for n >= base*base {
		n /= base
	}
	if n < base {
		return n, 0
	}
	return n / base, n
}

// law gives the probability of each digit, and the lowest digit.
func law(w Which, base int) (lowest int, expected []float64) {
	b := float64(base)
	share := func(k float64) float64 { return math.Log1p(1/k) / math.Log(b) }
	switch w {
	case Second:
		for d := range base {
			sum := 0.0
			for k := 1; k < base; k++ {
				sum += share(float64(k*base + d))
			}
			expected = append(expected, sum)
		}
		return 0, expected
	case FirstTwo:
		for k := base; k < base*base; k++ {
			expected = append(expected, share(float64(k)))
		}
		return base, expected
	}
	for d := 1; d < base; d++ {
		expected = append(expected, share(float64(d)))
	}
	return 1, expected
}

// ParseNumber reads a number as people write them: with a sign, a decimal point, an exponent,
// commas or blanks or underscores between thousands. It gives an integer with the same
// leading digits in base 10; ok is false if s is not a number, n is 0 if it is nought.
func ParseNumber(s string) (n uint64, ok bool) {
	s = strings.TrimLeft(strings.TrimSpace(s), "+-")
	if exact, err := strconv.ParseUint(s, 10, 64); err == nil {
		return exact, true
	}
	s = strings.NewReplacer(",", "", "_", "", " ", "").Replace(s)
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(s, "xXpPiInN") {
		return 0, false
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(s), "e")
	digits := strings.TrimLeft(strings.Replace(mantissa, ".", "", 1), "0")
	n, err = strconv.ParseUint(digits[:min(len(digits), 18)], 10, 64)
	if digits == "" {
		return 0, true
	}
	return n, err == nil
}

// DigitName writes a digit, or two, in the base: 10 is "a" in base 16.
func DigitName(d, base int, w Which) string {
	if w == FirstTwo {
		return strconv.FormatInt(int64(d/base), base) + strconv.FormatInt(int64(d%base), base)
	}
	return strconv.FormatInt(int64(d), base)
}
