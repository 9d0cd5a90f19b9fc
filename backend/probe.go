// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"errors"
	"strconv"
	"time"

	"rcptgate"
	"rcptgate/address"
)

// Probe is one question about a recipient.
type Probe struct {
	Sender    string // reverse-path without brackets; empty for <>
	Recipient rcptgate.Mailbox
	// Fresh asks for a connection that is opened for this question. A server may keep
	// old data for as long as a session lasts: Postfix looks for changed hash: and
	// other indexed tables only between two sessions of an smtpd process. The
	// connection may be kept afterwards. A fresh question costs one connection.
	Fresh bool
	// Size is the message's size in octets; 0: unknown. It becomes the SIZE parameter
	// of MAIL (RFC 1870) where the server offers that, capped at the server's limit, so
	// that the server can take the room in the mailbox into account.
	Size int64
	// Doubted, if set, is called when the server turns out to have sent more replies on
	// the connection than it was asked for, after this question was answered there:
	// the reply may have belonged to another command, and what it taught should be
	// forgotten. It is called at most once, possibly minutes later (up to
	// Config.ConnectionAge), by another goroutine, and possibly before the caller has
	// dealt with the reply. It must not block.
	Doubted func()
	// Due is when the asker stops waiting for the answer. If the backend has not answered
	// MAIL by then, its breaker opens, or a trial decides whether it does; the probe itself
	// goes on until its context ends. Zero: ten seconds after the probe got its connection.
	Due time.Time
}

// question is a Probe as it goes into commands.
type question struct {
	sender, recipient string
	size              int64  // octets; 0: unknown
	doubted           func() // see Probe.Doubted
	utf8, senderUTF8  bool   // the recipient, or the sender, needs SMTPUTF8
}

// addressMax bounds what is written: a path of 512 octets is twice what RFC 5321
// section 4.5.3.1.3 allows, and local parts over 64 octets are real.
const addressMax = 512

// newQuestion refuses what could end a command early or begin another; kind says whose
// address that is.
func newQuestion(p *Probe) (q question, kind Kind, err error) {
	q.sender, q.senderUTF8, err = wireSender(p.Sender)
	if err != nil {
		return question{}, KindBadSender, errors.New("sender: " + err.Error())
	}
	if err := writable(p.Recipient.Path); err != nil {
		return question{}, KindBadAddress, errors.New("recipient: " + err.Error())
	}
	if p.Recipient.Path == "" {
		return question{}, KindBadAddress, errors.New("recipient: empty")
	}
	q.size, q.doubted = p.Size, p.Doubted
	q.utf8 = address.NeedsUTF8(p.Recipient)
	q.recipient = address.Wire(p.Recipient, q.utf8)
	if !q.utf8 && !rcptgate.IsASCII(q.recipient) {
		q.utf8 = true // a domain that IDNA cannot write: let the backend judge it
	}
	return q, "", nil
}

// wireSender is the reverse-path as it goes into MAIL: its domain in A-labels unless the
// local part needs SMTPUTF8 anyway.
func wireSender(s string) (wire string, utf8 bool, err error) {
	if err := writable(s); err != nil || rcptgate.IsASCII(s) {
		return s, false, err
	}
	m := address.Parse(s)
	utf8 = address.NeedsUTF8(m)
	wire = address.Wire(m, utf8)
	return wire, utf8 || !rcptgate.IsASCII(wire), nil
}

// CheckSender reports why a reverse-path without brackets cannot be used in MAIL. A
// local part beyond ASCII can, where the server offers SMTPUTF8.
func CheckSender(s string) error { return writable(s) }

// nameOf is how a message names a character.
func nameOf(c byte) string {
	if c == ' ' {
		return "a space"
	}
	return string(rune(c))
}

