// SPDX-License-Identifier: BSD-2-Clause

// Package zonetest serves DNS zones on loopback for tests, with faults to order: names whose
// answers are delayed, lost, cut off or failures.
package zonetest

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// zoneServer answers from zone texts with directives of its own: a line ";name word" has
// the first question for that name delayed by more than a second ("delay"), or every question
// for it refused ("servfail"), never answered ("drop"), cut off in datagrams ("truncate") or
// always ("cut"), or said to be signed ("signed").
type zoneServer struct {
	records map[string][]dns.RR // by lower-case name
	special map[string]string
	delayed sync.Map // names whose first question was delayed
}

// Start serves a zone on loopback and gives its address, and what ends it.
func Start(text string) (address string, stop func(), err error) {
	z, err := parse(text)
	if err != nil {
		return "", nil, err
	}
	pc, l, err := listen()
	if err != nil {
		return "", nil, err
	}
	servers := []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: l, Handler: z}}
	for _, server := range servers {
		go func() { _ = server.ActivateAndServe() }() // ends with Shutdown
	}
	return pc.LocalAddr().String(), func() {
		for _, server := range servers {
			_ = server.Shutdown() // it may not have begun
		}
	}, nil
}

// parse reads a zone and its directives.
func parse(text string) (*zoneServer, error) {
	z := &zoneServer{records: map[string][]dns.RR{}, special: map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, word, ok := strings.Cut(strings.TrimPrefix(line, ";"), " "); ok && strings.HasPrefix(line, ";") {
			z.special[dns.Fqdn(name)] = word
			continue
		}
		if line == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		name := strings.ToLower(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
	}
	return z, nil
}

// listen finds a port that is free for datagrams and connections.
func listen() (pc net.PacketConn, l net.Listener, err error) {
	for range 50 {
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, l, nil
		}
		_ = pc.Close() // nothing was said on it
	}
	return nil, nil, err
}

// ServeDNS answers one question.
func (z *zoneServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	out := new(dns.Msg).SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	special := z.special[name]
	if special == "" {
		special = z.special["*."]
	}
	switch special {
	case "drop":
		return
	case "servfail":
		out.Rcode = dns.RcodeServerFailure
	case "delay":
		if _, again := z.delayed.LoadOrStore(name, true); !again {
			time.Sleep(1100 * time.Millisecond)
		}
	case "cut":
		out.Truncated = true
	case "signed":
		out.AuthenticatedData = q.AuthenticatedData
	case "truncate":
		out.Truncated = w.LocalAddr().Network() == "udp"
	}
	z.answer(out, name, q.Question[0].Qtype, 0)
	if len(z.records[name]) == 0 && out.Rcode == dns.RcodeSuccess {
		out.Rcode = dns.RcodeNameError
	}
	if out.Truncated {
		out.Answer = nil
	}
	_ = w.WriteMsg(out)
}

func (z *zoneServer) answer(out *dns.Msg, name string, qtype uint16, depth int) {
	for _, rr := range z.records[name] {
		if rr.Header().Rrtype == qtype {
			out.Answer = append(out.Answer, rr)
		} else if alias, ok := rr.(*dns.CNAME); ok && depth < 5 {
			out.Answer = append(out.Answer, rr)
			z.answer(out, strings.ToLower(alias.Target), qtype, depth+1)
		}
	}
}
