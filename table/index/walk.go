// SPDX-License-Identifier: BSD-2-Clause

package index

import "math"

// Place is a position in a walk over an index in the order of its hashes. The zero
// Place is the beginning. It means the same in all indexes of one seed: a walk that
// was begun over one can go on over the next, from [Index.Rewind] of the place.
type Place uint64

// End is the place behind the last pair.
const End Place = math.MaxUint64

// placeShift is what the places of an index of one slot would be shifted by: the
// spare slots have room above.
const placeShift = 8

// Next gives the first pair at or behind a place, and the place behind it; ok is false
// when there is none.
func (x *Index) Next(from Place) (key, value string, next Place, ok bool) {
	for i := x.slotAt(from); i < len(x.slots); i++ {
		if slot := x.slots[i]; slot != 0 {
			key, value = x.pair(slot)
			return key, value, x.placeAt(i + 1), true
		}
	}
	return "", "", End, false
}

// Rewind gives the place from which a walk that came to place over x goes on over
// another index of its seed, without missing a pair that both hold: a pair may lie
// behind its own place, but only behind others without a gap. Some pairs come twice.
func (x *Index) Rewind(place Place) Place {
	i := min(x.slotAt(place), len(x.slots))
	for i > 0 && x.slots[i-1] != 0 {
		i--
	}
	return x.placeAt(i)
}

func (x *Index) slotAt(place Place) int {
	if place == End || len(x.slots) == 0 {
		return len(x.slots)
	}
	return int(place >> (x.shift - placeShift)) // #nosec G115 -- not negative
}

func (x *Index) placeAt(slot int) Place {
	if slot >= len(x.slots) {
		return End
	}
	return Place(slot) << (x.shift - placeShift) // #nosec G115 -- not negative
}
