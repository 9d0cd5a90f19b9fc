// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/check/antivirus/clamd"
)

// TestWants holds what is negotiated with the MTA for each way to treat messages.
func TestWants(t *testing.T) {
	const read = rcptgate.WantHeader | rcptgate.WantBody
	for _, tc := range []struct {
		set  func(*Config)
		want rcptgate.Wants
	}{
		{func(*Config) {}, read},
		{func(c *Config) { c.Infected = hold }, read | rcptgate.Quarantine},
		{func(c *Config) { c.Infected = mark }, read | rcptgate.EditHeader},
		{func(c *Config) { c.Header = "X-AV" }, read | rcptgate.EditHeader},
	} {
		cfg := testConfig(tc.set)
		if got := (&Check{cfg: cfg}).wants(); got != tc.want {
			t.Errorf("infected = %q, header = %q: wants %v, want %v", cfg.Infected, cfg.Header, got, tc.want)
		}
	}
}

// TestMarksThatWereNotAgreedOn has a reload bring the field on a connection whose MTA has not
// agreed to add one: the message is put off, as docs/viruses.md says.
func TestMarksThatWereNotAgreedOn(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Header = "X-AV" }, says("", nil))
	q := letter("body")
	m := rcptgate.NewMessage(bodyWants &^ rcptgate.EditHeader)
	m.Fields, m.Body, m.Size = q.Message.Fields, q.Message.Body, q.Message.Size
	q.Message = m
	if v, err := r.Check.Check(t.Context(), q); err == nil {
		t.Errorf("%+v", v)
	}
}

// TestADiscardedMessageIsNotMarked: its changes would have to be taken back.
func TestADiscardedMessageIsNotMarked(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Header, c.Infected = "X-AV", discard }, says("Win.X", nil))
	q := letter("body")
	if v := r.ask(t, q); v.Action != rcptgate.Discard || len(q.Message.Proposed()) > 0 {
		t.Errorf("%+v, %+v", v, q.Message.Proposed())
	}
}

// TestAFailedScanIsNotRepeated has the script and the check look at one message.
func TestAFailedScanIsNotRepeated(t *testing.T) {
	f := says("", &clamd.Error{Kind: clamd.Failed, Err: errors.New("no memory")})
	r := newRig(t, nil, f)
	q := letter("body")
	r.Scan(t.Context(), q)
	scans, _ := f.count()
	if v := r.ask(t, q); v.Action != rcptgate.Tempfail {
		t.Errorf("the second look: %+v", v)
	}
	if after, _ := f.count(); after != scans {
		t.Errorf("%d scans more", after-scans)
	}
}

// TestFailuresInARow holds that only failures without a success between them have a server rest.
func TestFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		r := newRig(t, func(c *Config) { c.Selftest = false }, f)
		r.ask(t, letter("x"))
		f.set(func(_ context.Context, text []byte) (clamd.Finding, error) {
			if bytes.Contains(text, []byte("bad")) {
				return clamd.Finding{}, &clamd.Error{Kind: clamd.Closed, Err: errors.New("EOF")}
			}
			return honest(text)
		})
		for range 5 {
			for range maxFailed - 1 {
				r.ask(t, letter("bad"))
			}
			if v := r.ask(t, letter("x")); v.Action != rcptgate.Continue {
				t.Fatalf("it rests: %+v", v)
			}
		}
		for range maxFailed {
			r.ask(t, letter("bad"))
		}
		if v := r.ask(t, letter("x")); v.Action != rcptgate.Tempfail {
			t.Errorf("it does not rest: %+v", v)
		}
	})
}

// TestWhoHasLittleTime holds that a server is not to blame for a message whose own time was
// short, and that the second of two servers has time left when the first hangs.
func TestWhoHasLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		within := func(r *rig, d time.Duration) rcptgate.Verdict {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			v, _ := r.Check.Check(ctx, letter("x"))
			return v
		}
		slow := &fakeScanner{}
		r := newRig(t, func(c *Config) { c.Selftest = false }, slow)
		within(r, time.Minute)
		slow.set(func(ctx context.Context, text []byte) (clamd.Finding, error) {
			select {
			case <-ctx.Done():
				return clamd.Finding{}, &clamd.Error{Kind: clamd.TimeOut, Err: ctx.Err()}
			case <-time.After(2 * time.Second):
				return honest(text)
			}
		})
		for range maxFailed + 1 {
			if v := within(r, time.Second); v.Action != rcptgate.Tempfail {
				t.Errorf("scanned in less time than that takes: %+v", v)
			}
		}
		if v := within(r, time.Minute); v.Action != rcptgate.Continue {
			t.Errorf("the next message: %+v", v)
		}
		hung := &fakeScanner{}
		two := newRig(t, func(c *Config) { c.Selftest = false }, hung, &fakeScanner{})
		within(two, time.Minute)
		synctest.Wait() // both are known
		hung.set(never)
		before, _ := hung.count()
		for range 4 {
			if v := within(two, 20*time.Second); v.Action != rcptgate.Continue {
				t.Errorf("with one server that hangs: %+v", v)
			}
		}
		if after, _ := hung.count(); after == before {
			t.Error("the server that hangs was not asked")
		}
	})
}

