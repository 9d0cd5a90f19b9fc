// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/address"
	"rcptgate/backend/sim"
)

// TestSlowGreetingIsNotDown: a server that greets late, as Sendmail with greet_pause
// does, is asked over as many connections as are needed, by askers that have waited
// for a while already, and the breaker stays closed.
func TestSlowGreetingIsNotDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := sim.New(sim.Config{Listen: memory.Listen, Behaviour: sim.Behaviour{AcceptAll: true, Delays: map[sim.Stage]time.Duration{sim.Banner: 3 * time.Second, sim.Rcpt: 300 * time.Millisecond}}})
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		defer server.Stop()
		addr, err := ParseAddress(server.Backend())
		if err != nil {
			t.Fatal(err)
		}
		set := NewSet(DefaultConfig(), "mx1.example.org", nil)
		set.tune.dial = memory.DialContext
		set.tune.grace = 100 * time.Millisecond // the patience must come from the asker
		defer set.Close()
		var wg sync.WaitGroup
		var failed atomic.Int64
		const patience = 5 * time.Second
		for i := range 60 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := set.Get(addr).Ask(ctx, Probe{Recipient: address.Parse("someone@example.com"), Due: time.Now().Add(patience)}); err != nil {
					failed.Add(1)
					t.Log(err)
				}
			})
		}
		wg.Wait()
		if n := failed.Load(); n > 0 || set.Get(addr).Health().Open {
			t.Errorf("%d of 60 were not answered; breaker open: %v", n, set.Get(addr).Health().Open)
		}
	})
}
