// SPDX-License-Identifier: BSD-2-Clause

// Package scope is the first check: is the question ours at all? Mail of clients
// that have authenticated, or that come from a trusted network, is outgoing or the
// site's own, and nobody asks about its recipients. A recipient that holds CR, LF or
// NUL is refused before anything else looks at it (RFC 5321 section 4.1.2 allows
// none of them): it would end an SMTP command, a log line or a cache key early.
//
// Whether the MTA has refused a recipient already is not for this package: the
// milter front does not ask to be shown those.
package scope

import (
	"context"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/config/setting"
)

// Check tells whose mail is not checked. The zero Check trusts nobody but clients
// that have authenticated. It is safe for concurrent use.
type Check struct {
	// Trusted are the networks whose recipients are not checked.
	Trusted []setting.Network
}

// Check accepts what is not ours to judge, refuses what nobody may be asked about,
// and continues with the rest. The error is always nil. It does not allocate.
func (c *Check) Check(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	if address.HasControl(q.Recipient.Path) || (q.Target.Path != q.Recipient.Path && address.HasControl(q.Target.Path)) {
		return rcptgate.Verdict{
			Action: rcptgate.Reject, Code: 501, Enhanced: "5.1.3", Text: "Bad recipient address syntax",
			Reason: rcptgate.ReasonBadAddress, Source: rcptgate.SourceConfig,
		}, nil
	}
	if q.AuthUser != "" {
		q.Trace.Note("scope: the client has authenticated")
		return rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonAuthenticated, Source: rcptgate.SourceConfig}, nil
	}
	if q.Client.IsValid() {
		for _, n := range c.Trusted {
			if n.Has(q.Client) {
				if q.Trace.Explain {
					q.Trace.Note("scope: the client is in the trusted network " + n.String())
				}
				return rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonTrusted, Source: rcptgate.SourceConfig}, nil
			}
		}
	}
	return rcptgate.Verdict{}, nil
}
