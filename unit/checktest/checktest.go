// SPDX-License-Identifier: BSD-2-Clause

// Package checktest is the suite that every check passes: what a chain, and whoever reads
// its trace, relies on. A check that needs more than one configuration runs it for each.
package checktest

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/unit"
)

// Suite is a check and the configuration that makes it work.
type Suite struct {
	Unit unit.Unit
	// Config is the text of a configuration under which the unit has steps. State is set.
	Config string
	// Always: the unit has its steps without being configured.
	Always bool
	// Recipients are asked about, besides odd ones of the suite's own.
	Recipients []string
}

// odd are recipients that no check may stumble over.
var odd = []string{
	"", "@", "@@", "a@", "@b.example", "someone", `"quo ted"@b.example`, `"@"@b.example`, "u@[192.0.2.1]", "u@[IPv6:2001:db8::1]", "ü@bücher.example",
	"a\x00b@c.example", "a\r\nb@c.example", "\xff\xfe@c.example", strings.Repeat("a", 300) + "@b.example", "a@" + strings.Repeat("b.", 200) + "example", "user+detail@b.example",
	"user%other@b.example", "other!user@b.example", "postmaster", "POSTMASTER@B.Example.", "a@b.example..",
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Run("costs nothing when not configured", func(t *testing.T) {
		if set := open(t, s.Unit, ""); !s.Always && count(set) > 0 {
			t.Errorf("%d steps without a configuration", count(set))
		}
	})
	set := open(t, s.Unit, s.Config)
	if count(set) == 0 {
		t.Fatal("the configuration gives the unit no step")
	}
	for stage := rcptgate.Stage(0); int(stage) < rcptgate.StageCount; stage++ {
		for _, step := range set.Steps(stage) {
			t.Run(stage.String()+"/"+step.Name, func(t *testing.T) { s.run(t, stage, step.Check) })
		}
	}
}

func count(s *unit.Setup) (n int) {
	for stage := rcptgate.Stage(0); int(stage) < rcptgate.StageCount; stage++ {
		n += len(s.Steps(stage))
	}
	return n
}

// open builds the unit alone.
func open(t *testing.T, u unit.Unit, text string) (set *unit.Setup) {
	t.Helper()
	units := []unit.Unit{u}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", "state = \""+t.TempDir()+"\"\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Offline: true, Hook: func(s *unit.Setup) { set = s }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	return set
}

func (s *Suite) run(t *testing.T, stage rcptgate.Stage, c rcptgate.Check) {
	recipients := append(append([]string{}, odd...), s.Recipients...)
	t.Run("says nothing that does not fit together", func(t *testing.T) {
		for _, r := range recipients {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			v, err := c.Check(ctx, fill(new(rcptgate.Query), stage, r))
			cancel()
			judge(t, r, v, err)
		}
	})
	t.Run("is not later than the context", func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, r := range recipients {
			done := make(chan struct{})
			go func() {
				defer close(done)
				v, err := c.Check(ended, fill(new(rcptgate.Query), stage, r))
				judge(t, r, v, err)
			}()
			select {
			case <-done:
			case <-time.After(30 * time.Second): // generous: machines are busy
				t.Fatalf("%q: not back after the context had ended", r)
			}
		}
	})
	// The race detector sees who reads a query that is no longer his.
	t.Run("keeps no query", func(t *testing.T) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				q := new(rcptgate.Query)
				for range 20 {
					for _, r := range recipients {
						ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
						_, _ = c.Check(ctx, fill(q, stage, r))
						cancel()
					}
				}
			})
		}
		all.Wait()
	})
}

// fill makes q the question about a recipient, as a front does.
func fill(q *rcptgate.Query, stage rcptgate.Stage, recipient string) *rcptgate.Query {
	q.Reset()
	q.Stage = stage
	q.Recipient = address.Parse(recipient)
	q.Target = q.Recipient
	q.Sender, q.Helo, q.Client = "s@sender.example", "mx.sender.example", netip.AddrFrom4([4]byte{192, 0, 2, 7})
	q.Trace.Explain = true
	return q
}

func judge(t *testing.T, recipient string, v rcptgate.Verdict, err error) {
	t.Helper()
	if err != nil && v != (rcptgate.Verdict{}) {
		t.Errorf("%q: a verdict, %+v, with an error, %v", recipient, v, err)
	}
	if !v.Action.Refuses() {
		return
	}
	fitted := v
	if fitted.Fit(0, "", ""); fitted != v || v.Text == "" || v.Reason == "" {
		t.Errorf("%q: %+v does not fit together; it should be %+v, with a reason and a text", recipient, v, fitted)
	}
	if v.Follow != nil {
		t.Errorf("%q: refused, with targets", recipient)
	}
}
