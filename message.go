// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
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
