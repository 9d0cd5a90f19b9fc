// SPDX-License-Identifier: BSD-2-Clause

package benford

import "math"

// chiTail is the probability that chi-square with df degrees of freedom is at least x: the
// regularised upper incomplete gamma function Q(df/2, x/2).
func chiTail(x, df float64) float64 {
	if x <= 0 {
		return 1
	}
	a, x := df/2, x/2
	lg, _ := math.Lgamma(a)
	front := math.Exp(-x + a*math.Log(x) - lg)
	if x < a+1 { // the series of P converges (Abramowitz and Stegun 6.5.29)
		sum, term := 1/a, 1/a
		for n := 1.0; n < 10_000 && term > sum*1e-15; n++ {
			term *= x / (a + n)
			sum += term
		}
		return 1 - front*sum
	}
	// The continued fraction of Q (6.5.31), by Lentz's method.
	const tiny = 1e-300
	b := x + 1 - a
	c := 1 / tiny
	d := 1 / b
	h := d
	for i := 1.0; i < 10_000; i++ {
		an := -i * (i - a)
		b += 2
		d = 1 / notZero(an*d+b, tiny)
		c = notZero(b+an/c, tiny)
		step := d * c
		h *= step
		if math.Abs(step-1) < 1e-15 {
			break
		}
	}
	return front * h
}

func notZero(x, tiny float64) float64 {
	if math.Abs(x) < tiny {
		return tiny
	}
	return x
}
