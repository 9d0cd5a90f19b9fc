// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"strings"

	"rcptgate/store"
)

// usedBit of a stamp in RAM says that the places below have been informed of a use.
const usedBit = 1 << 31

// maxUses bounds the uses of which the places are still to be informed.
const maxUses = 4096

// prover is a place that gives precedence to records that are in use: store/disk. RAM
// answers for the recipients that are asked for most, so that the place itself would
// never hear of them.
type prover interface {
	Prove(key string)
}

// uses are keys that were asked for again since they were learnt.
type uses struct{ queue chan string }

func newUses() uses { return uses{make(chan string, maxUses)} }

// use notes a use of the record under key, once for as long as it stays as it is.
func (l *local) use(key string, seen uint32, rec *store.Record) {
	if seen&usedBit != 0 || len(l.places) == 0 || rec.Refuses() || len(l.uses.queue) == cap(l.uses.queue) {
		return
	}
	key = strings.Clone(key) // it may lie in a buffer of the caller
	select {
	case l.uses.queue <- key:
		l.ram.See(key, usedBit, ^uint32(0))
	default: // the next use comes again
	}
}

// proveBelow informs the places of a use.
func (l *local) proveBelow(key string) {
	for _, p := range l.places {
		if p, ok := p.Store.(prover); ok {
			p.Prove(key)
		}
	}
}
