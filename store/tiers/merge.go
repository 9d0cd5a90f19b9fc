// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"time"

	"rcptgate/store"
)

// merge makes one record of the copy here and of what the shared place has. For each
// part the one that was learnt later holds:
//
//   - the standing answer by its Learnt;
//   - the passing one, or that there is none, by the record that was taught last: a
//     valid answer takes away what passed;
//   - the doubt, or that there is none, by the same and by the last confirmation;
//   - Tried by itself.
//
// When both are of the same second, what is here stays, unless the class is another:
// then all gateways follow the shared place.
func merge(here, there store.Record) store.Record {
	out := here
	if later(&there.Standing, &here.Standing) {
		out.Standing = there.Standing
	}
	heard, heardThere := here.Learnt(), there.Learnt()
	if heardThere.After(heard) || heardThere.Equal(heard) && later(&there.Transient, &here.Transient) {
		out.Transient = there.Transient
	}
	doubted, doubtedThere := latest(heard, here.Doubt.Last), latest(heardThere, there.Doubt.Last)
	if doubtedThere.After(doubted) || doubtedThere.Equal(doubted) && there.Doubt.Count > here.Doubt.Count {
		out.Doubt = there.Doubt
	}
	out.Tried = latest(here.Tried, there.Tried)
	return out
}

func later(there, here *store.Answer) bool {
	if there.Class == store.None {
		return false
	}
	return here.Class == store.None || there.Learnt.After(here.Learnt) || there.Learnt.Equal(here.Learnt) && there.Class != here.Class
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
