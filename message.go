// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Message is a message at its end: StageMessage. The front owns it and uses its memory
// again; a step must not keep it or what is in it. Whether there are fields and a body
// follows from what the front and the MTA agreed on: see Has.
type Message struct {
	// Recipients are those that will get it, in the order of RCPT: without the discarded.
	Recipients []Mailbox
	// Fields are the header's, in order, as the sender wrote them, the MTA's own Received
	// not among them.
	Fields []Field
	// Body is the body as it was sent, lines ending in CRLF, Size octets of it.
	Body io.ReaderAt
	Size int64
	// Cut says that Body is only the beginning of a longer one; HeaderCut that there are more
	// fields than the front keeps. A step that must see all of it treats such a message as
	// not seen.
	Cut       bool
	HeaderCut bool
	// Virus is the name of what a scanner found in the message; Unscanned why none could
	// say. Both are empty for a message that was scanned and is clean, and before a step
	// has scanned it (see Scanned).
	Virus     string
	Unscanned string
	Scanned   bool

	has       Wants
	edits     []Edit
	size      int // of the edits, in octets
	rehearsed bool
}

// Field is one header field.
type Field struct {
	Name string
	// Value is everything after the colon, its leading space included; continuation lines
	// are separated by "\n" and begin with their space or tab.
	Value string
}

// Text is the value without the space before and after it, in one line.
func (f *Field) Text() string {
	return strings.TrimSpace(strings.ReplaceAll(f.Value, "\n", ""))
}

// NewMessage makes an empty message of which has is what the front can give and do.
func NewMessage(has Wants) *Message { return &Message{has: has} }

// Begin empties m for the next message.
func (m *Message) Begin(has Wants) {
	clear(m.Fields)
	clear(m.Recipients)
	clear(m.edits)
	*m = Message{Recipients: m.Recipients[:0], Fields: m.Fields[:0], edits: m.edits[:0], has: has}
}

// Has reports whether the front and the MTA agreed on all of this. A configuration that
// wants more than the one before holds for new connections: until then steps meet messages
// without a body, and edits that are refused.
func (m *Message) Has(w Wants) bool { return m.has&w == w }

// Header finds the first field of a name; nil if there is none. Names ignore case.
func (m *Message) Header(name string) *Field {
	for i := range m.Fields {
		if strings.EqualFold(m.Fields[i].Name, name) {
			return &m.Fields[i]
		}
	}
	return nil
}

// nth finds the field at an index, from 1, of those of a name.
func (m *Message) nth(name string, index int) *Field {
	for i := range m.Fields {
		if strings.EqualFold(m.Fields[i].Name, name) {
			if index--; index == 0 {
				return &m.Fields[i]
			}
		}
	}
	return nil
}

// CountHeader is the number of fields of a name.
func (m *Message) CountHeader(name string) (n int) {
	for i := range m.Fields {
		if strings.EqualFold(m.Fields[i].Name, name) {
			n++
		}
	}
	return n
}

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
	EditsMax      = 200       // edits of one message
	editsSizeMax  = 256 << 10 // octets of all their names and values
	fieldValueMax = 64 << 10
	fieldNameMax  = 256
	fieldLineMax  = 998 // RFC 5322 section 2.1.1, without CRLF
	foldAt        = 78
	addressMax    = 512
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
	case len(m.edits) >= EditsMax:
		return fmt.Errorf("change the message: more than %d changes", EditsMax)
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

// checkFieldName holds what RFC 5322 section 2.2 says of names.
func checkFieldName(name string) error {
	if name == "" || len(name) > fieldNameMax {
		return fmt.Errorf("header field name of %d octets: 1 to %d are allowed", len(name), fieldNameMax)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("header field name %q: only printable ASCII without \":\" and spaces is allowed", name)
		}
	}
	return nil
}

// foldValue checks a value and gives it in lines that can be sent.
func foldValue(name, value string) (string, error) {
	switch {
	case len(value) > fieldValueMax:
		return "", fmt.Errorf("a value of %d octets: at most %d are allowed", len(value), fieldValueMax)
	case strings.ContainsAny(value, "\r\x00"):
		return "", errors.New("the value has a CR or NUL")
	}
	value = strings.TrimPrefix(value, " ") // as in Field.Value: the front writes it
	if !strings.Contains(value, "\n") {
		value = fold(value, len(name)+2)
	}
	first := len(name) + 2
	for i, line := range strings.Split(value, "\n") {
		switch {
		case i > 0 && (line == "" || line[0] != ' ' && line[0] != '\t'):
			return "", errors.New("a line of the value does not begin with a space: it would end the header or begin another field")
		case i > 0 && strings.Trim(line, " \t") == "":
			return "", errors.New("a line of the value is empty")
		case len(line)+first > fieldLineMax:
			return "", fmt.Errorf("a line of the value is longer than %d octets and has no space to fold it at", fieldLineMax)
		}
		first = 0
	}
	return value, nil
}

// fold breaks a value at spaces into lines of at most 78 octets where that is possible;
// used is what stands before it on the first line.
func fold(value string, used int) string {
	if used+len(value) <= foldAt {
		return value
	}
	var b strings.Builder
	for used+len(value) > foldAt {
		at := foldPoint(value, foldAt-used)
		if at < 0 {
			break
		}
		b.WriteString(value[:at])
		b.WriteByte('\n')
		value, used = value[at:], 0
	}
	b.WriteString(value)
	return b.String()
}

// foldPoint is where to break: before the last run of spaces that begins within limit, else
// the first one after it. Both sides have something else than spaces; -1 is nowhere.
func foldPoint(value string, limit int) int {
	first, last := len(value)-len(strings.TrimLeft(value, " \t")), len(strings.TrimRight(value, " \t"))
	best := -1
	for i := first + 1; i < last; i++ {
		if !isBlank(value[i]) || isBlank(value[i-1]) {
			continue
		}
		if i > limit && best >= 0 {
			break
		}
		if best = i; i > limit {
			break
		}
	}
	return best
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
