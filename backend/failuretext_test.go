// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rcptgate/backend/sim"
)

// once fails the test if text names the address more than once, or not at all.
func once(t *testing.T, what, text, address string) {
	t.Helper()
	if n := strings.Count(text, address); n != 1 {
		t.Errorf("%s names %s %d times: %q", what, address, n, text)
	}
}

// closedPort is a port of 127.0.0.1 at which nothing listens.
func closedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// TestAFailureNamesTheServerOnce in errors, in log lines and in what status shows, also while
// the breaker is open.
func TestAFailureNamesTheServerOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := NewSet(Config{}, "gate.example.org", slog.New(slog.NewTextHandler(&log, nil)), WithTrials(time.Hour, time.Hour))
	defer s.Close()
	b := s.Get(Address{Host: "127.0.0.1", Port: closedPort(t)})
	for i := range tripAfter + 1 {
		_, err := ask(b, "user@example.com")
		once(t, fmt.Sprint("failure ", i+1), err.Error(), "127.0.0.1")
		if !strings.HasPrefix(err.Error(), b.Name()+": ") || !strings.HasSuffix(err.Error(), ": connection refused") {
			t.Errorf("%v", err)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
		once(t, "the log", line, "127.0.0.1")
	}
	table := s.Show()[0]
	once(t, "status", table.Rows[0].Attention, "127.0.0.1")
	if last := s.Health()[0].LastError; last == "" || strings.Contains(last, "127.0.0.1") {
		t.Errorf("the last error, next to the server, is %q", last)
	}
}

// TestAFailureOfANameNamesItsAddresses, each once, and a name that DNS does not have once.
func TestAFailureOfANameNamesItsAddresses(t *testing.T) {
	t.Parallel()
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "mail.example" {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, Server: "192.0.2.53:53"}
	}
	s := newTestSet(t, Config{}, WithLookup(lookup))
	_, err := ask(s.Get(Address{Host: "mail.example", Port: closedPort(t)}), "user@example.com")
	for _, part := range []string{"mail.example", "127.0.0.1: connection refused", "127.0.0.2: connection refused"} {
		once(t, "the failure", err.Error(), part)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("an error of several lines: %q", err)
	}
	_, err = ask(s.Get(Address{Host: "gone.example", Port: 25}), "user@example.com")
	once(t, "the failure", err.Error(), "gone.example")
}

// TestALostConnectionNamesTheServerOnce, whose errors name both ends.
func TestALostConnectionNamesTheServerOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []sim.FaultKind{sim.Hang, sim.Drop, sim.Garbage} {
		for _, stage := range []sim.Stage{sim.Banner, sim.Mail, sim.Rcpt} {
			t.Run(fmt.Sprint(kind, " at ", stage), func(t *testing.T) {
				t.Parallel()
				server := startSim(t, func(c *sim.Config) { c.Behaviour.Faults = map[sim.Stage]sim.Fault{stage: {Kind: kind}} })
				b := newTestBackend(t, server, Config{}, WithTrials(time.Hour, time.Hour), hurried)
				_, err := askFor(b, "user@example.com", time.Second, 0)
				var f *Failure
				if !errors.As(err, &f) {
					t.Fatal(err)
				}
				once(t, t.Name(), err.Error(), "127.0.0.1")
			})
		}
	}
}

// TestStatusSaysWhatIsKnown of a server: "up" only if the last contact succeeded, also while the
// breaker has not opened. The keys that programs read stay.
func TestStatusSaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	server := startSim(t, nil)
	s := newTestSet(t, Config{}, WithTrials(time.Hour, time.Hour))
	b := backendFor(t, s, server)
	check := func(when, state string, up bool) {
		t.Helper()
		text, err := json.Marshal(s.Show()[0])
		var got struct {
			Rows []struct {
				State     string     `json:"state"`
				Up        bool       `json:"up"`
				Since     time.Time  `json:"since"`
				LastError string     `json:"last_error"`
				Failed    *time.Time `json:"last_failure"`
			} `json:"rows"`
		}
		if err := errors.Join(err, json.Unmarshal(text, &got)); err != nil || len(got.Rows) != 1 {
			t.Fatalf("%s: %v: %s", when, err, text)
		}
		row := got.Rows[0]
		if row.State != state || row.Up != up || row.Since.IsZero() {
			t.Errorf("%s: %s", when, text)
		}
		if failed := row.LastError != ""; failed != (row.Failed != nil) {
			t.Errorf("%s: the last error has no time: %s", when, text)
		}
	}
	check("at first", "not asked yet", true)
	server.Stop()
	if _, err := ask(b, "user@example.com"); err == nil {
		t.Fatal("answered")
	}
	check("after one refused connection", "failed", true)
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	mustSay(t, b, "user@example.com", 250)
	check("after an answer", "up", true)
	server.Stop()
	for range tripAfter {
		_, _ = ask(b, "user@example.com")
	}
	check("after several failures", "down", false)
}
