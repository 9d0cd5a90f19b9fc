// SPDX-License-Identifier: BSD-2-Clause

// Package wire reads and writes the frames of the milter protocol, the language
// that Sendmail and Postfix speak with mail filters. It serves both sides: the
// filter in front/milter and the MTA in front/milter/mta.
//
// The protocol has no RFC; its reference is Sendmail's include/libmilter/mfdef.h
// and libmilter/docs, and what Postfix's milter8(3) does. A frame is a length in
// four octets (big endian, not counting itself), one octet that names the command
// or the reply, and length-1 octets of data. Strings end with NUL. Sendmail sends
// at most 65,535 octets of data in a frame; each command here has a limit of its
// own, and frames nobody wants are skipped without being kept.
//
// Versions 2 to 6 differ only in which events and flags exist; what the two sides
// use is settled in the option negotiation ([Options]).
package wire

// The protocol versions that this package knows.
const (
	VersionMin = 2
	Version    = 6
)

// Commands, from the MTA to the filter (SMFIC_*).
const (
	CmdAbort       = 'A' // the transaction is over; no reply
	CmdBody        = 'B' // a part of the body
	CmdConnect     = 'C' // client name, family, port, address
	CmdMacro       = 'D' // macros for the command that follows; no reply
	CmdEndOfMsg    = 'E' // end of message
	CmdHelo        = 'H' // HELO name
	CmdQuitNewConn = 'K' // the client is gone, the next will use this connection; no reply
	CmdHeader      = 'L' // one header field
	CmdMail        = 'M' // reverse-path and ESMTP arguments
	CmdEndOfHeader = 'N' // end of header
	CmdOptions     = 'O' // option negotiation
	CmdQuit        = 'Q' // end of the connection; no reply
	CmdRcpt        = 'R' // recipient and ESMTP arguments
	CmdData        = 'T' // DATA
	CmdUnknown     = 'U' // a command the MTA does not know
)

// Replies, from the filter to the MTA (SMFIR_*). The reply to CmdOptions is CmdOptions;
// those that change a message are in change.go.
const (
	ReplyAccept   = 'a'
	ReplyContinue = 'c'
	ReplyDiscard  = 'd'
	ReplyProgress = 'p' // the filter is still busy with the end of the message
	ReplyReject   = 'r'
	ReplySkip     = 's' // no more of the body, please
	ReplyTempfail = 't'
	ReplyCode     = 'y' // SMTP code, enhanced code and text
	ReplyConnFail = 'f'
	ReplyShutdown = '4'
)

// Protocol flags (SMFIP_*): what the MTA can leave out, and what it shall. "No"
// switches an event off, "NoReply" has it sent without an answer.
const (
	NoConnect       = 0x1
	NoHelo          = 0x2
	NoMail          = 0x4
	NoRcpt          = 0x8
	NoBody          = 0x10
	NoHeaders       = 0x20
	NoEndOfHeader   = 0x40
	NoReplyHeader   = 0x80
	NoUnknown       = 0x100
	NoData          = 0x200
	CanSkip         = 0x400
	RcptRejected    = 0x800 // send recipients that the MTA has refused itself
	NoReplyConnect  = 0x1000
	NoReplyHelo     = 0x2000
	NoReplyMail     = 0x4000
	NoReplyRcpt     = 0x8000
	NoReplyData     = 0x10000
	NoReplyUnknown  = 0x20000
	NoReplyEOH      = 0x40000
	NoReplyBody     = 0x80000
	HeaderLeadSpace = 0x100000

	// ProtocolAll is what Postfix and Sendmail of today offer.
	ProtocolAll = 0x1fffff
)

// Action flags (SMFIF_*); those that a change needs are in change.go.
const (
	ActSetMacroList = 0x100 // the filter names the macros it wants
	// ActionsAll is what Postfix and Sendmail of today offer.
	ActionsAll = 0x1ff
)

// The stages for which a filter can name the macros it wants (SMFIM_*).
const (
	MacrosConnect     = 0
	MacrosHelo        = 1
	MacrosMail        = 2
	MacrosRcpt        = 3
	MacrosData        = 4
	MacrosEndOfMsg    = 5
	MacrosEndOfHeader = 6
)

// Address families in CmdConnect (SMFIA_*).
const (
	FamilyUnknown = 'U'
	FamilyUnix    = 'L'
	FamilyIPv4    = '4'
	FamilyIPv6    = '6'
)

// FrameMax is the longest frame, command octet included, that Sendmail sends
// before larger ones are negotiated (MILTER_MAX_DATA_SIZE and the command).
const FrameMax = 65536
