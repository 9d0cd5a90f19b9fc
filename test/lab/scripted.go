// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Scripted is a server behind the gate that misbehaves as told, for the faults no real server shows on request. Each
// stage ("banner", "ehlo", "helo", "mail", "rcpt", "rset", "data") has a reply, and a single address may have its own, as a
// recipient or as the reverse-path ("<>" is the null one); special replies are
//
//	drop         close the connection without a word
//	silent       read on and never answer
//	garbage      octets that are no reply
//	slow D TEXT  wait for the duration, then the reply TEXT
//
// Its changes take effect with the next command, on open connections too. It is safe for concurrent use.
type Scripted struct {
	*Tap
	listener net.Listener

	mu      sync.Mutex
	replies map[string]string
	wait    sync.WaitGroup
	conns   map[net.Conn]bool
	closed  bool
}

// usual are the replies of a server that takes everything.
var usual = map[string]string{
	"banner": "220 mail.behind.test ESMTP",
	"ehlo":   "250-mail.behind.test|250-PIPELINING|250-SIZE|250-8BITMIME|250 ENHANCEDSTATUSCODES",
	"helo":   "250 mail.behind.test",
	"lhlo":   "250-mail.behind.test|250-PIPELINING|250 ENHANCEDSTATUSCODES",
	"mail":   "250 2.1.0 Ok",
	"rcpt":   "250 2.1.5 Ok",
	"rset":   "250 2.0.0 Ok",
	"noop":   "250 2.0.0 Ok",
	"quit":   "221 2.0.0 Bye",
}

// StartScripted starts a server that takes everything but unguessable names: its recipients named "nobody..." and those
// with more than 12 letters in the local part are refused, so that it is not taken for one that accepts all.
func StartScripted(t testing.TB) *Scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("starting a scripted server: %v", err)
	}
	s := &Scripted{listener: l, conns: map[net.Conn]bool{}}
	s.Reset()
	s.wait.Add(1)
	go s.accept()
	s.Tap = NewTap(t, "tcp", l.Addr().String())
	t.Cleanup(s.close)
	return s
}

// Reset makes the server an ordinary one again.
func (s *Scripted) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = map[string]string{}
}

// Set gives a stage, or a recipient address, its reply; "|" separates lines.
func (s *Scripted) Set(stage, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[strings.ToLower(stage)] = reply
}

// reply returns the reply to a stage; an address decides first.
func (s *Scripted) reply(stage, address string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.replies[strings.ToLower(address)]; ok && address != "" {
		return r
	}
	if r, ok := s.replies[stage]; ok {
		return r
	}
	local, _, _ := strings.Cut(address, "@")
	if stage == "rcpt" && (strings.HasPrefix(strings.ToLower(local), "nobody") || len(local) > 12) {
		return "550 5.1.1 no mailbox of that name"
	}
	if r, ok := usual[stage]; ok {
		return r
	}
	return "500 5.5.1 what?"
}

func (s *Scripted) close() {
	s.mu.Lock()
	s.closed = true
	_ = s.listener.Close()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

func (s *Scripted) accept() {
	defer s.wait.Done()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			_ = c.Close()
		} else {
			s.conns[c] = true
			s.wait.Add(1)
			go s.serve(c)
		}
		s.mu.Unlock()
	}
}

func (s *Scripted) serve(c net.Conn) {
	defer s.wait.Done()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	if !s.say(c, s.reply("banner", "")) {
		return
	}
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		address := ""
		if _, inner, ok := strings.Cut(rest, "<"); ok {
			address, _, _ = strings.Cut(inner, ">")
		}
		stage := strings.ToLower(verb)
		if stage == "mail" && address == "" {
			address = "<>"
		}
		if !s.say(c, s.reply(stage, address)) || stage == "quit" {
			return
		}
	}
}

// say sends one reply; it reports false when the connection is to be closed.
func (s *Scripted) say(c net.Conn, reply string) bool {
	word, rest, _ := strings.Cut(reply, " ")
	switch word {
	case "drop":
		return false
	case "silent":
		return true
	case "garbage":
		_, err := io.WriteString(c, "\x00\x16\x03\x01 SSH-2.0-nonsense\r\n\xff\xfe\r\n")
		return err == nil
	case "slow":
		length, text, _ := strings.Cut(rest, " ")
		if d, err := time.ParseDuration(length); err == nil {
			time.Sleep(d)
		}
		reply = text
	}
	_, err := io.WriteString(c, strings.ReplaceAll(reply, "|", "\r\n")+"\r\n")
	return err == nil
}