// writable reports whether s may stand between "<" and ">" and be one path to every
// reader. Control characters may stand nowhere; brackets and spaces only inside
// quotes, which are a matter of the local part (RFC 5321 section 4.1.2). A backslash
// takes its meaning from the character behind it, inside quotes and outside: it must
// neither open a quotation for us that it does not open for the backend, nor escape the
// bracket that ends the path.
func writable(s string) error {
	if len(s) > addressMax {
		return errors.New("longer than 512 octets")
	}
	quoted, domain := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		escaped := c == '\\' && !domain
		if escaped {
			if i++; i == len(s) {
				return errors.New("ends with a backslash")
			}
			c = s[i]
		}
		switch {
		case c < ' ' || c == 0x7f:
			return errors.New("contains a control character")
		case (c == '<' || c == '>' || c == ' ') && !quoted:
			return errors.New("contains " + nameOf(c) + " outside quotes")
		case escaped:
		case domain && (c == '"' || c == '\\'):
			return errors.New("contains " + nameOf(c) + " in its domain")
		case c == '"':
			quoted = !quoted
		case c == '@' && !quoted:
			domain = true
		}
	}
	if quoted {
		return errors.New("quotes are not closed")
	}
	return nil
}

// The commands of a probe.
const (
	cmdRset = iota
	cmdMail
	cmdRcpt
)

func (c *conn) append(cmd int, q *question) {
	switch cmd {
	case cmdRset:
		c.out = append(c.out, "RSET\r\n"...)
	case cmdMail:
		c.out = append(append(append(c.out, "MAIL FROM:<"...), q.sender...), '>')
		if q.utf8 || q.senderUTF8 {
			c.out = append(c.out, " SMTPUTF8"...)
		}
		if size := c.sayable(q.size); size > 0 {
			c.out = strconv.AppendInt(append(c.out, " SIZE="...), size, 10)
		}
		c.out = append(c.out, "\r\n"...)
	case cmdRcpt:
		c.out = append(append(append(c.out, "RCPT TO:<"...), q.recipient...), ">\r\n"...)
	}
}

// sayable is the SIZE parameter for a message of so many octets; 0: none. A server
// refuses MAIL above its limit, and that says nothing about a recipient.
func (c *conn) sayable(size int64) int64 {
	switch {
	case !c.size || size <= 0:
		return 0
	case c.sizeMax > 0:
		return min(size, c.sizeMax)
	}
	return size
}

// outcome is what became of a question on one connection.
type outcome struct {
	reply     Reply    // to RCPT, when fail is nil
	fail      *Failure // else
	keep      bool     // the connection can carry another question
	pipelined bool     // several commands went out in one write
	rsetNo    bool     // RSET was refused
	notQuiet  bool     // something had arrived before anything was asked
	owed      int      // replies to what was written that have not been read
}

// took is the time of a probe that was answered, else 0.
func (o *outcome) took() time.Duration {
	if o.fail != nil {
		return 0
	}
	return o.reply.Elapsed
}

const (
	// pipelineStall is how long a backend that has not yet shown that it can pipeline
	// may take between two replies to one write, before it is asked again without.
	// Longer than Postfix sleeps (smtpd_error_sleep_time and in_flow_delay are 1 s
	// each), and short enough to leave time for the second question.
	pipelineStall = 3 * time.Second
	// drainWait bounds reading a reply that does not matter.
	drainWait = 2 * time.Second
)

// ask puts q to the backend in one transaction of its own. The clock is running.
func (c *conn) ask(q *question, pipeline, proven bool) outcome {
	start := c.clockSet
	first := cmdMail
	if c.dirty {
		first = cmdRset
	}
	out := outcome{pipelined: pipeline}
	if (q.utf8 || q.senderUTF8) && !c.utf8 {
		if err := c.quiet(); c.kept && err != nil { // it has ended: what the server offers may have changed
			out.fail, out.notQuiet, out.pipelined = c.failure(StageMail, err), true, false
			return out
		}
		out.fail, out.keep = c.withoutUTF8(q), true
		return out
	}
	c.dirty, c.together = true, pipeline
	for cmd := first; cmd <= cmdRcpt; cmd++ {
		rep, err := c.exchange(q, cmd, first, pipeline)
		if err != nil {
			out.fail = c.failure(stageOf(cmd), err)
			if c.sock.unquiet {
				out.notQuiet, out.pipelined = true, false
			}
			return out
		}
		if rep.Code >= 400 {
			c.errors++
		}
		if pipeline {
			out.owed = cmdRcpt - cmd
		}
		if c.judge(&out, cmd, rep) {
			break
		}
		if pipeline && !proven {
			c.stallAfter(c.b.tune.stall)
		}
	}
	c.finish(&out, start)
	if out.fail == nil {
		c.trust(q.doubted)
	}
	return out
}

