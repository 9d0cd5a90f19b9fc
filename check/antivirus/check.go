// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"rcptgate"
)

// Reasons of the check's verdicts.
const (
	ReasonVirus     rcptgate.Reason = "virus"
	ReasonUnscanned rcptgate.Reason = "unscanned"
)

// stepName is the step's name in traces, and the source of its verdicts.
const stepName = "antivirus"

// Words of the configuration.
const (
	proceed  = "continue"
	reject   = "reject"
	tempfail = "tempfail"
	discard  = "discard"
	hold     = "hold"
	mark     = "mark"
)

// Check looks for viruses in messages.
type Check struct {
	cfg    *Config
	pool   *pool
	counts *counts
}

// class is what came of a scan.
type class uint8

const (
	clean class = iota
	infected
	ignored   // clean but for a signature that does not count
	tooLarge  // not looked at, or not at all of it, because of its size
	unscanned // nobody could say
	classes
)

func (c class) String() string {
	return [...]string{"clean", "infected", "ignored", "too-large", "unscanned"}[c]
}

// Scan looks into q's message, once, and leaves in it what it found.
func (c *Check) Scan(ctx context.Context, q *rcptgate.Query) { c.look(ctx, q) }

// look gives the class of q's message.
func (c *Check) look(ctx context.Context, q *rcptgate.Query) class {
	m := q.Message
	switch {
	case m == nil:
		return unscanned // a front that has no messages
	case m.Scanned && m.Virus != "":
		return infected
	case m.Scanned && m.Unscanned != "":
		return unscanned
	case m.Scanned:
		return clean
	}
	start := time.Now()
	what, name, why := c.scan(ctx, m)
	m.Scanned = true
	switch what {
	case infected:
		m.Virus = name
		c.counts.remember(q)
	case tooLarge, unscanned:
		m.Unscanned = rcptgate.CleanText(strings.ReplaceAll(why, "\n", " "))
	case ignored:
		q.Trace.Note("the signature " + name + " is ignored")
	case clean, classes:
	}
	c.counts.add(what, time.Since(start))
	return what
}

// scan looks into a message. Name is a signature's, why is why a message was not scanned.
func (c *Check) scan(ctx context.Context, m *rcptgate.Message) (what class, name, why string) {
	if !m.Has(rcptgate.WantHeader | rcptgate.WantBody) {
		return unscanned, "", "the MTA's connection is older than the configuration: it sends no messages"
	}
	open, size := raw(m)
	switch {
	case m.Cut:
		return tooLarge, "", fmt.Sprintf("larger than %v, the limit of body in [milter] or of max_size", c.cfg.MaxSize)
	case size > int64(c.cfg.MaxSize):
		return tooLarge, "", fmt.Sprintf("larger than max_size (%v)", c.cfg.MaxSize)
	}
	found, err := c.pool.Scan(ctx, open, size)
	switch {
	case err != nil:
		return unscanned, "", err.Error()
	case found.Name == "" && m.HeaderCut:
		// Not tooLarge, which by default passes: some kilobytes of short fields are enough, and
		// the field that says what the body is may be among those that are missing.
		return unscanned, "", headerCut
	case found.Name == "":
		return clean, "", ""
	case beyondLimits(found.Name):
		return tooLarge, found.Name, "its contents exceed the scanner's limits (" + found.Name + ")"
	}
	for i := range c.cfg.Ignore {
		switch {
		case !c.cfg.Ignore[i].Matches(found.Name):
		case m.HeaderCut:
			return unscanned, found.Name, headerCut
		default:
			return ignored, found.Name, ""
		}
	}
	return infected, found.Name, ""
}

const headerCut = "its header is too large"

// beyondLimits reports whether a signature only says that clamd's limits were exceeded
// (AlertExceedsMax in clamd.conf).
func beyondLimits(name string) bool { return strings.HasPrefix(name, "Heuristics.Limits.Exceeded") }

// ownField stands before the message: clamd takes a text for a message, and looks into its
// parts, only if it begins with a field that it knows, and senders choose theirs.
const ownField = "Received: from client by gateway with SMTP; Thu, 1 Jan 1970 00:00:00 +0000\r\n"

