// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"rcptgate"
	"rcptgate/pattern"
	"rcptgate/route"
	"rcptgate/table"
	"rcptgate/table/lists"
	"rcptgate/table/pool"
)

// Setup is one configuration on its way in: what units add their steps to.
type Setup struct {
	*Config
	Router *route.Router
	// FoldCase reports whether the local parts of a domain ignore case: the unit that asks
	// about existence says so. Nil means that all do.
	FoldCase func(domain string) bool
	// Trusted reports whether a client is in a trusted network, and Local whether a domain
	// is one whose mail this machine delivers or expands itself. The units that know fill
	// them in; they are called while questions are answered, so that the order of units does
	// not matter. Nil: none is.
	Trusted func(client netip.Addr) bool
	Local   func(ctx context.Context, domain string) (bool, error)
	// TrustedNetworks are those of Trusted, for whoever lists networks.
	TrustedNetworks []netip.Prefix
	// Blocklists are the lists of clients' addresses by name, for units that come later.
	Blocklists map[string]rcptgate.Blocklist
	// Maps are what other programs may look up, by name: see [Map].
	Maps map[string]Map
	// Scan looks for viruses in a message, once, and leaves what it found in it
	// ([rcptgate.Message.Scanned]). Nil: nothing scans.
	Scan func(ctx context.Context, q *rcptgate.Query)
	// Language is what patterns are read with: the unit that has the lists fills it in. Its
	// words are asked while questions are answered. Nil: there are no lists.
	Language *pattern.Language
	// Function finds a function of the script by its name, for rules that call it. The script
	// comes after the rules, so ask once every unit was built (see Finish). Nil: there is no
	// script.
	Function func(name string) (rcptgate.Check, bool)

	steps    [rcptgate.StageCount][]rcptgate.Step
	wants    rcptgate.Wants
	lease    *pool.Lease
	followed []Followed
	release  []func()
	verify   []func(context.Context) error
	finish   []func() error
}

// Map answers another program's look-ups: a value, or found = false. An error is temporary.
// It is safe for concurrent use.
type Map func(ctx context.Context, key string) (value string, found bool, err error)

// Step adds a step to the chain of a stage, which the MTA is then asked for. Steps are asked
// in the order of the units.
func (s *Setup) Step(at rcptgate.Stage, step rcptgate.Step) {
	s.steps[at] = append(s.steps[at], step)
	switch at {
	case rcptgate.StageConnect:
		s.Want(rcptgate.WantConnect)
	case rcptgate.StageHelo:
		s.Want(rcptgate.WantHelo)
	case rcptgate.StageMail:
		s.Want(rcptgate.WantMail)
	case rcptgate.StageMessage:
		s.Want(rcptgate.WantMessage)
	}
}

// Want says what a step needs from the MTA besides being asked at its stage.
func (s *Setup) Want(w rcptgate.Wants) { s.wants |= w }

// Table gives a map file, read now and followed while the setup lives. A file that cannot
// be read is not an error: its table answers with one until it can.
func (s *Setup) Table(use pool.Use, spec table.Spec) (table.Table, error) {
	return s.lease.Open(use, spec)
}

// Defer has f called after the last query of this setup, or when the setup is refused.
func (s *Setup) Defer(f func()) { s.release = append(s.release, f) }

// Verify has f called when every unit has added its steps. An error refuses the
// configuration; at the start of the daemon, which has no other, it is a notice.
func (s *Setup) Verify(f func(context.Context) error) { s.verify = append(s.verify, f) }

// Finish has f called when every unit has added its steps, for what depends on units that
// come later. An error refuses the configuration.
func (s *Setup) Finish(f func() error) { s.finish = append(s.finish, f) }

// After gives the steps of the recipient's stage that come after the one of a name, as a
// check. It has no deadline of its own. Use it once every unit was built.
func (s *Setup) After(step string) rcptgate.Check {
	return &rcptgate.Chain{Steps: s.after(step), Rehearse: func(q *rcptgate.Query) bool { return s.Router.Rehearse(q) }}
}

func (s *Setup) after(step string) []rcptgate.Step {
	steps := s.steps[rcptgate.StageRcpt]
	for i := range steps {
		if steps[i].Name == step {
			return steps[i+1:]
		}
	}
	return nil
}

