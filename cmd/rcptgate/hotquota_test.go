// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate"
)

// quotaGate is a hotGate that has asked a quota source about everybody, and remembers that all
// have room.
func quotaGate(tb testing.TB, people int) (*rcptgate.Gate, []rcptgate.Mailbox) {
	tb.Helper()
	var users strings.Builder
	for i := range people {
		fmt.Fprintf(&users, "user%d@example.com 0 1000000000\n", i)
	}
	path := filepath.Join(tb.TempDir(), "quotas")
	if err := os.WriteFile(path, []byte(users.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	gate, mailboxes := hotGate(tb, people, fmt.Sprintf("[quota]\nsources = [\"file:%s\"]\ntimeout = \"10s\"\n", path))
	q := new(rcptgate.Query)
	for begin := time.Now(); ; {
		ask(gate, q, &mailboxes[0])
		if steps := q.Trace.Steps; len(steps) > 0 && steps[len(steps)-1].Name == "quota" {
			break
		}
		if time.Since(begin) > 30*time.Second {
			tb.Fatalf("the step is not asked: %+v", q.Trace.Steps)
		}
	}
	for i := range mailboxes {
		ask(gate, q, &mailboxes[i])
	}
	return gate, mailboxes
}

// BenchmarkRememberedWithQuota is what a remembered answer costs when room is asked about, too.
func BenchmarkRememberedWithQuota(b *testing.B) {
	gate, people := quotaGate(b, 10_000)
	b.ReportAllocs()
	b.ResetTimer()
	q := new(rcptgate.Query)
	for i := range b.N {
		ask(gate, q, &people[i*7919%len(people)])
	}
}
