// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"fmt"
	"net"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Sink is a mail server that takes every message and keeps it, octet by octet. It listens where a Tap would.
type Sink struct {
	Host string
	Port int

	mu       sync.Mutex
	messages []Message
}

// A Message is one that was delivered to a Sink.
type Message struct {
	Sender     string
	Recipients []string
	Data       string // with CRLF, without the dots that SMTP adds and the final one
}

// StartSink starts a sink that ends with the test.
func StartSink(t testing.TB) *Sink {
	t.Helper()
	s := &Sink{}
	s.Host, s.Port = freeHost(t)
	l, err := net.Listen("tcp", s.Addr())
	if err != nil {
		t.Fatalf("starting a sink: %v", err)
	}
	var wait sync.WaitGroup
	var conns sync.Map
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, true)
			wait.Go(func() { defer c.Close(); s.serve(c) }) //nolint:errcheck // a test's
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wait.Wait()
	})
	return s
}

// Addr returns host:port.
func (s *Sink) Addr() string { return fmt.Sprintf("%s:%d", s.Host, s.Port) }

// Hop returns the next hop as transport tables write it.
func (s *Sink) Hop() string { return fmt.Sprintf("[%s]:%d", s.Host, s.Port) }

func (s *Sink) serve(c net.Conn) {
	in := bufio.NewReader(c)
	say := func(line string) { _, _ = fmt.Fprintf(c, "%s\r\n", line) }
	say("220 sink.behind.test ESMTP")
	var m Message
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			say("250-sink.behind.test\r\n250-8BITMIME\r\n250 SIZE 104857600")
		case "MAIL":
			m = Message{Sender: path(line)}
			say("250 2.1.0 Ok")
		case "RCPT":
			m.Recipients = append(m.Recipients, path(line))
			say("250 2.1.5 Ok")
		case "DATA":
			say("354 go on")
			if m.Data, err = readData(in); err != nil {
				return
			}
			s.mu.Lock()
			s.messages = append(s.messages, m)
			s.mu.Unlock()
			say("250 2.0.0 Ok")
		case "QUIT":
			say("221 2.0.0 Bye")
			return
		default:
			say("250 2.0.0 Ok")
		}
	}
}

func path(line string) string {
	_, rest, _ := strings.Cut(line, "<")
	p, _, _ := strings.Cut(rest, ">")
	return p
}

func readData(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			return b.String(), nil
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

// Messages returns what was delivered so far.
func (s *Sink) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Find waits until the messages with a text in them have been delivered to n recipients together, and gives those
// recipients, sorted, and the messages.
func (s *Sink) Find(t testing.TB, text string, n int) (recipients []string, found []Message) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		recipients, found = nil, nil
		for _, m := range s.Messages() {
			if strings.Contains(m.Data, text) {
				recipients, found = append(recipients, m.Recipients...), append(found, m)
			}
		}
		if len(recipients) >= n || time.Now().After(end) {
			sort.Strings(recipients)
			return recipients, found
		}
	}
}
