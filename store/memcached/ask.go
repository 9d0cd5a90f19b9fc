// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rcptgate"
	"rcptgate/store"
)

// How do treats the end of a connection, which may have come while it lay idle.
const (
	once  = false
	again = true // what may be done twice
)

// result is what came of a question.
type result[T any] struct {
	value T
	err   error
}

// do asks s within the bounds. What a server that hangs has been asked goes on in the
// background until its own time-out, and keeps its slot until then.
func do[T any](ctx context.Context, c *Client, s *server, retry bool, op func() (T, error)) (T, error) {
	var none T
	budget := rcptgate.BudgetOf(ctx)
	limit := budget.Left(s.timeout)
	switch {
	case ctx.Err() != nil:
		return none, ctx.Err()
	case limit <= 0:
		return none, store.ErrBudget
	case c.closed.Load():
		return none, store.ErrClosed
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return none, ErrBusy
	}
	began := time.Now()
	results := make(chan result[T], 1)
	go func() { results <- finish(c, s, retry, op, began) }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	defer func() { budget.Spend(time.Since(began)) }()
	select {
	case r := <-results:
		if r.err != nil && !answered(r.err) {
			return none, fmt.Errorf("asking memcached %s: %w", s.name, r.err)
		}
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-timer.C:
		return none, fmt.Errorf("asking memcached %s: %w", s.name, ErrSlow)
	}
}

// finish asks, judges the server by what came of it and gives the slot back.
func finish[T any](c *Client, s *server, retry bool, op func() (T, error), began time.Time) result[T] {
	value, err := op()
	if retry && err != nil && gone(err) {
		s.hangUp()
		value, err = op()
	}
	err = bare(err)
	s.latency.note(time.Since(began))
	if s.note(err, began) {
		c.died(s, err)
	}
	<-c.slots
	return result[T]{value, err}
}

// died reports that s has died.
func (c *Client) died(s *server, err error) {
	c.notices.Raise(slog.LevelWarn, s.notice(), "memcached server does not answer: what it held is unavailable, and it is tried again every second",
		"server", s.name, "error", err)
}

// tend tries dead servers again.
func (c *Client) tend() {
	tick := time.NewTicker(reviveAfter)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-tick.C:
		}
		var all sync.WaitGroup
		for _, s := range c.setup.Load().ring.servers {
			if s.alive.Load() {
				continue
			}
			all.Go(func() {
				if deadFor, ok := s.revive(); ok {
					c.notices.Clear(s.notice(), "memcached server answers again", "server", s.name, "dead_for", deadFor.Round(time.Millisecond))
					c.signalBack()
				}
			})
		}
		all.Wait() // bounded by the time-out of a question
	}
}

// signalBack has the exchange of tombstones begin a round: a server may lack them.
func (c *Client) signalBack() {
	select {
	case c.back <- struct{}{}:
	default:
	}
}
