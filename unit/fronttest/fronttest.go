// SPDX-License-Identifier: BSD-2-Clause

// Package fronttest is the suite that every front passes: what an MTA, or a person, hears
// of a verdict, and that nothing that comes in over the socket ends the process.
package fronttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// Heard is what a client of a front hears of one recipient.
type Heard struct {
	Code           int // 250 when the recipient is taken
	Enhanced, Text string
}

// Client asks a front, on one connection.
type Client interface {
	Ask(recipient string) (Heard, error)
	Close() error
}

// Suite is a front and how to reach it.
type Suite struct {
	Unit unit.Unit
	// Config makes the front listen on a unix socket at the path given.
	Config func(path string) string
	Dial   func(ctx context.Context, path string) (Client, error)
}

// verdicts are what the scripted check says, by the recipient's local part.
var verdicts = map[string]struct {
	say  rcptgate.Verdict
	err  error
	want Heard
}{
	"good":      {say: rcptgate.Verdict{}, want: Heard{Code: 250}},
	"taken":     {say: rcptgate.Verdict{Action: rcptgate.Accept, Reason: "taken"}, want: Heard{Code: 250}},
	"unknown":   {say: rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "No such user", Reason: rcptgate.ReasonUnknownUser}, want: Heard{550, "5.1.1", "No such user"}},
	"full":      {say: rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 452, Enhanced: "4.2.2", Text: "Full", Reason: rcptgate.ReasonMailboxFull}, want: Heard{452, "4.2.2", "Full"}},
	"percent":   {say: rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.7.1", Text: "100% no", Reason: "x"}, want: Heard{550, "5.7.1", "100% no"}},
	"broken":    {err: errors.New("directory is down"), want: Heard{451, "4.3.0", rcptgate.TextUnverified}},
	"panic":     {want: Heard{451, "4.3.0", rcptgate.TextUnverified}},
	"rehearsed": {say: rcptgate.Verdict{Would: rcptgate.Reject, Code: 550, Text: "no"}, want: Heard{Code: 250}},
}

// pending is a question that is answered when the test says so.
type pending struct{ asked, answer chan struct{} }

// scripted is a unit whose check says what verdicts has.
func scripted(slow pending) unit.Unit {
	return unit.Unit{Name: "scripted", Open: unit.Steps(func(s *unit.Setup) error {
		s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "scripted", Check: rcptgate.CheckFunc(func(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
			switch q.Recipient.Local {
			case "panic":
				panic("hostile input")
			case "slow":
				close(slow.asked)
				select {
				case <-slow.answer:
				case <-ctx.Done():
				}
			}
			v := verdicts[q.Recipient.Local]
			return v.say, v.err
		})})
		return nil
	})}
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	slow := pending{make(chan struct{}), make(chan struct{})}
	h, path := s.start(t, slow)
	t.Run("verdicts", func(t *testing.T) { s.verdicts(t, path) })
	t.Run("garbage", func(t *testing.T) { s.garbage(t, path) })
	t.Run("many at once", func(t *testing.T) { s.many(t, path) })
	t.Run("drain", func(t *testing.T) { s.drain(t, h, path, slow) })
}

func (s *Suite) start(t *testing.T, slow pending) (*unit.Host, string) {
	t.Helper()
	dir := testkit.Dir(t)
	path := dir + "/front.sock"
	h, _ := start(t, dir, "enforce = true\n"+s.Config(path), scripted(slow), s.Unit)
	return h, path
}

func start(t testing.TB, dir, text string, units ...unit.Unit) (*unit.Host, string) {
	t.Helper()
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\n", dir+"/state")+strings.ReplaceAll(text, "DIR", dir))
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h, dir
}

func (s *Suite) dial(t *testing.T, path string) Client {
	t.Helper()
	c, err := s.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *Suite) verdicts(t *testing.T, path string) {
	c := s.dial(t, path)
	for local, v := range verdicts {
		got, err := c.Ask(local + "@b.example")
		if err != nil || got != v.want {
			t.Errorf("%s: heard %+v, %v; want %+v", local, got, err, v.want)
		}
	}
	for _, odd := range []string{`"quo ted"@b.example`, "u@[192.0.2.1]", "ü@bücher.example", strings.Repeat("a", 300) + "@b.example", "<>@b.example"} {
		if got, err := c.Ask(odd); err != nil || got.Code != 250 {
			t.Errorf("%q: heard %+v, %v", odd, got, err)
		}
	}
}

// garbage sends what is not this protocol; whoever speaks it is still served.
func (s *Suite) garbage(t *testing.T, path string) {
	for _, text := range []string{"", "\x00", "GET / HTTP/1.1\r\n\r\n", "EHLO x\r\n", strings.Repeat("A", 1<<20), "\xff\xff\xff\xff\xff", "\x00\x00\x00\x00", "\x00\x00\x00\x01R", "{}\n", "request=smtpd_access_policy\n\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, text) // the front may hang up meanwhile
		_ = conn.Close()
	}
	if got, err := s.dial(t, path).Ask("unknown@b.example"); err != nil || got.Code != 550 {
		t.Errorf("after garbage: %+v, %v", got, err)
	}
}

func (s *Suite) many(t *testing.T, path string) {
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			c, err := s.Dial(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			for n := range 20 {
				local, want := "good", 250
				if (i+n)%2 == 1 {
					local, want = "unknown", 550
				}
				if got, err := c.Ask(local + "@b.example"); err != nil || got.Code != want {
					t.Errorf("%s: heard %+v, %v", local, got, err)
				}
			}
		})
	}
	all.Wait()
}

// drain ends the host while a question is being answered: its asker hears the answer.
func (s *Suite) drain(t *testing.T, h *unit.Host, path string, slow pending) {
	c := s.dial(t, path)
	heard := make(chan Heard, 1)
	go func() {
		got, err := c.Ask("slow@b.example")
		if err != nil {
			got.Text = err.Error()
		}
		heard <- got
	}()
	select {
	case <-slow.asked:
	case got := <-heard:
		t.Fatalf("the check is not asked: %+v", got)
	}
	stopped := make(chan struct{})
	go func() { h.Stop(); close(stopped) }()
	testkit.Eventually(t, "the socket to close", func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(slow.answer)
	if got := <-heard; got.Code != 250 {
		t.Errorf("heard %+v during the drain", got)
	}
	_ = c.Close()
	<-stopped
}