// withoutUTF8 is why q cannot be asked on c.
func (c *conn) withoutUTF8(q *question) *Failure {
	switch {
	case !q.utf8:
		return c.b.failure(StageMail, KindBadSender, errors.New("the sender needs SMTPUTF8, which the backend does not offer"))
	case c.unheard:
		return c.b.failure(StageEHLO, KindUncertain, errors.New("the address needs SMTPUTF8, and the backend does not answer EHLO"))
	}
	return c.b.failure(StageMail, KindUnsupported, errors.New("the address needs SMTPUTF8, which the backend does not offer"))
}

// errUnasked: there are more replies than commands.
var errUnasked = garbage("a reply to no command")

func stageOf(cmd int) Stage {
	if cmd == cmdRcpt {
		return StageRcpt
	}
	return StageMail
}

func (c *conn) exchange(q *question, cmd, first int, pipeline bool) (Reply, error) {
	if cmd == first || !pipeline {
		if c.in.pending() {
			c.doubt()
			return Reply{}, errUnasked
		}
		c.out = c.out[:0]
		c.append(cmd, q)
		for next := cmd + 1; pipeline && next <= cmdRcpt; next++ {
			c.append(next, q)
		}
		send := c.write
		if cmd == first {
			send = c.send
		}
		if err := send(); err != nil {
			return Reply{}, err
		}
	}
	return c.in.next(cmd == cmdRcpt)
}

// judge looks at the reply to cmd and reports whether it is the last that matters.
func (c *conn) judge(out *outcome, cmd int, rep Reply) bool {
	switch cmd {
	case cmdRset:
		if rep.Code/100 == 2 {
			return false
		}
		out.fail, out.rsetNo = c.refused(StageMail, rep), true
		if !unimplemented(rep.Code) && rep.Code != 421 {
			c.doubt() // a late reply to the question before
		}
		return true
	case cmdMail:
		if rep.Code != 421 && rep.Code/100 != 3 {
			c.mailAnswered = true
			c.b.breaker.answered()
		}
		if rep.Code/100 == 2 {
			return false
		}
		out.fail = c.refused(StageMail, rep)
		out.keep = rep.Code != 421 && (!out.pipelined || c.drain(out))
		return true
	}
	out.keep = rep.Code != 421
	if rep.Code/100 == 3 {
		out.fail, out.keep = c.refused(StageRcpt, rep), false
	} else {
		out.reply = rep
	}
	return true
}

// drain reads the reply to a RCPT that followed a refused MAIL.
func (c *conn) drain(out *outcome) bool {
	if soon := time.Now().Add(drainWait); soon.Before(c.until) {
		c.until = soon
	}
	c.late = true // the breaker has heard of MAIL already
	c.wait()
	rep, err := c.in.next(false)
	if rep.Code >= 400 {
		c.errors++
	}
	out.owed--
	return err == nil && rep.Code != 421
}

func (c *conn) finish(out *outcome, start time.Time) {
	c.used = time.Now()
	out.reply.Elapsed = c.used.Sub(start)
	out.reply.ConnAge = start.Sub(c.began)
	out.reply.ConnAsked, out.reply.ConnRefused = c.probes, c.refusals
	if out.fail == nil {
		c.probes++
		if out.reply.Code >= 400 {
			c.refusals++
		}
	}
	if c.aborted.Load() {
		out.keep = false
	}
	if c.in.pending() {
		out.keep = false
		rep, err := c.in.next(false)
		if err == nil && rep.Code == 421 || out.owed > 0 {
			return
		}
		c.doubt()
		if out.fail == nil {
			// Which of the replies was the one to RCPT cannot be known.
			out.fail, out.reply = c.failure(StageRcpt, errUnasked), Reply{}
		}
	}
}
