// SPDX-License-Identifier: BSD-2-Clause

package harvest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
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
	if h.quick.at(now, c.cfg.Window.Std()) >= c.cfg.Limit || h.slow.at(now, c.cfg.SlowWindow.Std()) >= c.cfg.slowLimit() {
		return true
	}
	h = c.state.nets.of(network).Get(network)
	return h.slow.at(now, c.cfg.SlowWindow.Std()) >= c.cfg.networkLimit()
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

// Unknown counts what the client hears. Beyond a limit it hears something else.
func (c *Check) Unknown(q *rcptgate.Query) (v rcptgate.Verdict, instead bool) {
	if c.spares(q) {
		return v, false
	}
	now := q.Now()
	one, network := keysOf(q.Client)
	var which string
	var heard int
	c.state.clients.of(one).Update(one, func(h history) history {
		quick, slow := h.quick.at(now, c.cfg.Window.Std()), h.slow.at(now, c.cfg.SlowWindow.Std())
		if instead = quick >= c.cfg.Limit || slow >= c.cfg.slowLimit(); instead {
			return h
		}
		h.quick.add(now, c.cfg.Window.Std())
		h.slow.add(now, c.cfg.SlowWindow.Std())
		switch {
		case quick+1 == c.cfg.Limit:
			which, heard = "limit", quick+1
		case slow+1 == c.cfg.slowLimit():
			which, heard = "slow_limit", slow+1
		}
		return h
	})
	if which != "" {
		c.reach(one, which, heard, now)
		c.join(q, heard)
	}
	if !instead {
		which = ""
		c.state.nets.of(network).Update(network, func(h history) history {
			n := h.slow.at(now, c.cfg.SlowWindow.Std())
			if instead = n >= c.cfg.networkLimit(); instead {
				return h
			}
			if h.slow.add(now, c.cfg.SlowWindow.Std()); n+1 == c.cfg.networkLimit() {
				which, heard = "network_limit", n+1
			}
			return h
		})
		if which != "" {
			c.reach(network, which, heard, now)
		}
	}
	if instead {
		c.state.veiled.Add(1)
		return c.veil, true
	}
	return v, false
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
	if err := c.joins.Add(q.Client, fmt.Sprintf("%d unknown recipients", heard), q.QueueID, 0); err != nil {
		c.state.log.Info("harvest: a client cannot join the blocklist", "client", q.Client.String(), "error", err)
	}
}
