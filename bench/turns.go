// SPDX-License-Identifier: BSD-2-Clause

package bench

import "slices"

// InTurns calls turn for each side in each round: A B, B A, A B, ... so that neither always has the better half of a
// drift. It ends with the first error.
func InTurns[S any](rounds int, sides []S, turn func(round int, s S) error) error {
	for round := range rounds {
		order := slices.Clone(sides)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if err := turn(round, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// MedianRatio is the median of the ratios of turns that followed each other.
func MedianRatio(a, b []float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return Median(ratios)
}

// Median gives the middle of some figures, 0 of none.
func Median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Clone(list)
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