// TestTheLargestMessage holds that max_size is of the message as it is scanned, to the octet.
func TestTheLargestMessage(t *testing.T) {
	r := newRig(t, func(c *Config) { c.TooLarge = tempfail }, &fakeScanner{})
	head := letter("")
	_, size := raw(head.Message)
	for more, want := range map[int64]rcptgate.Action{0: rcptgate.Continue, 1: rcptgate.Tempfail} {
		q := letter(strings.Repeat("x", int(int64(r.cfg.MaxSize)-size+more)))
		if v := r.ask(t, q); v.Action != want {
			t.Errorf("%d octets above max_size: %+v, %s", more, v, q.Message.Unscanned)
		}
	}
}

// TestMarksAreBounded holds what the header field says of long errors, and that a mark that cannot
// be removed is an error.
func TestMarksAreBounded(t *testing.T) {
	long := &clamd.Error{Kind: clamd.Failed, Err: errors.New(strings.Repeat("x", 1000))}
	r := newRig(t, func(c *Config) { c.Header, c.Unscanned, c.Infected = "X-AV", proceed, mark }, says("", long))
	q := letter("body")
	r.ask(t, q)
	if e := q.Message.Proposed(); len(e) != 1 || e[0].Name != "X-AV" || strings.Count(e[0].Value, "x") != 400-len("uni:/a: ") {
		t.Errorf("%+v", e)
	}
	m := rcptgate.NewMessage(bodyWants &^ rcptgate.EditHeader)
	m.Fields, m.Body, m.Scanned = []rcptgate.Field{{Name: "X-AV", Value: " clean"}}, strings.NewReader(""), true
	if _, err := r.Check.Check(t.Context(), &rcptgate.Query{Message: m}); err == nil {
		t.Error("a forged mark stays")
	}
	ignoring := newRig(t, func(c *Config) { c.Ignore = globs("Win.*") }, says("Win.X", nil))
	q = letter("body")
	ignoring.ask(t, q)
	if !q.Message.Scanned || q.Message.Virus != "" {
		t.Errorf("an ignored signature: %+v", q.Message)
	}
}

// TestSettingsAtTheirBounds holds defaults and how servers, globs and the header's name are read.
func TestSettingsAtTheirBounds(t *testing.T) {
	c := DefaultConfig()
	if c.MaxSize != 25<<20 || c.Connections != 10 || c.Timeout.Std() != 30*time.Second || c.Validate() != nil {
		t.Errorf("%+v", c)
	}
	for name, good := range map[string]bool{strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "X-AV~": true, "X-AV\x7f": false, "X-\xe9": false} {
		if c.Header = name; (c.Validate() == nil) != good {
			t.Errorf("header = %q: %v", name, c.Validate())
		}
	}
	if c.Infected, c.Header = mark, "X-AV"; c.header() != "X-AV" {
		t.Errorf("the field is %q", c.header())
	}
	for length, good := range map[int]bool{0: false, 1: true, 256: true, 257: false} {
		var g Glob
		if err := g.UnmarshalText([]byte(strings.Repeat("*", length))); (err == nil) != good {
			t.Errorf("a pattern of %d octets: %v", length, err)
		}
	}
	for text, want := range map[string]string{"tcp:127.0.0.1:3310": "tcp:127.0.0.1:3310", "unix:/run/c": "unix:/run/c", "inet:3310@127.0.0.1": "tcp:127.0.0.1:3310", "tcp:x": "", "": ""} {
		var s Server
		if err := s.UnmarshalText([]byte(text)); (err == nil) != (want != "") || want != "" && s.String() != want {
			t.Errorf("%q: %q, %v", text, s, err)
		}
	}
}

// TestWhoIsAsked holds that a message which cannot be read is no server's fault, that one whose time
// is over is not taken to another server, and what is counted.
func TestWhoIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &fakeScanner{}, &fakeScanner{}
		r := newRig(t, func(c *Config) { c.Selftest = false }, one, two)
		r.ask(t, letter("x"))
		synctest.Wait()
		scans := func() int {
			a, _ := one.count()
			b, _ := two.count()
			return a + b
		}
		before := scans()
		q := letter("x")
		q.Message.Size++ // more than can be read
		if r.ask(t, q); scans() != before+1 {
			t.Errorf("a message that cannot be read: %d scans", scans()-before)
		}
		one.set(never)
		two.set(never)
		before = scans()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := r.pool.Scan(ctx, func() io.Reader { return strings.NewReader("x") }, 1)
		if clamd.KindOf(err) != clamd.TimeOut || time.Since(began) != time.Second || scans() != before+2 { // half of the time each
			t.Errorf("%v after %v, %d scans", err, time.Since(began), scans()-before)
		}
		ended, cancel := context.WithCancel(t.Context())
		one.set(func(context.Context, []byte) (clamd.Finding, error) {
			cancel()
			return clamd.Finding{}, refused
		})
		two.set(one.scan)
		before = scans()
		if _, err := r.pool.Scan(ended, func() io.Reader { return strings.NewReader("x") }, 1); err == nil || scans() != before+1 {
			t.Errorf("after the client has gone: %v, %d scans", err, scans()-before)
		}
		var asked, found uint64
		for _, s := range r.pool.status() {
			asked, found = asked+s.scans, found+s.found
		}
		if int(asked) != scans() || found != 0 {
			t.Errorf("%d scans and %d findings are counted, want %d", asked, found, scans())
		}
		one.set(nil)
		two.set(nil)
		if v := r.ask(t, letter(string(eicar()))); v.Action != rcptgate.Reject {
			t.Fatalf("%+v", v)
		}
		for _, s := range r.pool.status() {
			found += s.found
		}
		if found != 1 {
			t.Errorf("%d findings are counted", found)
		}
	})
}

