// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"fmt"

	"rcptgate/front/milter/wire"
)

// unwanted are the events we have no use for: how the MTA leaves one out, and, if
// it cannot, how it sends it without waiting for an answer.
var unwanted = []struct {
	cmd         byte
	no, noReply uint32
}{
	{wire.CmdBody, wire.NoBody, wire.NoReplyBody},
	{wire.CmdHeader, wire.NoHeaders, wire.NoReplyHeader},
	{wire.CmdEndOfHeader, wire.NoEndOfHeader, wire.NoReplyEOH},
	{wire.CmdUnknown, wire.NoUnknown, wire.NoReplyUnknown},
	{wire.CmdData, wire.NoData, wire.NoReplyData},
	// Wanted, but nothing is decided there:
	{wire.CmdHelo, 0, wire.NoReplyHelo},
	{wire.CmdMail, 0, wire.NoReplyMail},
}

// wantedMacros are the macros we read. An MTA that cannot be asked for them sends
// those it is configured for, which by default are more.
var wantedMacros = []wire.MacroList{
	{Stage: wire.MacrosConnect, Names: "{client_addr}"},
	{Stage: wire.MacrosMail, Names: "i {auth_authen}"},
	{Stage: wire.MacrosRcpt, Names: "i {rcpt_mailer} {rcpt_host} {rcpt_addr}"},
}

// errNotNegotiated ends a connection whose first word is no option negotiation.
var errNotNegotiated = fmt.Errorf("%w: command before the option negotiation", wire.ErrFrame)

// negotiate takes of an MTA's offer what we need and nothing else: Sendmail ends
// the connection over a flag that it has not offered.
func negotiate(offer wire.Options) (wire.Options, error) {
	if offer.Version < wire.VersionMin {
		return wire.Options{}, fmt.Errorf("%w: milter protocol version %d, at least %d is needed", wire.ErrFrame, offer.Version, wire.VersionMin)
	}
	agreed := wire.Options{Version: min(offer.Version, wire.Version)}
	for _, event := range unwanted {
		if event.no != 0 && offer.Protocol&event.no != 0 {
			agreed.Protocol |= event.no
		} else {
			agreed.Protocol |= offer.Protocol & event.noReply
		}
	}
	if offer.Actions&wire.ActSetMacroList != 0 {
		agreed.Actions = wire.ActSetMacroList
		agreed.Macros = wantedMacros
	}
	return agreed, nil
}

// silent is the set of commands, one bit each from "A", that are not answered under
// what was agreed.
type silent uint32

func silentUnder(protocol uint32) silent {
	var s silent
	for _, event := range unwanted {
		if protocol&event.noReply != 0 {
			s |= 1 << (event.cmd - 'A')
		}
	}
	return s
}

func (s silent) has(cmd byte) bool { return s>>(cmd-'A')&1 != 0 }
