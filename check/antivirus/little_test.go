// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"bytes"
	"context"
	"errors"
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
		hung.set(never)
		for range 2 {
			if v := within(two, 20*time.Second); v.Action != rcptgate.Continue {
				t.Errorf("with one server that hangs: %+v", v)
			}
		}
	})
}
