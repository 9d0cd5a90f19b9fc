// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
)

// full makes the step of one list that has so many clients, those of clientNo.
func full(tb testing.TB, entries int) rcptgate.Check {
	tb.Helper()
	w := newWorld(tb, fmt.Sprintf("[[blocklist]]\nname = \"virus\"\nentries = %d\n", max(entries, 100)))
	l, ok := w.list("virus").(*List)
	if !ok {
		tb.Fatal("the list is of another type")
	}
	until := time.Now().Add(24 * time.Hour)
	for i := range entries {
		l.update(clientNo(i), func(network netip.Prefix, _ *entry) *entry {
			return &entry{Listing: rcptgate.Listing{Network: network, Until: until, Evidence: "Eicar-Test"}}
		})
	}
	return w.host.Step(rcptgate.StageRcpt, stepName)
}

// clientNo gives the client of a number below 2^24.
func clientNo(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)})
}

// ordinary is a question about a client that no list has, or one that has been listed.
func ordinary(i int, listed bool) *rcptgate.Query {
	q := &rcptgate.Query{Stage: rcptgate.StageRcpt, Recipient: address.Parse("user@example.com"), Client: clientNo(i)}
	if !listed {
		a := q.Client.As4()
		a[0] = 203
		q.Client = netip.AddrFrom4(a)
	}
	return q
}

// BenchmarkCheck asks about clients that are not listed, and about some that are, among a
// million.
func BenchmarkCheck(b *testing.B) {
	const entries = 1_000_000
	c := full(b, entries)
	for name, listed := range map[string]bool{"unlisted": false, "listed": true} {
		b.Run(name, func(b *testing.B) {
			var list [256]*rcptgate.Query
			for i := range list {
				list[i] = ordinary(i*997%entries, listed)
			}
			b.ReportAllocs()
			best := time.Hour // of a pass: one that nothing else on the machine has disturbed
			for b.Loop() {
				begun := time.Now()
				for _, q := range list {
					if v, err := c.Check(b.Context(), q); err != nil || (v.Action == rcptgate.Reject) != listed {
						b.Fatal(v, err)
					}
				}
				best = min(best, time.Since(begun))
			}
			b.ReportMetric(float64(best)/float64(len(list)), "best-ns/question")
		})
	}
}