// raw is the message as it was received: open begins it anew, size is in octets.
func raw(m *rcptgate.Message) (open func() io.Reader, size int64) {
	n := len(ownField) + 2
	for i := range m.Fields {
		n += len(m.Fields[i].Name) + len(m.Fields[i].Value) + strings.Count(m.Fields[i].Value, "\n") + 3
	}
	var b strings.Builder
	b.Grow(n)
	b.WriteString(ownField)
	for i := range m.Fields {
		b.WriteString(m.Fields[i].Name)
		b.WriteByte(':')
		b.WriteString(strings.ReplaceAll(m.Fields[i].Value, "\n", "\r\n"))
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n")
	header := b.String()
	return func() io.Reader {
		if m.Size == 0 {
			return strings.NewReader(header)
		}
		return io.MultiReader(strings.NewReader(header), io.NewSectionReader(m.Body, 0, m.Size))
	}, int64(len(header)) + m.Size
}

// Check implements rcptgate.Check, for the end of a message.
func (c *Check) Check(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	what := c.look(ctx, q)
	v := c.verdict(what, q.Message)
	if v.Action.Refuses() || v.Action == rcptgate.Discard {
		return v, nil
	}
	if err := c.mark(what, q.Message); err != nil {
		return rcptgate.Verdict{}, err
	}
	return v, nil
}

// verdict is what the configuration says of a class.
func (c *Check) verdict(what class, m *rcptgate.Message) (v rcptgate.Verdict) {
	switch what {
	case clean, ignored, classes:
		return rcptgate.Verdict{}
	case infected:
		v = rcptgate.Verdict{Action: actions[c.cfg.Infected], Reason: ReasonVirus, Source: stepName}
		switch v.Action {
		case rcptgate.Reject:
			v.Fit(550, "5.7.1", "Message refused: it contains a virus ("+m.Virus+")")
		case rcptgate.Hold:
			v.Text = "virus " + m.Virus
		case rcptgate.Continue, rcptgate.Accept, rcptgate.Tempfail, rcptgate.Discard, rcptgate.DiscardRecipient:
		}
	case tooLarge:
		v = rcptgate.Verdict{Action: actions[c.cfg.TooLarge], Reason: ReasonUnscanned, Source: stepName}
		if v.Action.Refuses() {
			v.Fit(map[rcptgate.Action]int{rcptgate.Reject: 552, rcptgate.Tempfail: 451}[v.Action], "5.3.4", "Message is too large to be scanned for viruses")
		}
	case unscanned:
		v = rcptgate.Verdict{Action: actions[c.cfg.Unscanned], Reason: ReasonUnscanned, Source: stepName}
		if v.Action.Refuses() {
			v.Fit(451, "4.7.1", "Message cannot be scanned for viruses at the moment")
		}
	}
	return v
}

var actions = map[string]rcptgate.Action{
	proceed: rcptgate.Continue, mark: rcptgate.Continue, reject: rcptgate.Reject, tempfail: rcptgate.Tempfail, discard: rcptgate.Discard, hold: rcptgate.Hold,
}

// mark has a header field say what was found, in the place of those that the sender wrote.
func (c *Check) mark(what class, m *rcptgate.Message) error {
	name := c.cfg.header()
	if name == "" || m == nil {
		return nil
	}
	value := "clean"
	switch what {
	case infected:
		value = "infected (" + m.Virus + ")"
	case tooLarge, unscanned:
		value = "not scanned (" + m.Unscanned[:min(len(m.Unscanned), 400)] + ")"
	case clean, ignored, classes:
	}
	for i := range m.CountHeader(name) {
		if err := m.DeleteHeader(name, i+1); err != nil {
			return err
		}
	}
	return m.AddHeader(name, value)
}

// wants is what the check needs from the MTA.
func (c *Check) wants() rcptgate.Wants {
	w := rcptgate.WantHeader | rcptgate.WantBody
	if c.cfg.header() != "" {
		w |= rcptgate.EditHeader
	}
	if c.cfg.Infected == hold {
		w |= rcptgate.Quarantine
	}
	return w
}
