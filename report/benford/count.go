// SPDX-License-Identifier: BSD-2-Clause

package benford

import "math/bits"

// Count counts the leading digits of numbers. The zero Count is not usable; see [NewCount].
type Count struct {
	Which  Which
	Base   int
	lowest int
	counts []uint64
	n      uint64 // numbers that have the digit
	zeros  uint64
	short  uint64 // numbers with one digit, where two are needed
	spread [64 * subBuckets]uint64
	all    uint64
}

// subBuckets is into how many parts each factor of two is divided for the percentiles.
const subBuckets = 16

// NewCount makes an empty count. The base is within MinBase and MaxBase.
func NewCount(w Which, base int) *Count {
	lowest, expected := law(w, base)
	return &Count{Which: w, Base: base, lowest: lowest, counts: make([]uint64, len(expected))}
}

// Add counts a number.
func (c *Count) Add(n uint64) {
	if n == 0 {
		c.zeros++
		return
	}
	c.spread[bucket(n)]++
	c.all++
	first, two := leading(n, uint64(c.Base)) // #nosec G115 -- at most MaxBase
	var i uint64
	switch {
	case c.Which == First:
		i = first - 1
	case two == 0:
		c.short++
		return
	case c.Which == Second:
		i = two % uint64(c.Base) // #nosec G115
	default:
		i = two - uint64(c.Base) // #nosec G115
	}
	c.counts[i]++
	c.n++
}

// bucket is where a number is counted for the percentiles: by its power of two, in parts.
func bucket(n uint64) int {
	e := bits.Len64(n) - 1
	if e < 4 {
		return e*subBuckets + int(n<<(4-e))&(subBuckets-1) // #nosec G115 -- below 16
	}
	return e*subBuckets + int(n>>(e-4))&(subBuckets-1) // #nosec G115 -- masked
}

// percentile gives the number that a share of all is below, within a sixteenth.
func (c *Count) percentile(share float64) uint64 {
	want := uint64(share * float64(c.all))
	var sum uint64
	for i, n := range c.spread {
		if sum += n; sum > want {
			e, part := i/subBuckets, uint64(i%subBuckets) // #nosec G115 -- below 16
			if e < 4 {
				return (subBuckets + part) << e / subBuckets
			}
			return (subBuckets + part) << (e - 4)
		}
	}
	return 0
}
