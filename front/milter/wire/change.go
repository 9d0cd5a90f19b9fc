// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"encoding/binary"
	"fmt"
)

// Replies that change a message (SMFIR_*). A filter sends any number of them before its
// reply to CmdEndOfMsg, and at no other time.
const (
	ChangeAddHeader    = 'h' // name, value: at the end of the header
	ChangeReplaceBody  = 'b' // a part of the new body
	ChangeAddRcpt      = '+' // address
	ChangeAddRcptArgs  = '2' // address, ESMTP arguments
	ChangeDelRcpt      = '-' // address
	ChangeHeader       = 'm' // index, name, value: empty to delete the field
	ChangeInsertHeader = 'i' // index, name, value
	ChangeQuarantine   = 'q' // reason
	ChangeSender       = 'e' // address, ESMTP arguments
)

// Action flags (SMFIF_*) that a filter needs for its changes.
const (
	ActAddHeaders    = 0x1
	ActChangeBody    = 0x2
	ActAddRcpt       = 0x4
	ActDelRcpt       = 0x8
	ActChangeHeaders = 0x10
	ActQuarantine    = 0x20
	ActChangeSender  = 0x40
	ActAddRcptArgs   = 0x80
)

// BodyMax is how much of a body one frame may carry, in octets (MILTER_CHUNK_SIZE).
const BodyMax = 65535

// Change is one change of a message.
type Change struct {
	Kind  byte
	Index uint32 // of ChangeHeader (from 1 within the fields of that name) and ChangeInsertHeader
	// Name is a field's name, an address in angle brackets, or the reason of a quarantine.
	Name  string
	Value string // a field's value; arguments of an address
	Body  []byte
}

// Needs gives the action flag that must have been agreed on for a kind of change; 0 for
// what is not a change.
func Needs(kind byte) uint32 {
	switch kind {
	case ChangeAddHeader, ChangeInsertHeader:
		return ActAddHeaders
	case ChangeReplaceBody:
		return ActChangeBody
	case ChangeAddRcpt:
		return ActAddRcpt
	case ChangeAddRcptArgs:
		return ActAddRcptArgs
	case ChangeDelRcpt:
		return ActDelRcpt
	case ChangeHeader:
		return ActChangeHeaders
	case ChangeQuarantine:
		return ActQuarantine
	case ChangeSender:
		return ActChangeSender
	}
	return 0
}

// AppendChange appends the frame of a change. A NUL inside a string would end it there.
func AppendChange(dst []byte, c *Change) []byte {
	start := len(dst)
	dst = Begin(dst, c.Kind)
	switch c.Kind {
	case ChangeReplaceBody:
		return End(append(dst, c.Body...), start)
	case ChangeHeader, ChangeInsertHeader:
		dst = binary.BigEndian.AppendUint32(dst, c.Index)
	}
	dst = AppendString(dst, c.Name)
	switch c.Kind {
	case ChangeAddHeader, ChangeHeader, ChangeInsertHeader:
		dst = AppendString(dst, c.Value)
	case ChangeAddRcptArgs, ChangeSender:
		if c.Value != "" {
			dst = AppendString(dst, c.Value)
		}
	}
	return End(dst, start)
}

// ParseChange reads the data of a change; its Body is part of the frame.
func ParseChange(kind byte, data []byte) (Change, error) {
	c := Change{Kind: kind}
	bad := func(why string) (Change, error) {
		return Change{}, fmt.Errorf("%w: change %q %s", ErrFrame, kind, why)
	}
	if Needs(kind) == 0 {
		return bad("is unknown")
	}
	if kind == ChangeReplaceBody {
		if len(data) > BodyMax {
			return bad("is too long")
		}
		c.Body = data
		return c, nil
	}
	if kind == ChangeHeader || kind == ChangeInsertHeader {
		if len(data) < 4 {
			return bad("has no index")
		}
		c.Index, data = binary.BigEndian.Uint32(data), data[4:]
	}
	name, rest, ok := CutString(data)
	if !ok || len(name) == 0 {
		return bad("has no name, address or reason")
	}
	c.Name = string(name)
	hasValue := kind == ChangeAddHeader || kind == ChangeHeader || kind == ChangeInsertHeader
	if hasValue || len(rest) > 0 && (kind == ChangeAddRcptArgs || kind == ChangeSender) {
		value, after, ok := CutString(rest)
		if !ok {
			return bad("has a value without a final NUL")
		}
		c.Value, rest = string(value), after
	}
	if len(rest) > 0 {
		return bad("is followed by something")
	}
	return c, nil
}
