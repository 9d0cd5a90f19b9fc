// SPDX-License-Identifier: BSD-2-Clause

// Package trusted decides whether a recipient is ours to ask about. Mail of clients that
// have authenticated, or that come from a trusted network, is outgoing or the site's own:
// its recipients are not looked up. Rules and scripts come before this step, and see such
// clients too.
//
// Whether the MTA has refused a recipient already is not for this package: the milter front
// does not ask to be shown those.
package trusted

import (
	"context"
	"net/netip"

	"rcptgate"
	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/unit"
)

// Config is this unit's part of the top level.
type Config struct {
	Trusted []setting.Network `toml:"trusted" doc:"client networks whose recipients are not checked" example:"[\"192.0.2.0/24\"]"`
}

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{Name: "trusted", Parts: []config.Part{{Defaults: Config{}}}, Open: func(*unit.Env) (unit.Live, error) {
		return unit.Live{Build: build, Warn: warn}, nil
	}}
}

func build(s *unit.Setup) error {
	check := &Check{Trusted: unit.Part[Config](s.Config).Trusted}
	s.Trusted = check.Has
	for _, n := range check.Trusted {
		s.TrustedNetworks = append(s.TrustedNetworks, n.Prefix)
	}
	s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "trusted", Check: check})
	return nil
}

func warn(c *unit.Config) (list []string) {
	for _, n := range unit.Part[Config](c).Trusted {
		if n.Bits() == 0 {
			list = append(list, "trusted = "+n.String()+": no recipient is checked")
		}
	}
	return list
}

// Check accepts the recipients of clients that are trusted. The zero Check trusts only
// clients that have authenticated. It is safe for concurrent use.
type Check struct {
	// Trusted are the networks whose recipients are not checked.
	Trusted []setting.Network
}

// Has reports whether a client is in a trusted network.
func (c *Check) Has(client netip.Addr) bool {
	for _, n := range c.Trusted {
		if n.Has(client) {
			return true
		}
	}
	return false
}

// Check accepts what is not ours to judge, and continues with the rest. The error is
// always nil. It does not allocate.
func (c *Check) Check(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	if q.AuthUser != "" {
		q.Trace.Note("the client has authenticated")
		return rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonAuthenticated, Source: rcptgate.SourceConfig}, nil
	}
	if client := q.ClientAddr(); client.IsValid() {
		for _, n := range c.Trusted {
			if n.Has(client) {
				if q.Trace.Explain {
					q.Trace.Note("the client is in the trusted network " + n.String())
				}
				return rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonTrusted, Source: rcptgate.SourceConfig}, nil
			}
		}
	}
	return rcptgate.Verdict{}, nil
}
