// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"rcptgate"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/term"
)

// changes forms what is done to a message that is taken, and writes it as it grows. The
// order is the one that is right for both MTAs:
//
//  1. Fields added at the end, behind those of their name: no index depends on them.
//  2. Fields changed and deleted, those of a name from the highest index down: Postfix
//     closes the gap of a deleted field, Sendmail only marks it.
//  3. Fields inserted at the top: they would move the others.
//  4. Recipients and the sender.
//  5. The body in one run: Postfix takes no part of it after another change.
//  6. The quarantine.
type changes struct {
	conn *conn
	left int // recipients that get the message
}

// appendChanges forms and partly writes the changes of a message that is taken, and gives
// the verdict to answer it with: discarded if nobody is left to get it. What is in c.out
// is to be written before the answer.
func (c *conn) appendChanges(v rcptgate.Verdict) (rcptgate.Verdict, error) {
	mail := &c.session.state.Mail
	var edits []rcptgate.Edit
	if c.letter.message != nil && c.wants&rcptgate.WantMessage != 0 {
		edits = c.letter.message.Edits()
	}
	ch := changes{conn: c}
	add := ch.recipients(edits)
	if ch.left == 0 && c.wants.Recipients() && len(mail.Recipients) > 0 {
		return rcptgate.Verdict{Action: rcptgate.Discard}, nil
	}
	ch.headers(edits)
	c.out = append(c.out, add...)
	body, hold := -1, mail.Hold
	for i := range edits {
		switch e := &edits[i]; e.Kind {
		case rcptgate.EditChangeSender:
			ch.send(wire.Change{Kind: wire.ChangeSender, Name: "<" + e.Name + ">"})
		case rcptgate.EditReplaceBody:
			body = i
		case rcptgate.EditHold:
			hold = cmp.Or(hold, e.Name, "held")
		}
	}
	if body >= 0 {
		switch err := ch.body(&edits[body]); {
		case errors.Is(err, errUnwritten):
			return v, err
		case err != nil:
			c.l.srv.log.Error("the new body of a message cannot be read; the sender is asked to try again later", "queue", c.session.mailID, "error", err)
			return notNow, nil
		}
	}
	if hold != "" {
		ch.send(wire.Change{Kind: wire.ChangeQuarantine, Name: quarantineReason(hold)})
	}
	return v, nil
}

func (ch *changes) send(change wire.Change) { ch.conn.out = wire.AppendChange(ch.conn.out, &change) }

// recipients forms the recipients that are removed and added.
//
// Both MTAs remove with a recipient what it stands for: Postfix knows of every address from
// which recipient it comes, and Sendmail follows aliases only after the message if a filter
// may remove recipients (srvrsmtp.c, milter_can_delrcpts).
func (ch *changes) recipients(edits []rcptgate.Edit) (out []byte) {
	c := ch.conn
	mail, arguments := &c.session.state.Mail, c.session.arguments
	gone := make([]bool, len(mail.Recipients))
	for _, at := range mail.Dropped {
		gone[at] = true
	}
	added := 0
	for i := range edits {
		switch e := &edits[i]; e.Kind {
		case rcptgate.EditDeleteRecipient:
			gone[c.letter.at[e.Index]] = true
		case rcptgate.EditAddRecipient:
			added++
			out = wire.AppendChange(out, &wire.Change{Kind: wire.ChangeAddRcpt, Name: "<" + e.Name + ">"})
		}
	}
	ch.left = added
	stays := make(map[string]bool) // mailboxes: Sendmail knows a local one in two spellings once
	for i := range gone {
		if !gone[i] {
			ch.left++
			stays[mail.Recipients[i].Key(true)] = true
		}
	}
	done := make(map[string]bool) // arguments: Postfix wants each spelling
	for i := range gone {
		if argument := arguments[i]; gone[i] && !done[argument] && !stays[mail.Recipients[i].Key(true)] {
			done[argument] = true
			out = wire.AppendChange(out, &wire.Change{Kind: wire.ChangeDelRcpt, Name: "<" + argument + ">"})
		}
	}
	return out
}