// TestNoticesOfServersThatAreGone are taken off the board when no configuration names the server.
func TestNoticesOfServersThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{}
		f.fail(refused)
		r := newRig(t, nil, f)
		r.ask(t, letter("x"))
		if !strings.Contains(r.notices(), "does not answer") {
			t.Fatalf("notices: %s", r.notices())
		}
		r.close()
		if r.notices() != "" {
			t.Errorf("notices: %s", r.notices())
		}
	})
}

// TestASlotIsGivenBack has messages leave at the moment when a server is free for them.
func TestASlotIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Selftest = false }, &fakeScanner{})
		r.ask(t, letter("x"))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		late := 0
		for range 200 {
			s, err := r.pool.acquire(ended, 1, nil)
			if err != nil {
				late++
				continue
			}
			r.pool.mu.Lock()
			s.busy--
			r.pool.mu.Unlock()
		}
		if busy := r.pool.servers[0].busy; busy != 0 || late == 0 {
			t.Errorf("%d slots are not given back by %d messages", busy, late)
		}
	})
}

// TestWhoseTurn holds which server takes a message.
func TestWhoseTurn(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Connections = 3 }, &fakeScanner{}, &fakeScanner{}, &fakeScanner{})
	p := r.pool
	type state struct {
		busy   int
		proven int64
		rests  bool
	}
	for _, tt := range []struct {
		name   string
		states [3]state
		next   int
		not    int // 1 and up: that server has failed already
		want   string
	}{
		{"in turn", [3]state{{0, 100, false}, {0, 100, false}, {0, 100, false}}, 1, 0, "b false"},
		{"the first again", [3]state{{0, 100, false}, {0, 100, false}, {0, 100, false}}, 3, 0, "a false"},
		{"the fewest scans", [3]state{{2, 100, false}, {1, 100, false}, {2, 100, false}}, 2, 0, "b false"},
		{"as few, in turn", [3]state{{1, 100, false}, {2, 100, false}, {1, 100, false}}, 1, 0, "c false"},
		{"who looks at such a size", [3]state{{0, 99, false}, {2, 100, false}, {0, 0, false}}, 0, 0, "b false"},
		{"who looks at such a size, last", [3]state{{0, 99, false}, {0, 99, false}, {2, 500, false}}, 0, 0, "c false"},
		{"nobody looks at such a size", [3]state{{2, 99, false}, {1, 0, false}, {2, 50, false}}, 0, 0, "b false"},
		{"some are full", [3]state{{3, 100, false}, {2, 100, false}, {3, 100, false}}, 0, 0, "b true"},
		{"all are full", [3]state{{3, 100, false}, {3, 100, false}, {4, 100, false}}, 0, 0, " true"},
		{"one rests", [3]state{{0, 100, true}, {2, 100, false}, {1, 100, true}}, 0, 0, "b false"},
		{"all rest", [3]state{{0, 100, true}, {0, 100, true}, {0, 100, true}}, 0, 0, " false"},
		{"not the one that failed", [3]state{{0, 100, false}, {2, 100, false}, {2, 100, true}}, 0, 1, "b false"},
		{"no other than the one that failed", [3]state{{0, 100, false}, {0, 100, true}, {0, 100, true}}, 0, 1, " false"},
	} {
		for i, s := range p.servers {
			s.known, s.busy, s.proven, s.until = true, tt.states[i].busy, tt.states[i].proven, time.Time{}
			if tt.states[i].rests {
				s.until = time.Now().Add(time.Hour)
			}
		}
		w := &waiter{size: 100}
		if tt.not > 0 {
			w.not = p.servers[tt.not-1]
		}
		p.next = tt.next
		p.mu.Lock()
		s, wait := p.pick(w)
		p.mu.Unlock()
		got := fmt.Sprint(" ", wait)
		if s != nil {
			got = strings.TrimPrefix(s.name, "unix:/") + got
		}
		if got != tt.want || (s != nil) != (p.next != tt.next) {
			t.Errorf("%s: %q, want %q; the next is %d", tt.name, got, tt.want, p.next)
		}
	}
}