// verified asks those that verify the setup as a whole.
func (s *Setup) verified() error {
	ctx, cancel := context.WithTimeout(context.Background(), verifyTime)
	defer cancel()
	var errs []error
	for _, f := range s.verify {
		errs = append(errs, f(ctx))
	}
	return s.Place(errors.Join(errs...))
}

// verifyTime bounds how long a setup is verified.
const verifyTime = 30 * time.Second

// close gives back what the setup took, in reverse order.
func (s *Setup) close() {
	for i := len(s.release) - 1; i >= 0; i-- {
		s.release[i]()
	}
}

// build makes a setup of a configuration: the router, then every unit's steps.
func (h *Host) build(c *Config) (*Setup, error) {
	s := &Setup{Config: c, lease: h.Tables.Lease()}
	s.Defer(s.lease.Release)
	err := s.openRouter(h)
	for i := 0; err == nil && i < len(h.live); i++ {
		if build := h.live[i].Build; build != nil {
			err = build(s)
		}
	}
	for i := 0; err == nil && i < len(s.finish); i++ {
		err = s.finish[i]()
	}
	if err != nil {
		s.close()
		return nil, c.Place(err)
	}
	return s, nil
}

// openRouter makes what knows who is responsible for a recipient.
func (s *Setup) openRouter(h *Host) error {
	hops, err := Part[route.TablesConfig](s.Config).Effective()
	if err != nil {
		return err
	}
	s.Follow(Followed{Section: "routes", Source: hops.Source, Again: hops.Again})
	maps, err := s.openMaps(hops)
	if err != nil {
		return err
	}
	relay, err := hops.Relay(s.open(classUse), s.open(mapUse))
	if err != nil {
		return fmt.Errorf("[routes]: %w", err)
	}
	core := s.Core()
	s.Router, err = route.New(route.Options{
		Domains: Domains[route.DomainConfig](s.Config), Maps: maps, Delimiter: hops.Delimiter, Relay: relay,
		FollowMTA: core.FollowMTA, Enforce: core.Enforce, Hostname: core.Hostname, Set: h.Backends,
	})
	if err == nil {
		s.Defer(s.Router.Close)
	}
	return err
}

// open opens tables for a use.
func (s *Setup) open(use func() pool.Use) func(table.Spec) (table.Table, error) {
	return func(spec table.Spec) (table.Table, error) { return s.Table(use(), spec) }
}

// mapUse is what the MTA's maps of addresses and domains are read for, classUse that of
// files with a domain a line. The checks name these uses alike, and share the tables.
func mapUse() pool.Use   { return pool.Use{Name: "map"} }
func classUse() pool.Use { return pool.Use{Name: "class", Format: lists.ClassFile()} }

// openMaps opens the MTA's maps of next hops.
func (s *Setup) openMaps(hops *route.Effective) (maps []route.Map, err error) {
	for _, group := range []struct {
		key       string
		specs     []table.Spec
		addresses bool
	}{{"mailertable", hops.Mailertable, false}, {"transport_maps", hops.TransportMaps, true}} {
		for _, spec := range group.specs {
			t, err := s.Table(mapUse(), spec)
			if err != nil {
				return nil, fmt.Errorf("[routes] %s: %w", group.key, err)
			}
			maps = append(maps, route.Map{Table: t, Addresses: group.addresses})
		}
	}
	return maps, nil
}

// Steps gives the steps of a stage, for tests.
func (s *Setup) Steps(at rcptgate.Stage) []rcptgate.Step { return s.steps[at] }

// gateSetup is the setup as the gate has it.
func (s *Setup) gateSetup(h *Host) rcptgate.Setup {
	out := rcptgate.Setup{Wants: s.wants, Rehearse: s.Router.Rehearse, Observers: h.observers, Close: s.close}
	for stage, steps := range s.steps {
		if len(steps) > 0 {
			deadline := s.Core().Deadline.Std()
			if rcptgate.Stage(stage) == rcptgate.StageMessage {
				deadline = s.Core().MessageDeadline.Std()
			}
			out.Chains[stage] = &rcptgate.Chain{
				Steps: steps, Deadline: deadline, Patience: h.patience(), Rehearse: s.Router.Rehearse,
			}
		}
	}
	return out
}

var errNoConfiguration = errors.New("this daemon has no configuration file to read again")
