// SPDX-License-Identifier: BSD-2-Clause

package harvest

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/kit/term"
	"rcptgate/pattern"
)

const (
	stepName = "harvest"
	reason   = rcptgate.Reason("harvest")
)

// Check is the limit of one configuration. It is the [rcptgate.Guard] of the questions that
// pass it, and safe for concurrent use.
type Check struct {
	cfg    Config
	state  *state
	veil   rcptgate.Verdict
	exempt func(client netip.Addr) bool // this machine, servers behind
	never  *pattern.Set
	names  *pattern.Set
	joins  rcptgate.Blocklist // nil: none
}

// state is what outlives configurations.
type state struct {
	log     *slog.Logger
	clients *table
	nets    *table
	limited atomic.Uint64 // limits that were reached
	veiled  atomic.Uint64 // answers that were put off

	mu   sync.Mutex
	last []reached // limits reached, the newest last
}

// reached is a limit that was reached.
type reached struct {
	who   string
	limit string // the setting
	heard int
	at    time.Time
}

// lastMax bounds the limits that are listed.
const lastMax = 100

func newState(log *slog.Logger) *state {
	return &state{log: log, clients: newTable(), nets: newTable()}
}

// Check lets the client be asked about further, as what it is allowed to learn. The error is
// always nil.
func (c *Check) Check(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	if !q.Client.IsValid() || q.AuthUser != "" || q.Session != nil && q.Session.Local {
		return rcptgate.Verdict{}, nil
	}
	q.Guard = c
	if c.over(q.Client, q.Now()) && !c.spares(q) {
		q.Veil = &c.veil
		q.Trace.Note("the client has asked for too many names that do not exist: no server is asked for it")
	}
	return rcptgate.Verdict{}, nil
}

// over reports whether a client has heard all that it may.
func (c *Check) over(client netip.Addr, now time.Time) bool {
	one, network := keysOf(client)
	h := c.state.clients.of(one).Get(one)
	quick, slow := c.heard(h, now)
	return quick >= c.cfg.Limit || slow >= c.cfg.slowLimit() || c.networkOver(network, now)
}

// heard is what a history counts at a time, within each window.
func (c *Check) heard(h history, now time.Time) (quick, slow int) {
	return h.quick.at(now, c.cfg.Window.Std()), h.slow.at(now, c.cfg.SlowWindow.Std())
}

// networkOver reports whether the clients of a network together have heard all that they may.
func (c *Check) networkOver(network netip.Addr, now time.Time) bool {
	_, slow := c.heard(c.state.nets.of(network).Get(network), now)
	return slow >= c.cfg.networkLimit()
}

// spares reports whether a client is not counted.
func (c *Check) spares(q *rcptgate.Query) bool {
	client := q.Client.Unmap()
	if c.exempt(client) {
		return true
	}
	// A set without patterns matches everything; one that cannot be asked spares.
	if !c.never.Empty() {
		if ok, err := c.never.Client(context.Background(), client); ok || err != nil {
			return true
		}
	}
	if !c.names.Empty() && q.ClientName != "" {
		if ok, err := c.names.Host(context.Background(), q.ClientName); ok || err != nil {
			return true
		}
	}
	return false
}

// Unknown counts what the client hears. Beyond a limit it hears something else, which does not
// count: a sender that tries again because it was told to would never be free of it.
func (c *Check) Unknown(q *rcptgate.Query) (v rcptgate.Verdict, instead bool) {
	if c.spares(q) {
		return v, false
	}
	if q.Inquiry {
		if instead = c.over(q.Client, q.Now()); instead {
			v = c.veil
		}
		return v, instead
	}
	now := q.Now()
	one, network := keysOf(q.Client)
	if c.networkOver(network, now) || !c.countClient(q, one, now) || !c.countNetwork(network, now) {
		c.state.veiled.Add(1)
		return c.veil, true
	}
	return v, false
}

// countClient counts one more unknown name; false: the client has heard all that it may.
func (c *Check) countClient(q *rcptgate.Query, one netip.Addr, now time.Time) (may bool) {
	var limit string
	var heard int
	c.state.clients.of(one).Update(one, func(h history) history {
		quick, slow := c.heard(h, now)
		if may = quick < c.cfg.Limit && slow < c.cfg.slowLimit(); !may {
			return h
		}
		h.quick.add(now, c.cfg.Window.Std())
		h.slow.add(now, c.cfg.SlowWindow.Std())
		switch {
		case quick+1 == c.cfg.Limit:
			limit, heard = "limit", quick+1
		case slow+1 == c.cfg.slowLimit():
			limit, heard = "slow_limit", slow+1
		}
		return h
	})
	if limit != "" {
		c.reach(one, limit, heard, now)
		c.join(q, heard)
	}
	return may
}

// countNetwork is countClient for the network around the client.
func (c *Check) countNetwork(network netip.Addr, now time.Time) (may bool) {
	heard := 0
	c.state.nets.of(network).Update(network, func(h history) history {
		_, heard = c.heard(h, now)
		if may = heard < c.cfg.networkLimit(); may {
			h.slow.add(now, c.cfg.SlowWindow.Std())
		}
		return h
	})
	if may && heard+1 == c.cfg.networkLimit() {
		c.reach(network, "network_limit", heard+1, now)
	}
	return may
}

// reach notes that a limit was reached.
func (c *Check) reach(a netip.Addr, limit string, heard int, now time.Time) {
	who := a.String()
	switch {
	case limit == "network_limit" && a.Is4():
		who += "/24"
	case limit == "network_limit":
		who += "/48"
	case a.Is6():
		who += "/64"
	}
	s := c.state
	s.limited.Add(1)
	s.log.Info("harvest client="+who+" limited", "reached", limit, "unknown", heard)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last = append(s.last, reached{who, limit, heard, now}); len(s.last) > lastMax {
		s.last = append(s.last[:0], s.last[1:]...)
	}
}

// join puts the client on the blocklist, if there is one for it.
func (c *Check) join(q *rcptgate.Query, heard int) {
	if c.joins == nil {
		return
	}
	if err := c.joins.Add(q.Client, term.Count(heard, "unknown recipient"), q.QueueID, 0); err != nil {
		c.state.log.Info("harvest: a client cannot join the blocklist", "client", q.Client.String(), "error", err)
	}
}
