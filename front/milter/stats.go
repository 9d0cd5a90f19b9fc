// SPDX-License-Identifier: BSD-2-Clause

package milter

import "sync/atomic"

// Stats are a server's counts since its start, for metrics.
type Stats struct {
	Open           int64  // connections open now
	Accepted       uint64 // connections taken
	Refused        uint64 // connections closed at once: there were too many
	Transactions   uint64 // MAIL commands
	Recipients     uint64 // RCPT commands, each a question
	ProtocolErrors uint64 // connections ended by a malformed frame
	TimedOut       uint64 // connections ended for being silent or slow
	Spooled        int64  // octets of bodies that are kept now
	Unspooled      uint64 // messages deferred because their body could not be kept
}

// counts are one connection's own: nothing that all connections would write to is
// touched for a recipient.
type counts struct {
	transactions, recipients atomic.Uint64
}

type totals struct {
	counts                                // of the connections that have ended
	open                                  atomic.Int64
	accepted, refused, malformed, timeout atomic.Uint64
	unspooled                             atomic.Uint64
}

func (t *totals) add(c *counts) {
	t.transactions.Add(c.transactions.Load())
	t.recipients.Add(c.recipients.Load())
}

// Stats gives the counts so far.
func (s *Server) Stats() Stats {
	var sum totals
	s.mu.Lock()
	sum.add(&s.totals.counts)
	for l := range s.listeners {
		for c := range l.conns {
			sum.add(&c.counts)
		}
	}
	s.mu.Unlock()
	return Stats{
		Open:           s.totals.open.Load(),
		Accepted:       s.totals.accepted.Load(),
		Refused:        s.totals.refused.Load(),
		Transactions:   sum.transactions.Load(),
		Recipients:     sum.recipients.Load(),
		ProtocolErrors: s.totals.malformed.Load(),
		TimedOut:       s.totals.timeout.Load(),
		Spooled:        s.spools.used.Load(),
		Unspooled:      s.totals.unspooled.Load(),
	}
}
