// SPDX-License-Identifier: BSD-2-Clause

package sim

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// Stats is what a server has counted since it was made.
type Stats struct {
	Connections    int // accepted
	MaxConnections int // at the same time
	TLS            int // handshakes that succeeded
	Mails          int // MAIL commands
	Probes         int // RCPT commands
	Refusals       int // 4xx and 5xx to RCPT
	Resets         int // RSET commands
	Quits          int
	Delayed        int // replies delayed by Behaviour.Postfix
	Cut            int // sessions ended by the server against the client's will
	MaxProbes      int // on one connection
	Strays         int // replies sent late and unasked
	PerRecipient   map[string]int
}

const perRecipientMax = 100_000

type counters struct {
	connections, maxOpen, tls, mails, probes, refusals, resets, quits, delayed, cut, maxProbes, strays atomic.Int64

	mu           sync.Mutex
	perRecipient map[string]int
}

func (n *counters) opened(open int) (number int) {
	raise(&n.maxOpen, open)
	return int(n.connections.Add(1))
}

func raise(v *atomic.Int64, to int) {
	for old := v.Load(); old < int64(to); old = v.Load() {
		if v.CompareAndSwap(old, int64(to)) {
			return
		}
	}
}

func (n *counters) probe(recipient string, onThisConnection int) {
	n.probes.Add(1)
	raise(&n.maxProbes, onThisConnection)
	recipient = strings.ToLower(recipient)
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.perRecipient[recipient]; ok || len(n.perRecipient) < perRecipientMax {
		n.perRecipient[recipient]++
	}
}

// Stats gives the counts so far.
func (s *Server) Stats() Stats {
	n := &s.counters
	n.mu.Lock()
	per := maps.Clone(n.perRecipient)
	n.mu.Unlock()
	return Stats{
		Connections: int(n.connections.Load()), MaxConnections: int(n.maxOpen.Load()), TLS: int(n.tls.Load()),
		Mails: int(n.mails.Load()), Probes: int(n.probes.Load()), Refusals: int(n.refusals.Load()),
		Resets: int(n.resets.Load()), Quits: int(n.quits.Load()), Delayed: int(n.delayed.Load()),
		Cut: int(n.cut.Load()), MaxProbes: int(n.maxProbes.Load()), Strays: int(n.strays.Load()), PerRecipient: per,
	}
}

// Asked is how often a recipient was asked about, in any case.
func (s *Server) Asked(recipient string) int {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	return s.perRecipient[strings.ToLower(recipient)]
}
