// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"fmt"

	"rcptgate"
	"rcptgate/front/milter/wire"
)

// events are those that somebody may have no use for: how the MTA leaves one out, and, if
// it cannot or the event is only to be seen, how it sends it without waiting for an
// answer. One that the gate wants is sent and answered.
var events = []struct {
	cmd         byte
	wanted      rcptgate.Wants
	no, noReply uint32
}{
	{wire.CmdBody, rcptgate.WantBody, wire.NoBody, wire.NoReplyBody},
	{wire.CmdHeader, 0, wire.NoHeaders, wire.NoReplyHeader}, // where it is wanted: see negotiate
	{wire.CmdEndOfHeader, 0, wire.NoEndOfHeader, wire.NoReplyEOH},
	{wire.CmdUnknown, 0, wire.NoUnknown, wire.NoReplyUnknown},
	{wire.CmdData, 0, wire.NoData, wire.NoReplyData},
	{wire.CmdHelo, 0, 0, wire.NoReplyHelo},
	// A client that is refused hears it at MAIL, whatever it is refused for.
	{wire.CmdMail, rcptgate.WantMail | rcptgate.WantConnect | rcptgate.WantHelo, 0, wire.NoReplyMail},
}

// changes are the actions that somebody may want to take.
var changesWanted = []struct {
	wanted  rcptgate.Wants
	actions uint32
}{
	{rcptgate.EditHeader, wire.ActAddHeaders | wire.ActChangeHeaders},
	{rcptgate.EditBody, wire.ActChangeBody},
	{rcptgate.EditSender, wire.ActChangeSender},
	{rcptgate.EditRecipients, wire.ActAddRcpt | wire.ActDelRcpt},
	{rcptgate.Quarantine, wire.ActQuarantine},
}

// macrosFor are the macros we read. An MTA that cannot be asked for them sends those it
// is configured for, which by default are more.
func macrosFor(wants rcptgate.Wants) []wire.MacroList {
	list := []wire.MacroList{
		{Stage: wire.MacrosConnect, Names: "{client_addr}"},
		{Stage: wire.MacrosMail, Names: "i {auth_authen}"},
		{Stage: wire.MacrosRcpt, Names: "i {rcpt_mailer} {rcpt_host} {rcpt_addr}"},
	}
	if wants&rcptgate.WantSession != 0 {
		list[0].Names += " v" // which MTA it is
		list[1].Names += " {tls_version} {cipher}"
	}
	if wants&rcptgate.WantMessage != 0 {
		list = append(list, wire.MacroList{Stage: wire.MacrosEndOfMsg, Names: "i"})
	}
	return list
}

// errNotNegotiated ends a connection that does not begin with the option negotiation.
var errNotNegotiated = fmt.Errorf("%w: command before the option negotiation", wire.ErrFrame)

// negotiate takes of an MTA's offer what the gate wants and nothing else: Sendmail ends
// the connection over a flag that it has not offered.
func negotiate(offer wire.Options, wants rcptgate.Wants) (wire.Options, error) {
	if offer.Version < wire.VersionMin {
		return wire.Options{}, fmt.Errorf("%w: milter protocol version %d, at least %d is needed", wire.ErrFrame, offer.Version, wire.VersionMin)
	}
	agreed := wire.Options{Version: min(offer.Version, wire.Version)}
	for _, event := range events {
		switch {
		case event.wanted&wants != 0:
		case offer.Protocol&event.no != 0:
			agreed.Protocol |= event.no
		default:
			agreed.Protocol |= offer.Protocol & event.noReply
		}
	}
	if wants&rcptgate.WantHeader != 0 { // all fields, without a round trip for each
		agreed.Protocol &^= wire.NoHeaders
		agreed.Protocol |= offer.Protocol & wire.NoReplyHeader
	}
	if wants&(rcptgate.WantHeader|rcptgate.EditHeader) != 0 {
		agreed.Protocol |= offer.Protocol & wire.HeaderLeadSpace
	}
	if wants&rcptgate.WantBody != 0 {
		agreed.Protocol |= offer.Protocol & wire.CanSkip
	}
	for _, change := range changesWanted {
		if change.wanted&wants != 0 {
			agreed.Actions |= offer.Actions & change.actions
		}
	}
	if offer.Actions&wire.ActSetMacroList != 0 {
		agreed.Actions |= wire.ActSetMacroList
		agreed.Macros = macrosFor(wants)
	}
	return agreed, nil
}

// silent is the set of commands, one bit each from "A", that are not answered under
// what was agreed.
type silent uint32

func silentUnder(protocol uint32) silent {
	var s silent
	for _, event := range events {
		if protocol&event.noReply != 0 {
			s |= 1 << (event.cmd - 'A')
		}
	}
	return s
}

func (s silent) has(cmd byte) bool { return s>>(cmd-'A')&1 != 0 }
