// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// EditKind says what an edit does.
type EditKind uint8

// The edits.
const (
	EditAddHeader EditKind = iota // at the end of the header
	EditInsertHeader
	EditChangeHeader
	EditDeleteHeader
	EditAddRecipient
	EditDeleteRecipient
	EditChangeSender
	EditReplaceBody
	EditHold
)

// Edit is one change that a step proposes. The front has the MTA make it if the message is
// taken.
type Edit struct {
	Kind  EditKind
	Index int    // of ChangeHeader and DeleteHeader: from 1, within the fields of that name
	Name  string // of a field; an address without brackets; why the message is held
	Value string // of a field, without its leading space
	Body  io.ReaderAt
	Size  int64
}

// Proposed are the edits so far, in the order of proposals.
func (m *Message) Proposed() []Edit { return m.edits }

// Amend gives a field that is proposed to be added or changed another value: at is the edit's
// place in Proposed.
func (m *Message) Amend(at int, value string) error {
	e := m.edits[at]
	var err error
	if e.Value, err = foldValue(e.Name, value); err != nil {
		return fmt.Errorf("header field %q: %w", e.Name, err)
	}
	return m.put(at, e)
}

// Edits are the edits to be made if the message is taken: those proposed, none in
// rehearsal.
func (m *Message) Edits() []Edit {
	if m.rehearsed {
		return nil
	}
	return m.edits
}

// Bounds of edits.
const (
	editsMax     = 200       // edits of one message
	editsSizeMax = 256 << 10 // octets of all their names and values
	addressMax   = 512
)

// ErrNotAgreed is wrapped by the error of an edit that the MTA was not asked for: the
// step does not say with Wants that it makes such edits, or the connection is older than the
// configuration, or the MTA does not offer it.
var ErrNotAgreed = errors.New("not agreed on with the MTA")

// AddHeader adds a field at the end of the header. Names have printable ASCII without ":".
// A value may have lines separated by "\n", each after the first beginning with a space or
// tab; a value in one line is folded where it is longer than 78 octets. CR, NUL and lines
// that stay longer than 998 octets are errors.
func (m *Message) AddHeader(name, value string) error {
	return m.field(EditHeader, Edit{Kind: EditAddHeader, Name: name, Value: value})
}

// InsertHeader adds a field at the top of the header, above those of earlier calls, and
// above the MTA's own Received. Values are as in AddHeader.
func (m *Message) InsertHeader(name, value string) error {
	return m.field(EditHeader, Edit{Kind: EditInsertHeader, Name: name, Value: value})
}

// ChangeHeader gives a field another value: the one at index, from 1, of those of its name.
func (m *Message) ChangeHeader(name string, index int, value string) error {
	return m.existing(Edit{Kind: EditChangeHeader, Name: name, Index: index, Value: value})
}

// DeleteHeader removes a field: the one at index, from 1, of those of its name. The others
// keep their index.
func (m *Message) DeleteHeader(name string, index int) error {
	return m.existing(Edit{Kind: EditDeleteHeader, Name: name, Index: index})
}

// AddRecipient adds an address, without brackets.
func (m *Message) AddRecipient(address string) error {
	return m.address(EditRecipients, Edit{Kind: EditAddRecipient, Name: address})
}

// DeleteRecipient removes the recipient at a position of Recipients.
func (m *Message) DeleteRecipient(at int) error {
	if at < 0 || at >= len(m.Recipients) {
		return fmt.Errorf("delete recipient %d: the message has %d", at, len(m.Recipients))
	}
	return m.address(EditRecipients, Edit{Kind: EditDeleteRecipient, Index: at, Name: m.Recipients[at].Path})
}

// ChangeSender gives the message another reverse-path, without brackets; "" is <>.
func (m *Message) ChangeSender(address string) error {
	return m.address(EditSender, Edit{Kind: EditChangeSender, Name: address})
}

// ReplaceBody gives the message another body of size octets, which must stay readable
// until the gate has answered the MTA. Lines end in CRLF or LF. A second call replaces the
// first.
func (m *Message) ReplaceBody(body io.ReaderAt, size int64) error {
	for i := range m.edits {
		if m.edits[i].Kind == EditReplaceBody {
			m.edits[i].Body, m.edits[i].Size = body, size
			return nil
		}
	}
	return m.propose(EditBody, Edit{Kind: EditReplaceBody, Body: body, Size: size})
}

