// SPDX-License-Identifier: BSD-2-Clause

package sim

import "time"

// Stage is a moment of a session at which a behaviour can differ.
type Stage string

// The stages. Each but Connect is the reply to what its name says.
const (
	Connect  Stage = "connect" // before the banner
	Banner   Stage = "banner"
	Hello    Stage = "ehlo" // EHLO, LHLO
	Helo     Stage = "helo"
	StartTLS Stage = "starttls"
	Rset     Stage = "rset"
	Mail     Stage = "mail"
	Rcpt     Stage = "rcpt"
	Quit     Stage = "quit"
)

// Stages are those at which a prober reads a reply, in order.
var Stages = []Stage{Banner, Hello, Mail, Rcpt}

// FaultKind is what goes wrong at a stage.
type FaultKind string

// The kinds of fault.
const (
	Say          FaultKind = "say"           // Fault.Reply instead of the right reply
	Hang         FaultKind = "hang"          // no reply, the connection stays open
	Drop         FaultKind = "drop"          // the connection is closed instead of a reply
	HalfLine     FaultKind = "half-line"     // the beginning of the right reply, then closed
	Drip         FaultKind = "drip"          // the right reply, one octet in Fault.Every
	EndlessLine  FaultKind = "endless-line"  // one line without end
	EndlessLines FaultKind = "endless-lines" // a reply whose last line never comes
	Garbage      FaultKind = "garbage"       // octets that are not a reply
	MixedCodes   FaultKind = "mixed-codes"   // a reply whose lines disagree
	Swap         FaultKind = "swap"          // the reply comes after the one to the next command
	Stray        FaultKind = "stray"         // the right reply, then another that was not asked for
	Before       FaultKind = "before"        // Fault.Reply, as if it had been late, then the right reply
	LateStray    FaultKind = "late-stray"    // the same, but the other comes after Fault.Every
)

// FaultKinds are all that keep a prober from its answer, whatever the stage.
var FaultKinds = []FaultKind{Hang, Drop, HalfLine, Drip, EndlessLine, EndlessLines, Garbage, MixedCodes}

// Fault is one fault at one stage.
type Fault struct {
	Kind  FaultKind
	Reply string        // for Say and Before; lines separated by "\n"
	Every time.Duration // for Drip and LateStray (0: 100 ms), and Before
	// First: only on the server's first so many connections; 0: on all.
	First int
	// After: the first so many replies of this stage on each connection are right.
	After int
}

// TLSMode is what comes of STARTTLS.
type TLSMode string

// The ways of STARTTLS. The zero value does not offer it.
const (
	TLSNone    TLSMode = ""
	TLSGood    TLSMode = "good"
	TLSRefuse  TLSMode = "refuse"  // 454
	TLSDrop    TLSMode = "drop"    // closed after 220
	TLSGarbage TLSMode = "garbage" // octets that are not TLS after 220
	TLSHang    TLSMode = "hang"    // nothing after 220
	TLSInject  TLSMode = "inject"  // replies in the clear together with the 220, then good
)

// Pipelining is how the server treats commands that arrive together.
type Pipelining string

// The ways of PIPELINING. The zero value offers it and does it.
const (
	PipelineGood    Pipelining = ""
	PipelineNone    Pipelining = "none"    // not offered (done all the same)
	PipelineDiscard Pipelining = "discard" // offered; what came with a command is thrown away
	PipelineDrop    Pipelining = "drop"    // offered; a command that came with another ends the session
	PipelineRefuse  Pipelining = "refuse"  // offered; a command that came with another gets 503
)

// Behaviour is what the server does. The zero Behaviour is a good server without
// users. It must not be changed once it is in use; see Server.SetBehaviour.
type Behaviour struct {
	// Users are the mailboxes that exist. Addresses are compared without regard to case.
	Users     []string
	Full      []string          // they get FullReply
	Replies   map[string]string // by address in lower case: the reply to RCPT
	AcceptAll bool
	// Decide, when set, gives the reply to RCPT; "" means that the fields above decide.
	Decide func(recipient string) string
	// DecideAfter is Decide that is also given how many RCPT the session has refused.
	DecideAfter func(recipient string, refusals int) string
	Unknown     string // reply for the others; %s is the address
	FullReply   string

	// SizeMax is the argument of SIZE in the EHLO reply (RFC 1870): larger messages get
	// 552 5.3.4 at MAIL. 0: 10,240,000 octets; negative: SIZE is not offered, and a
	// parameter gets 555.
	SizeMax int64
	// Room is by address in lower case: recipients who get FullReply when SIZE in MAIL
	// says more octets.
	Room map[string]int64

	Senders map[string]string // by address in lower case, "" for <>: the reply to MAIL

	Delays       map[Stage]time.Duration // before a reply
	RefusalDelay time.Duration           // before a 4xx or 5xx to RCPT (tarpit)
	Faults       map[Stage]Fault
	// HoldReplies is how Postfix pipelines: replies are sent only when it waits for the
	// next command, so that a slow RCPT holds back the reply to MAIL.
	HoldReplies bool
	FlushEach   bool // each reply in its own write; else those to pipelined commands together

	NoEHLO     bool // 502 to EHLO
	DropOnEHLO bool
	SMTPUTF8   bool
	Pipelining Pipelining
	STARTTLS   TLSMode
	NeedTLS    bool // 454 to RCPT without TLS

	NoRset                  bool // 502 to RSET
	DropAfterRset           bool
	DropAfterProbes         int // closes after so many replies to RCPT
	DropAfterRefusals       int // closes after so many 4xx and 5xx to RCPT
	RecipientsPerConnection int // 452 4.5.3 to any more
	MaxConnections          int // 421 at the banner to any more
	HoldConnections         int // any more get no banner until others have gone

	Postfix Postfix
	// Postscreen is postscreen(8) with deep protocol tests in front of the server: no
	// PIPELINING, and 450 4.3.2 to every RCPT, in sessions that begin before one that
	// has named a recipient has ended.
	Postscreen bool
}

// Postfix is how smtpd(8) treats clients that err; the zero value does not. It delays
// each reply once SoftLimit errors were made, and ends the session with 421 at
// HardLimit. RSET beyond JunkLimit counts as an error (postconf(5):
// smtpd_soft_error_limit, smtpd_hard_error_limit, smtpd_junk_command_limit,
// smtpd_error_sleep_time).
type Postfix struct {
	SoftLimit, HardLimit, JunkLimit int
	Sleep                           time.Duration
}

// PostfixDefaults are Postfix's own.
var PostfixDefaults = Postfix{SoftLimit: 10, HardLimit: 20, JunkLimit: 100, Sleep: time.Second}

const (
	defaultUnknown = "550 5.1.1 <%s>: Recipient address rejected: User unknown in relay recipient table"
	defaultFull    = "452 4.2.2 <%s>: mailbox is full"
)
