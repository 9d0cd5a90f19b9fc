// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/store"
	"rcptgate/unit"
)

// hotGate is the gate of a daemon as configured by default and by more, which remembers people
// at example.com, with the log written to nowhere.
func hotGate(tb testing.TB, people int, more ...string) (*rcptgate.Gate, []rcptgate.Mailbox) {
	tb.Helper()
	p, c := testConfig(tb, fmt.Sprintf("state = %q\nenforce = true\n[cache]\ndisk_entries = 0\n[[domain]]\nname = \"example.com\"\nbackend = [\"smtp:[127.0.0.1]:9\"]\n", tb.TempDir())+strings.Join(more, "\n"))
	h, err := unit.Open(tb.Context(), p.units, c, unit.Options{Stderr: io.Discard, Disk: openDisk})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(h.Stop)
	memory := h.Memory
	now := time.Now()
	mailboxes := make([]rcptgate.Mailbox, people)
	for i := range mailboxes {
		mailboxes[i] = address.Parse(fmt.Sprintf("user%d@example.com", i))
		memory.Learn(mailboxes[i].Key(true), now, func(store.Record) store.Record {
			return store.Record{Standing: store.Answer{
				Class: store.Valid, Code: 250, Enhanced: "2.1.5", Text: "Ok", Backend: "smtp:[127.0.0.1]:9",
				Learnt: now, Refresh: now.Add(time.Hour), Expire: now.Add(2 * time.Hour),
			}}
		})
	}
	return &h.Gate, mailboxes
}

// ask puts one question as a front does, into the same query each time.
func ask(gate *rcptgate.Gate, q *rcptgate.Query, mailbox *rcptgate.Mailbox) rcptgate.Verdict {
	q.Reset()
	q.Stage = rcptgate.StageRcpt
	q.Recipient, q.Target = *mailbox, *mailbox
	q.NextHop = rcptgate.NextHop{Mailer: "smtp", Host: "[127.0.0.1]:9", Addr: mailbox.Path}
	q.Sender, q.Client, q.Helo, q.QueueID = "someone@sender.example", netip.AddrFrom4([4]byte{192, 0, 2, 1}), "mx.sender.example", "4F1aBcDeF"
	return gate.Ask(context.Background(), q)
}

// BenchmarkRemembered is what a remembered answer costs from the question to the verdict, log and metrics included.
func BenchmarkRemembered(b *testing.B) {
	gate, people := hotGate(b, 10_000)
	b.ReportAllocs()
	for _, parallel := range []bool{false, true} {
		b.Run(fmt.Sprintf("parallel=%v", parallel), func(b *testing.B) {
			b.ReportAllocs()
			if !parallel {
				q := new(rcptgate.Query)
				for i := range b.N {
					ask(gate, q, &people[i*7919%len(people)])
				}
				return
			}
			b.RunParallel(func(p *testing.PB) {
				q := new(rcptgate.Query)
				for i := 0; p.Next(); i++ {
					ask(gate, q, &people[i*7919%len(people)])
				}
			})
		})
	}
}

// The hot path is held by what it allocates: times are for benchmarks.
func TestARememberedAnswerAllocatesLittle(t *testing.T) {
	gate, people := hotGate(t, 1)
	q := new(rcptgate.Query)
	if v := ask(gate, q, &people[0]); v.Source != rcptgate.SourceRAM || v.Reason != rcptgate.ReasonValid {
		t.Fatalf("the answer is not a remembered one: %+v", v)
	}
	if n := testing.AllocsPerRun(2000, func() { ask(gate, q, &people[0]) }); n > 1 {
		t.Errorf("a remembered answer allocates %v times, at most once is allowed", n)
	}
}
