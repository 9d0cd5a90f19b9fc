// SPDX-License-Identifier: BSD-2-Clause

package sim

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, s *Server) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, nc, bufio.NewReader(nc)}
}

// expect reads one reply and checks how it begins; "" expects the end.
func (c *client) expect(prefix string) {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if prefix == "" {
			if err == nil {
				c.t.Fatalf("got %q, want the end", line)
			}
			return
		}
		if err != nil || !strings.HasPrefix(line, prefix[:3]) {
			c.t.Fatalf("got %q, %v; want %q", line, err, prefix)
		}
		if line[3] == ' ' {
			if !strings.HasPrefix(line, prefix) {
				c.t.Fatalf("got %q, want %q", line, prefix)
			}
			return
		}
	}
}

func (c *client) say(line, prefix string) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
		c.t.Fatal(err)
	}
	c.expect(prefix)
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s := New(cfg)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func TestADialogue(t *testing.T) {
	s := start(t, Config{Behaviour: Behaviour{Users: []string{"User@example.com"}, Full: []string{"full@example.com"}}})
	c := dial(t, s)
	c.expect("220 sim.example")
	c.say("LHLO me", "502")
	c.say("EHLO me", "250 8BITMIME")
	c.say("RCPT TO:<user@example.com>", "503")
	c.say("MAIL FROM:<>", "250 2.1.0")
	c.say("MAIL FROM:<>", "503")
	c.say("RCPT TO:<user@Example.com>", "250 2.1.5")
	c.say("RCPT TO:<full@example.com>", "452 4.2.2")
	c.say("RCPT TO:<nobody@example.com>", "550 5.1.1 <nobody@example.com>")
	c.say("RSET", "250")
	c.say("DATA", "502")
	c.say("QUIT", "221")
	c.expect("")
	st := s.Stats()
	if st.Probes != 3 || st.Refusals != 2 || st.Mails != 2 || st.Resets != 1 || st.Quits != 1 || st.Connections != 1 || st.MaxProbes != 3 {
		t.Errorf("%+v", st)
	}
	if s.Asked("USER@example.com") != 1 {
		t.Errorf("%v", st.PerRecipient)
	}
}

func TestPostfixLosesPatience(t *testing.T) {
	s := start(t, Config{Behaviour: Behaviour{Postfix: Postfix{SoftLimit: 3, HardLimit: 6, JunkLimit: 4, Sleep: 30 * time.Millisecond}}})
	c := dial(t, s)
	c.expect("220")
	c.say("EHLO me", "250")
	c.say("MAIL FROM:<>", "250")
	for range 3 {
		c.say("RCPT TO:<a@b>", "550")
	}
	if n := s.Stats().Delayed; n != 0 {
		t.Errorf("%d replies delayed", n)
	}
	began := time.Now()
	c.say("RCPT TO:<a@b>", "550")
	if took := time.Since(began); took < 30*time.Millisecond || s.Stats().Delayed != 1 {
		t.Errorf("not delayed: %v", took)
	}
	for range 4 {
		c.say("RSET", "250")
	}
	c.say("RSET", "250")
	c.say("RSET", "421")
	c.expect("")
	if n := s.Stats().Cut; n != 1 {
		t.Errorf("%d sessions cut", n)
	}
}

func TestStopAndRestart(t *testing.T) {
	s := start(t, Config{})
	addr := s.Addr()
	c := dial(t, s)
	c.expect("220")
	s.Stop()
	c.expect("")
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("a stopped server takes connections")
	}
	if err := s.Restart(); err != nil || s.Addr() != addr {
		t.Fatalf("restarted at %s: %v", s.Addr(), err)
	}
	dial(t, s).expect("220")
	s.SetBehaviour(Behaviour{Faults: map[Stage]Fault{Banner: {Kind: Say, Reply: "554 no"}}})
	dial(t, s).expect("554 no")
}
