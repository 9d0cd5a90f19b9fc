// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Action is what the MTA is to do.
type Action uint8

// The actions. Continue is the zero value: "nothing against it from here".
const (
	// Continue lets the following steps decide; at the end of the chain the
	// recipient is taken.
	Continue Action = iota
	// Accept takes the recipient and asks no further step. A front still tells the
	// MTA to go on, so that its other filters and later recipients are not skipped.
	Accept
	// Reject refuses for good (5xx).
	Reject
	// Tempfail refuses for the time being (4xx).
	Tempfail
	// Discard takes the message and throws it away, for all its recipients.
	Discard
	// DiscardRecipient takes the recipient and throws the message away for it alone. The
	// other recipients get it. A recipient that is discarded is not asked about further.
	DiscardRecipient
	// Hold takes the message and has the MTA hold it for a person to look at (Text says
	// why). The steps that follow are still asked: what they refuse is refused.
	Hold
)

// String gives the action's word as logs, metrics and JSON have it.
func (a Action) String() string {
	switch a {
	case Continue:
		return "continue"
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	case Tempfail:
		return "tempfail"
	case Discard:
		return "discard_message"
	case DiscardRecipient:
		return "discard"
	case Hold:
		return "hold"
	}
	return "unknown"
}

// Refuses reports whether the sender hears a refusal, permanent or temporary.
func (a Action) Refuses() bool { return a == Reject || a == Tempfail }

// Discards reports whether the recipient does not get the message although the sender
// hears that it was taken.
func (a Action) Discards() bool { return a == Discard || a == DiscardRecipient }

// Where a verdict came from, as well as the names of steps.
const (
	SourceRAM       = "ram"
	SourceDisk      = "disk"
	SourceMemcached = "memcached"
	SourceProbe     = "probe"
	SourceConfig    = "config"
	SourceAlias     = "alias" // the MTA's own tables
)

// Verdict is the answer to a query. The zero Verdict continues and says nothing.
type Verdict struct {
	Action Action
	// Would is the action that rehearsal (enforce = false) turned into Continue;
	// it is Continue when nothing was rehearsed. Code and Text stay as they would
	// have been.
	Would Action
	// Enforce has the verdict act where the gate rehearses: the step that gave it is
	// configured to enforce, and the most specific setting counts.
	Enforce bool
	// Code is the SMTP reply code, 400 to 599 for Reject and Tempfail, else what the
	// backend said (250) or 0. Its class always fits the action.
	Code int
	// Enhanced is the enhanced status code (RFC 3463), "5.1.1"; may be empty.
	Enhanced string
	// Text is for the sender, without codes; lines are separated by "\n". It has
	// been through CleanText.
	Text   string
	Reason Reason
	// Source says where the answer came from: "ram", "disk", "probe", a step's name.
	Source  string
	Backend string // the server that said it; never shown to the sender
	// Learnt and Expires bound a remembered answer's life; zero when there is none.
	Learnt  time.Time
	Expires time.Time
	// Follow names the mailboxes that the recipient stands for. It counts only in what a
	// step says, and only with Continue: the chain puts its remaining steps to them.
	Follow *Targets
}

// Texts of refusals that more than one package writes.
const (
	TextUnknownUser = "No such mailbox here"
	TextFull        = "Mailbox is full"
	TextTooLarge    = "Message is larger than this mailbox may hold"
	TextRefused     = "Recipient refused"
	TextDeferred    = "Recipient cannot take mail at the moment"
	TextUnverified  = "Recipient cannot be verified at the moment"

	TextUncheckedMail    = "Mail from here cannot be checked at the moment"
	TextUncheckedMessage = "Message cannot be checked at the moment"
)

// Fit makes code, enhanced status code and text of a refusal agree with its action.
// What the verdict has stays wherever it can; code, enhanced and text are what stands
// in for the rest (0 and "" are 550 or 451, and no enhanced code). 421 becomes 451, 521
// and 556 become 550: they would end the client's session, and other recipients with it.
func (v *Verdict) Fit(code int, enhanced, text string) {
	class, fallback := 5, 550
	if v.Action != Reject {
		class, fallback = 4, 451
	}
	switch {
	case v.Code == 421:
		v.Code = 451
	case v.Code == 521 || v.Code == 556:
		v.Code = 550
	}
	if v.Code/100 != class {
		v.Code = code
	}
	if v.Code/100 != class {
		v.Code = fallback
	}
	if v.Enhanced == "" || !strings.Contains("245", v.Enhanced[:1]) { // RFC 3463 section 3.1
		v.Enhanced = enhanced
	}
	if digit := byte('0' + class); v.Enhanced != "" && v.Enhanced[0] != digit {
		v.Enhanced = string(digit) + v.Enhanced[1:]
	}
	if v.Text == "" {
		v.Text = text
	}
	v.Text = CleanText(v.Text)
}

// replyLineMax and replyLinesMax bound a reply's text: SMTP lines are at most 512
// octets (RFC 5321 section 4.5.3.1.5), code and enhanced code included; an MTA
// takes up to 980 from a milter, but not every sender does.
const (
	replyLineMax  = 480
	replyLinesMax = 32
)

// CleanText makes another server's reply text fit to be sent on: control
// characters become spaces, octets that are not UTF-8 become "?", lines (separated
// by "\n") are cut at 480 octets and the text after 32 lines. It allocates only when something has to change.
func CleanText(s string) string {
	if isClean(s) {
		return s
	}
	var b strings.Builder
	for i, line := range strings.SplitN(s, "\n", replyLinesMax+1) {
		if i == replyLinesMax {
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(cleanLine(line))
	}
	return b.String()
}

func isClean(s string) bool {
	if len(s) > replyLineMax {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func cleanLine(line string) string {
	line = strings.ToValidUTF8(line, "?")
	line = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029:
			return ' '
		}
		return r
	}, strings.TrimRight(line, "\r"))
	if len(line) <= replyLineMax {
		return line
	}
	cut := replyLineMax
	for cut > 0 && !utf8.RuneStart(line[cut]) {
		cut--
	}
	return line[:cut]
}
