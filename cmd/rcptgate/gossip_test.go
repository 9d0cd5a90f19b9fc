// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// TestGatewaysWarnEachOther stops the server behind two gateways: the second one's breaker
// opens before anybody has asked it, through a real memcached.
func TestGatewaysWarnEachOther(t *testing.T) {
	t.Parallel()
	server := sim.New(sim.Config{Behaviour: testUsers()})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	place := lab.StartMemcached(t, lab.MemcachedOptions{})
	var gates [2]*unit.Host
	for i := range gates {
		h, err := smallHost(t, unit.Options{Wait: patience, Set: []backend.Option{backend.WithTrials(100*time.Millisecond, time.Hour)}},
			smallText(t.TempDir(), fmt.Sprintf("hostname = \"mx%d.example\"", i+1), fmt.Sprintf("[cache]\nmemcached = [%q]\n[[domain]]\nname = %q\nbackend = [%q]", place.Socket(), testDomain, server.Backend())))
		if err != nil {
			t.Fatal(err)
		}
		gates[i] = h
	}
	ask := func(d *unit.Host, local string) rcptgate.Verdict {
		q := rcptgate.Query{Stage: rcptgate.StageRcpt, Recipient: address.Parse(local + "@" + testDomain)}
		q.Target = q.Recipient
		return d.Gate.Ask(context.Background(), &q)
	}
	open := func(d *unit.Host) bool { h := d.Backends.Health(); return len(h) == 1 && h[0].Open }
	for i, d := range gates {
		if v := ask(d, fmt.Sprint("stranger", i)); v.Reason != rcptgate.ReasonUnknownUser {
			t.Fatalf("gateway %d: %+v", i, v)
		}
	}
	server.Stop()
	n := 0
	testkit.Eventually(t, "the first gateway's breaker", func() bool { n++; ask(gates[0], fmt.Sprint("x", n)); return open(gates[0]) })
	testkit.Eventually(t, "the second gateway's breaker", func() bool { return open(gates[1]) })
	if h := gates[1].Backends.Health()[0]; h.Failures[backend.StageBreaker] != 0 || h.Probes == 0 {
		t.Errorf("the second gateway was asked: %+v", h)
	}
	key := "rg:b:" + server.Backend()
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "both breakers to close", func() bool { return !open(gates[0]) && !open(gates[1]) })
	testkit.Eventually(t, "the hint's end", func() bool {
		_, _, err := gates[0].Shared.Get(context.Background(), key)
		return errors.Is(err, store.ErrNotFound)
	})
	place.Kill()
	server.Stop()
	testkit.Eventually(t, "the first gateway's breaker", func() bool { n++; ask(gates[0], fmt.Sprint("x", n)); return open(gates[0]) })
	if text := page(gates[0], "/readyz"); !strings.HasPrefix(text, "ready\n") {
		t.Errorf("without memcached: %s", text)
	}
}
