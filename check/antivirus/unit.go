// SPDX-License-Identifier: BSD-2-Clause

// Package antivirus looks for viruses in messages, at their end: each is given as it was
// received to one of the configured clamd servers.
//
// Only "stream: OK" from a server that has just shown that it finds what it should means that
// a message is clean. A server has to find the EICAR test file when it is first used, after
// every failure, hourly and when its signatures change; alone, and at the end of a message
// of max_size, since clamd says "OK" of what exceeds its own limits without having looked at
// it. Whatever else happens, no server, no answer, an error, half an answer, a message
// without its body, leaves the message unscanned, and what becomes of it is a setting.
//
// What was found stands in the message ([rcptgate.Message.Virus]) whatever the verdict, in
// rehearsal too, for whoever lists the clients that send viruses.
//
// Results are not remembered: what a body means depends on the header above it (its
// encoding, its parts), so that only equal messages, with equal headers, could share one.
package antivirus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/config"
	"rcptgate/kit/notice"
	"rcptgate/unit"
	"rcptgate/view"
)

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{
		Name: "antivirus", Open: open, Tables: []view.Table{serversTable(), foundTable()},
		Parts:  []config.Part{{Section: "antivirus", Doc: "have ClamAV scan each message when it is complete. The section does nothing without clamd", Defaults: DefaultConfig()}},
		OpsDoc: "test the virus scanners",
		Ops: []unit.Op{{
			Use: "test", Short: "have the virus scanners find the EICAR test file now", Judges: true,
			Long: `test sends the harmless EICAR test file to each virus scanner, alone and in a message of max_size,
and shows how large a message each scanner was seen to search. A scanner that does not find the
file is not used until it does. The exit code is 1 if a scanner needs attention.`,
		}},
		Reasons: []rcptgate.ReasonDoc{
			{Reason: ReasonVirus, Doc: "the message contains a virus"},
			{Reason: ReasonUnscanned, Doc: "the message was not scanned for viruses: no scanner could say, or it is too large"},
		},
	}
}

func open(env *unit.Env) (unit.Live, error) {
	u := newLive(env.Notices, openClamd)
	return unit.Live{
		Build: u.build,
		Adopt: func(c *unit.Config) { u.adopt(unit.Part[Config](c).check) },
		Warn:  func(c *unit.Config) []string { return warnings(unit.Part[Config](c), c.Core().MessageDeadline.Std()) },
		Run:   u.run, Metrics: u.metrics(), Show: u.show, Do: u.do,
	}, nil
}

// live is what outlives configurations.
type live struct {
	board  *notice.Board
	dial   func(Server) scanner
	counts counts
	active atomic.Pointer[pool] // nil: nothing scans
	wake   chan struct{}        // of capacity 1: another pool is active

	mu    sync.Mutex
	pools map[string]*shared // by what they are made of
}

// shared is a pool and how many configurations use it.
type shared struct {
	*pool
	users int
}

func newLive(board *notice.Board, dial func(Server) scanner) *live {
	return &live{board: board, dial: dial, wake: make(chan struct{}, 1), pools: make(map[string]*shared)}
}

// build adds the step to a configuration.
func (u *live) build(s *unit.Setup) error {
	cfg := unit.Part[Config](s.Config)
	if len(cfg.Clamd) == 0 {
		return nil
	}
	check := u.check(cfg, s.Defer)
	cfg.check = check
	s.Scan = check.Scan
	s.Step(rcptgate.StageMessage, rcptgate.Step{Name: stepName, Check: check})
	s.Want(check.wants())
	return nil
}

// check makes the check of a configuration. Configurations that name the same servers share
// what is known of them.
func (u *live) check(cfg *Config, closing func(func())) *Check {
	key := fmt.Sprint(cfg.Clamd, cfg.MaxSize, cfg.Timeout, cfg.Connections, cfg.Selftest)
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pools[key]
	if p == nil {
		p = &shared{pool: newPool(cfg, u.board, u.dial)}
		u.pools[key] = p
	}
	p.users++
	closing(func() {
		u.mu.Lock()
		p.users--
		last := p.users == 0
		if last {
			delete(u.pools, key)
		}
		u.mu.Unlock()
		if last {
			u.active.CompareAndSwap(p.pool, nil)
			p.close()
		}
	})
	return &Check{cfg: cfg, pool: p.pool, counts: &u.counts}
}

// adopt makes a check the active one; nil is none.
func (u *live) adopt(c *Check) {
	var p *pool
	if c != nil {
		p = c.pool
	}
	u.active.Store(p)
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// run tests the servers of the active configuration when that is due.
func (u *live) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		due := ticker.C
		if p := u.active.Load(); p != nil {
			p.tick(time.Now())
		} else {
			due = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-u.wake:
		case <-due:
		}
	}
}

// do answers the unit's commands.
func (u *live) do(ctx context.Context, _ string, _ []string) ([]view.Table, error) {
	p := u.active.Load()
	if p == nil {
		return nil, &unit.ConfigError{Err: errors.New("no virus scanner is configured: clamd in [antivirus] is empty")}
	}
	p.testAll(ctx)
	return u.show()[:1], nil
}

// warnings names settings that a postmaster would hardly want.
func warnings(c *Config, deadline time.Duration) (list []string) {
	if len(c.Clamd) == 0 {
		return nil
	}
	if most := c.limit(int64(c.MaxSize)); most > deadline {
		list = append(list, fmt.Sprintf("[antivirus]: the scan of a message of max_size may take %v, but message_deadline ends it after %v", most, deadline))
	}
	if c.Unscanned == proceed {
		list = append(list, `[antivirus] unscanned = "continue": infected messages are taken while no scanner answers`)
	}
	if !c.Selftest {
		list = append(list, "[antivirus] selftest = false: a scanner without signatures, or with limits below max_size, is not noticed")
	}
	return list
}