// Hold has the MTA keep the message for a person to look at. The first reason counts.
func (m *Message) Hold(reason string) error {
	for i := range m.edits {
		if m.edits[i].Kind == EditHold {
			return nil
		}
	}
	return m.propose(Quarantine, Edit{Kind: EditHold, Name: CleanText(strings.ReplaceAll(reason, "\n", " "))})
}

func (m *Message) propose(needs Wants, e Edit) error {
	switch {
	case !m.Has(needs):
		return fmt.Errorf("change the message: %w", ErrNotAgreed)
	case len(m.edits) >= editsMax:
		return fmt.Errorf("change the message: more than %d changes", editsMax)
	}
	m.edits = append(m.edits, Edit{})
	if err := m.put(len(m.edits)-1, e); err != nil {
		m.edits = m.edits[:len(m.edits)-1]
		return err
	}
	return nil
}

// put replaces the edit at an index, if all of them stay within their bound.
func (m *Message) put(at int, e Edit) error {
	size := m.size + e.octets() - m.edits[at].octets()
	if size > editsSizeMax {
		return fmt.Errorf("change the message: changes of more than %d octets", editsSizeMax)
	}
	m.size, m.edits[at] = size, e
	return nil
}

func (e *Edit) octets() int { return len(e.Name) + len(e.Value) }

func (m *Message) field(needs Wants, e Edit) error {
	if err := checkFieldName(e.Name); err != nil {
		return err
	}
	value, err := foldValue(e.Name, e.Value)
	if err != nil {
		return fmt.Errorf("header field %q: %w", e.Name, err)
	}
	e.Value = value
	return m.propose(needs, e)
}

// existing proposes an edit of a field that is there. A second edit of one field replaces
// the first.
func (m *Message) existing(e Edit) error {
	if err := checkFieldName(e.Name); err != nil {
		return err
	}
	f := m.nth(e.Name, e.Index)
	if f == nil {
		return fmt.Errorf("header field %q has no number %d: there are %d", e.Name, e.Index, m.CountHeader(e.Name))
	}
	e.Name = f.Name // Postfix writes the name anew
	if e.Kind == EditChangeHeader {
		value, err := foldValue(e.Name, e.Value)
		if err != nil {
			return fmt.Errorf("header field %q: %w", e.Name, err)
		}
		if e.Value = value; value == "" {
			return fmt.Errorf("header field %q: an empty value would delete it", e.Name)
		}
	}
	for i := range m.edits {
		old := &m.edits[i]
		if (old.Kind == EditChangeHeader || old.Kind == EditDeleteHeader) && old.Index == e.Index && strings.EqualFold(old.Name, e.Name) {
			return m.put(i, e)
		}
	}
	return m.propose(EditHeader, e)
}

func (m *Message) address(needs Wants, e Edit) error {
	if len(e.Name) > addressMax || strings.ContainsAny(e.Name, "\r\n\x00<>") || e.Name == "" && e.Kind != EditChangeSender {
		return fmt.Errorf("%q is not an address that can be given to the MTA", CleanText(e.Name[:min(len(e.Name), addressMax)]))
	}
	for i := range len(e.Name) {
		if c := e.Name[i]; c < ' ' || c == 0x7f {
			return fmt.Errorf("address %q has a control character", CleanText(e.Name))
		}
	}
	return m.propose(needs, e)
}

// String says what an edit does, in a line for people.
func (e *Edit) String() string {
	value := strings.ReplaceAll(e.Value, "\n", "")
	switch e.Kind {
	case EditAddHeader:
		return "add header " + e.Name + ": " + value
	case EditInsertHeader:
		return "insert header " + e.Name + ": " + value
	case EditChangeHeader:
		return "change header " + e.Name + ": " + value
	case EditDeleteHeader:
		return "delete header " + e.Name
	case EditAddRecipient:
		return "add recipient " + e.Name
	case EditDeleteRecipient:
		return "delete recipient " + e.Name
	case EditChangeSender:
		return "change sender to <" + e.Name + ">"
	case EditReplaceBody:
		return "replace body"
	case EditHold:
		return "hold " + e.Name
	}
	return "unknown"
}
