// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"

	"rcptgate/check/callahead"
	"rcptgate/store"
	"rcptgate/store/tiers"
)

// forgetting is the memory as the admin socket sees it: what is forgotten there is
// not learnt again from a probe that began before, nor shared with whoever asks
// afterwards.
type forgetting struct {
	*tiers.Tiers
	probes *callahead.State
	places func() []store.Stats
}

// Stats describes the places, and what else is shared with other gateways.
func (f forgetting) Stats() []store.Stats { return f.places() }

// Forget forgets in every place, and keeps later questions from joining probes that
// are in progress.
func (f forgetting) Forget(ctx context.Context, match store.Pattern) (int, error) {
	n, err := f.Tiers.Forget(ctx, match)
	f.probes.Forget(match)
	return n, err
}
