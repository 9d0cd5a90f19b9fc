// SPDX-License-Identifier: BSD-2-Clause

// Package syntax is the first check at RCPT. A recipient that holds CR, LF or NUL is
// refused before anything else looks at it (RFC 5321 section 4.1.2 allows none of them):
// it would end an SMTP command, a log line or a key early. Everything else that is odd
// about an address is the MTA's business: it has taken the address.
package syntax

import (
	"context"

	"rcptgate"
	"rcptgate/unit"
)

// Unit is the check.
func Unit() unit.Unit {
	return unit.Unit{Name: "syntax", Open: unit.Steps(func(s *unit.Setup) error {
		s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "syntax", Check: Check{}})
		return nil
	})}
}

// Check refuses what could not be asked about. It is safe for concurrent use.
type Check struct{}

// Check refuses with 501 5.1.3, and continues with the rest. The error is always nil. It
// does not allocate.
func (Check) Check(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	if rcptgate.HasControl(q.Recipient.Path) || (q.Target.Path != q.Recipient.Path && rcptgate.HasControl(q.Target.Path)) {
		return rcptgate.Verdict{
			Action: rcptgate.Reject, Code: 501, Enhanced: "5.1.3", Text: "Bad recipient address syntax",
			Reason: rcptgate.ReasonBadAddress, Source: rcptgate.SourceConfig,
		}, nil
	}
	return rcptgate.Verdict{}, nil
}
