// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/backend/sim"
)

// A Scripted is a server behind the gate that misbehaves in the words of a case file: backend/sim with a Tap before it.
// Each stage ("banner", "ehlo", "helo", "mail", "rcpt", "rset") has a reply, and a single address may have its own, as a
// recipient or as the reverse-path ("<>" is the null one). In a reply "|" separates lines; special replies are
//
//	drop         close the connection without a word (stages only)
//	silent       never answer (stages only)
//	garbage      octets that are not a reply (stages only)
//	slow D TEXT  wait for the duration, then the reply TEXT
//
// Changes take effect with the next command, on open connections too. It is safe for concurrent use.
type Scripted struct {
	*Tap
	server *sim.Server

	mu      sync.Mutex
	replies map[string]string
}

// StartScripted starts a server that takes everything except unguessable names: recipients named "nobody..." and those
// with more than 12 letters in the local part are refused, so that it is not taken for one that accepts all.
func StartScripted(t testing.TB) *Scripted {
	t.Helper()
	s := &Scripted{server: sim.New(sim.Config{Name: "mail.behind.test"})}
	s.Reset()
	if err := s.server.Start(); err != nil {
		t.Fatalf("starting a scripted server: %v", err)
	}
	t.Cleanup(s.server.Stop)
	s.Tap = NewTap(t, "tcp", s.server.Addr())
	return s
}

// Reset makes the server an ordinary one again.
func (s *Scripted) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = map[string]string{}
	s.server.SetBehaviour(behaviour(s.replies))
}

// Set gives a stage, or an address, its reply.
func (s *Scripted) Set(stage, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = maps.Clone(s.replies) // the behaviour in use has the old one
	s.replies[strings.ToLower(stage)] = reply
	s.server.SetBehaviour(behaviour(s.replies))
}

// behaviour is what the simulated server does for a script, which must not change any more.
func behaviour(replies map[string]string) sim.Behaviour {
	b := sim.Behaviour{Senders: map[string]string{}, Faults: map[sim.Stage]sim.Fault{}, Delays: map[sim.Stage]time.Duration{}}
	for key, reply := range replies {
		d, reply := slow(reply)
		switch {
		case strings.Contains(key, "@") || key == "<>":
			b.Senders[strings.Trim(key, "<>")] = text(reply)
		case fault(reply) != sim.Say:
			b.Faults[sim.Stage(key)] = sim.Fault{Kind: fault(reply)}
		case key != "rcpt": // an address may have its own reply to RCPT
			b.Delays[sim.Stage(key)] = d
			b.Faults[sim.Stage(key)] = sim.Fault{Kind: sim.Say, Reply: text(reply)}
		}
	}
	b.Decide = func(recipient string) string {
		reply, ok := replies[strings.ToLower(recipient)]
		if !ok {
			reply, ok = replies["rcpt"]
		}
		local, _, _ := strings.Cut(recipient, "@")
		switch d, reply := slow(reply); {
		case ok && fault(reply) == sim.Say:
			time.Sleep(d)
			return text(reply)
		case strings.HasPrefix(strings.ToLower(local), "nobody") || len(local) > 12:
			return "550 5.1.1 no mailbox of that name"
		}
		return "250 2.1.5 Ok"
	}
	return b
}

// fault is the kind of a special reply, and Say for all others.
func fault(reply string) sim.FaultKind {
	if kind, ok := map[string]sim.FaultKind{"drop": sim.Drop, "silent": sim.Hang, "garbage": sim.Garbage}[reply]; ok {
		return kind
	}
	return sim.Say
}

// slow separates "slow D TEXT".
func slow(reply string) (time.Duration, string) {
	if rest, ok := strings.CutPrefix(reply, "slow "); ok {
		length, text, _ := strings.Cut(rest, " ")
		if d, err := time.ParseDuration(length); err == nil {
			return d, text
		}
	}
	return 0, reply
}

// text writes "550-a|550 b" as the simulated server wants it: "550 a\nb".
func text(reply string) string {
	lines := strings.Split(reply, "|")
	for i, line := range lines[1:] {
		lines[i+1] = line[min(4, len(line)):]
	}
	first := lines[0]
	if len(lines) > 1 && len(first) > 3 {
		lines[0] = first[:3] + " " + first[4:]
	}
	return strings.Join(lines, "\n")
}
