// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/notice"
)

// TestWhatAnswersMean holds which results of a search (RFC 4511 appendix A.1) are answers, and which
// say that the server cannot answer: after three of those in a row it rests.
func TestWhatAnswersMean(t *testing.T) {
	for code, rests := range map[uint16]bool{
		1: true, 2: true, 3: true, 51: true, 52: true, 53: true, 80: true, // operationsError ... other
		10: false, 32: false, 34: false, 50: false, // referral, noSuchObject, invalidDNSyntax, insufficientAccessRights
	} {
		bubble(t, func(t *testing.T) {
			l := newWorld(t, "one")
			d := l.open(nil, "ldap://one")
			defer d.Close()
			l.fakes["one"].search = func(s *session, id int64, _ string) { s.send(done(id, code)) }
			for i := range maxFailed {
				if st := d.servers[0].status(); !st.up || st.failed != uint64(i) || st.asked != uint64(i) {
					t.Errorf("code %d, after %d searches: %+v", code, i, st)
				}
				l.lost(d, fmt.Sprint("u", i), ErrDown)
			}
			if up := d.servers[0].status().up; up == rests {
				t.Errorf("code %d: up %v", code, up)
			}
			if l.raised("quota-ldap ldap://one search") == rests || l.raised("quota-ldap ldap://one") != rests {
				t.Errorf("code %d: %v", code, l.board.List())
			}
		})
	}
}

// TestRest holds for how long a server is left alone, and that one trial is made at a time.
func TestRest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		password := write(t, "secret")
		d := l.open(func(c *Config) { c.Bind, c.PasswordFile = "cn=gate", password }, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		made := func() int { synctest.Wait(); n, _ := f.counts(); return n }
		asked := 0
		ask := func(want int) {
			t.Helper()
			asked++
			l.lost(d, fmt.Sprint("u", asked), ErrDown)
			if n := made(); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
		}
		f.set(func(f *fake) { f.bindCode = 52 }) // unavailable
		ask(1)
		time.Sleep(rest - time.Nanosecond)
		ask(1)
		time.Sleep(time.Nanosecond)
		f.set(func(f *fake) { f.bindCode = 49 }) // invalid credentials: directories lock accounts out
		ask(2)
		ask(2)
		time.Sleep(longRest - time.Nanosecond)
		ask(2)
		f.set(func(f *fake) { f.bindCode = 0 })
		time.Sleep(time.Nanosecond)
		ask(3) // the trial, which succeeds
		l.find(d, "ann", annEntry)
		if n := made(); n != 3 || l.raised("quota-ldap ldap://one") || d.servers[0].status().why != "" {
			t.Errorf("%d connections, %v", n, l.board.List())
		}
		f.set(func(f *fake) { f.bindCode = 52 })
		d.servers[0].forget(d.servers[0].link)
		ask(4)
		if !l.raised("quota-ldap ldap://one") {
			t.Errorf("it is down again: %v", l.board.List())
		}
		d.Close()
		if l.raised("quota-ldap ldap://one") {
			t.Errorf("it is no longer asked: %v", l.board.List())
		}
	})
}

// TestIdle holds when a connection is too old to be used again.
func TestIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		for i, step := range []struct {
			pause time.Duration
			made  int
		}{{0, 1}, {idleLimit - time.Nanosecond, 1}, {idleLimit - time.Nanosecond, 1}, {idleLimit, 2}} {
			time.Sleep(step.pause)
			l.find(d, fmt.Sprint("u", i), annEntry)
			if made, _ := l.fakes["one"].counts(); made != step.made {
				t.Errorf("step %d: %d connections, want %d", i, made, step.made)
			}
		}
	})
}

// TestAnErrorNamesTheServerOnce in errors, in the log and in what status shows.
func TestAnErrorNamesTheServerOnce(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	var log bytes.Buffer
	l := newWorld(t)
	l.State = NewState(notice.New(slog.New(slog.NewTextHandler(&log, nil))))
	d := l.open(nil, "ldap://"+ln.Addr().String())
	defer d.Close()
	_, err = d.Find(t.Context(), mailbox("ann", "test"))
	if err == nil || strings.Count(err.Error(), "127.0.0.1") != 1 || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
		if strings.Count(line, "127.0.0.1") != 1 {
			t.Errorf("the log has %q", line)
		}
	}
	if st := d.servers[0].status(); st.why == "" || strings.Contains(st.why, "127.0.0.1") {
		t.Errorf("status, next to the server's name, has %q", st.why)
	}
}
