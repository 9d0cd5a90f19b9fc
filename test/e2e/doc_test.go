// SPDX-License-Identifier: BSD-2-Clause

// Package e2e tests the real binary end to end where a scripted case (package cases) does not reach: real servers
// stopped and started, messages delivered, load, kill -9, damaged files, reloads, loops, other people's milter client.
package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// section is the configuration of one domain.
func section(domain, backend string) string {
	return fmt.Sprintf("[[domain]]\nname = %q\nbackend = [%q]\n", domain, backend)
}

// expect asks for one recipient in a session and compares code and enhanced code; an empty enhanced code is any.
func expect(t testing.TB, s cases.Session, recipient string, code int, enhanced string) lab.Reply {
	t.Helper()
	r := s.Rcpt(recipient)
	if r.Code != code || (enhanced != "" && r.Enhanced != enhanced) {
		t.Errorf("RCPT %s: %q, want %d %s", recipient, r, code, enhanced)
	}
	return r
}

// open begins a session and a transaction.
func open(t testing.TB, front cases.Front) cases.Session {
	t.Helper()
	s := front.Open(t)
	if r := s.Mail("sender@client.test"); r.Code != 250 {
		t.Fatalf("MAIL through %s: %q", front.Name(), r)
	}
	return s
}

// within is testkit.Eventually with a limit of its own.
func within(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("not within %v: %s", limit, what)
			return
		}
	}
}

// spread calls work(i) for 0 <= i < n from some workers, each with a session of its own, and waits for all.
func spread(t *testing.T, front cases.Front, workers, n int, work func(s cases.Session, i int)) {
	t.Helper()
	numbers := make(chan int)
	var wait sync.WaitGroup
	for range workers {
		s := open(t, front)
		wait.Add(1)
		go func() {
			defer wait.Done()
			defer s.Close()
			asked := 0
			for i := range numbers {
				if asked++; asked%50 == 0 {
					if r := s.Mail("sender@client.test"); r.Code != 250 && r.Code != 0 { // 0: work notices it
						t.Errorf("MAIL: %q", r)
					}
				}
				work(s, i)
			}
		}()
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	wait.Wait()
}
