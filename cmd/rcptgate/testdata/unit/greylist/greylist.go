// SPDX-License-Identifier: BSD-2-Clause

// Package greylist is a unit that a test adds to the program from the outside: it puts
// the first mail of every sender off. It has one of everything that a unit can have, and
// shows what adding one costs: this folder, and one line of builtin.go.
package greylist

import (
	"context"
	"fmt"
	"sync"

	"rcptgate"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/metric"
	"rcptgate/route"
	"rcptgate/unit"
	"rcptgate/view"
)

// Config is the section [greylist].
type Config struct {
	Active bool   `toml:"active" doc:"put the first mail of every sender off"`
	Text   string `toml:"text" doc:"what the sender hears" example:"\"Later, please\""`
}

// DomainConfig is this unit's part of a [[domain]] section.
type DomainConfig struct {
	Greylist *bool `toml:"greylist" doc:"false: not for this domain"`
}

// Validate holds that somebody is told something.
func (c Config) Validate() error {
	if c.Active && c.Text == "" {
		return setting.Keyf("text", "an active greylist needs a text")
	}
	return nil
}

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{
		Name: "greylist", Open: open,
		Parts: []config.Part{
			{Section: "greylist", Doc: "senders are asked to come again", Defaults: Config{Text: "Please try again later"}},
			{Section: "domain", Repeated: true, Defaults: DomainConfig{}},
		},
		Ops:     []unit.Op{{Use: "forgive SENDER...", Short: "take the next mail of senders at once", Long: "forgive has the daemon take the next mail of each sender."}},
		Reasons: []rcptgate.ReasonDoc{{Reason: "greylist", Doc: "the sender has not been here before"}},
	}
}

// list is who was here before; it outlives configurations.
type list struct {
	mu   sync.Mutex
	seen map[string]bool
}

func open(env *unit.Env) (unit.Live, error) {
	l := &list{seen: map[string]bool{}}
	return unit.Live{
		Build: func(s *unit.Setup) error {
			cfg := unit.Part[Config](s.Config)
			if !cfg.Active {
				return nil // not configured: no step, no cost
			}
			s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "greylist", Check: &check{l, cfg.Text, s.Router.Sections(), unit.Domains[DomainConfig](s.Config)}})
			return nil
		},
		Adopt: func(c *unit.Config) {
			if unit.Part[Config](c).Active {
				env.Notices.Warn("greylist", "greylisting is active", "text", unit.Part[Config](c).Text)
			}
		},
		Metrics: []metric.Family{metric.Level("greylist_senders", "Senders seen.", func() float64 { return float64(l.len()) })},
		Show: func() []view.Table {
			t := view.Table{Name: "greylist", Title: "Greylist", Columns: view.Columns("senders", "Senders seen")}
			t.Add("", l.len())
			return []view.Table{t}
		},
		Do: func(_ context.Context, op string, args []string) ([]view.Table, error) {
			t := view.Table{Name: op, Title: "Forgiven", Columns: view.Columns("sender", "Sender")}
			for _, sender := range args {
				l.meet(sender)
				t.Add("", sender)
			}
			return []view.Table{t}, nil
		},
	}, nil
}

func (l *list) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

func (l *list) knows(sender string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[sender]
}

func (l *list) meet(sender string) (before bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.seen[sender]
	l.seen[sender] = true
	return before
}

type check struct {
	*list
	text     string
	sections *route.Sections
	domains  []DomainConfig
}

func (c *check) Check(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	if i := c.sections.Find(q.Target.Domain); i >= 0 && c.domains[i].Greylist != nil && !*c.domains[i].Greylist {
		return rcptgate.Verdict{}, nil
	}
	if q.Inquiry { // a person asks: the sender has still to come
		if c.knows(q.Sender) {
			return rcptgate.Verdict{}, nil
		}
	} else if c.meet(q.Sender) {
		return rcptgate.Verdict{}, nil
	}
	q.Trace.Note(fmt.Sprintf("<%s> has not been here before", q.Sender))
	return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 450, Enhanced: "4.7.1", Text: c.text, Reason: "greylist", Source: "greylist"}, nil
}