// headers forms the changes of the header.
func (ch *changes) headers(edits []rcptgate.Edit) {
	var existing []*rcptgate.Edit
	for i := range edits {
		switch e := &edits[i]; e.Kind {
		case rcptgate.EditAddHeader:
			ch.add(edits[:i], e)
		case rcptgate.EditChangeHeader, rcptgate.EditDeleteHeader:
			existing = append(existing, e)
		}
	}
	slices.SortStableFunc(existing, func(a, b *rcptgate.Edit) int { return b.Index - a.Index })
	for _, e := range existing {
		change := wire.Change{Kind: wire.ChangeHeader, Index: uint32(e.Index), Name: e.Name}
		if e.Kind == rcptgate.EditChangeHeader {
			change.Value = ch.value(e.Value)
		}
		ch.send(change)
	}
	for i := range edits {
		if e := &edits[i]; e.Kind == rcptgate.EditInsertHeader {
			ch.send(wire.Change{Kind: wire.ChangeInsertHeader, Name: e.Name, Value: ch.value(e.Value)})
		}
	}
}

// behind is an index behind all fields that a message can have.
const behind = 10_000

// add forms a field at the end of the header. Sendmail puts one whose name is there before
// the first of that name, and moves the index of all; it is inserted behind all instead.
// One whose name is not there is added: Sendmail then leaves out what it would write itself
// (Date, From, Message-Id).
func (ch *changes) add(before []rcptgate.Edit, e *rcptgate.Edit) {
	there := ch.conn.letter.message.Header(e.Name) != nil
	for i := range before {
		there = there || before[i].Kind == rcptgate.EditAddHeader && strings.EqualFold(before[i].Name, e.Name)
	}
	change := wire.Change{Kind: wire.ChangeAddHeader, Name: e.Name, Value: ch.value(e.Value)}
	if there {
		change.Kind, change.Index = wire.ChangeInsertHeader, behind
	}
	ch.send(change)
}

// value is a field's value as the MTA wants it: the space behind the colon is ours where
// that was agreed.
func (ch *changes) value(v string) string {
	if ch.conn.leadSpace {
		return " " + v
	}
	return v
}

// errUnwritten is wrapped by errors of the connection to the MTA.
var errUnwritten = errors.New("the MTA is gone")

// body writes the new body, its lines ending in CRLF. An empty one is a frame without data.
func (ch *changes) body(e *rcptgate.Edit) error {
	c := ch.conn
	in := &crlf{in: io.NewSectionReader(e.Body, 0, e.Size)}
	part := make([]byte, wire.BodyMax)
	for first := true; ; first = false {
		n, err := io.ReadFull(in, part)
		if n > 0 || first {
			ch.send(wire.Change{Kind: wire.ChangeReplaceBody, Body: part[:n]})
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if in.read != e.Size {
				return fmt.Errorf("%s of %d: %w", term.Count(in.read, "octet"), e.Size, io.ErrUnexpectedEOF)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.write(c.out); err != nil {
			return fmt.Errorf("%w: %w", errUnwritten, err)
		}
		c.out = c.out[:0]
	}
}

// crlf makes CRLF of every line end.
type crlf struct {
	in   io.Reader
	read int64 // octets of in
	raw  [4096]byte
	out  bytes.Buffer
	cr   bool // the last octet was a CR
	err  error
}

func (c *crlf) Read(p []byte) (int, error) {
	for c.out.Len() == 0 && c.err == nil {
		n, err := c.in.Read(c.raw[:])
		c.read += int64(n)
		for _, b := range c.raw[:n] {
			if b == '\n' && !c.cr {
				c.out.WriteByte('\r')
			}
			c.cr = b == '\r'
			c.out.WriteByte(b)
		}
		c.err = err
	}
	if c.out.Len() > 0 {
		return c.out.Read(p)
	}
	return 0, c.err
}
