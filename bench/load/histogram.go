// SPDX-License-Identifier: BSD-2-Clause

package load

import (
	"math/bits"
	"time"
)

// subBits is the precision of a Histogram: each power of two is divided into 2^subBits buckets, so that a value is
// known to 1/64.
const subBits = 6

// Histogram counts durations from nanoseconds to hours in buckets of constant relative width. The zero Histogram is
// empty. It is not safe for concurrent use.
type Histogram struct {
	counts [(64 - subBits) << subBits]uint32
	total  uint64
	max    time.Duration
}

// Add counts d; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// bucket gives the index for v: values below 2^subBits have a bucket each.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// upper gives the largest value that falls into bucket i.
func upper(i int) uint64 {
	if i < 2<<subBits {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return (uint64(i-shift<<subBits)+1)<<shift - 1
}

// Count is how many durations were counted.
func (h *Histogram) Count() uint64 { return h.total }

// Max is the longest duration counted.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile gives the duration that the share q (0 to 1) of all counted ones does not exceed, 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	want := uint64(q * float64(h.total))
	seen := uint64(0)
	for i, n := range h.counts {
		seen += uint64(n)
		if n > 0 && seen >= want {
			return min(time.Duration(upper(i)), h.max) //nolint:gosec // below 2^63 by the size of counts
		}
	}
	return h.max
}
