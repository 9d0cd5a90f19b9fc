// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"rcptgate/store"
	"rcptgate/store/tiers"
)

// told is the memory as the admin socket sees it.
type told struct {
	*tiers.Tiers
	places func() []store.Stats
}

// Stats describes the places, and what else is shared with other gateways.
func (t told) Stats() []store.Stats { return t.places() }
