// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"fmt"
	"mime"
	"strings"

	"go.starlark.net/starlark"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/mail"
	"rcptgate/mail/part"
)

// Msg is a message at its end: the argument of message.
type Msg struct {
	object
	c    *Call
	view *part.View // nil until something is looked at
}

var msgClass = newClass("msg", "the whole message: the argument of message(). It has all attributes of mail, and:",
	append(with(mailClass, func(x *Msg) *Mail { return &x.c.mail }),
		member[*Msg]{name: "recipients", sign: "list of addresses", doc: "the recipients of the message", get: func(x *Msg) starlark.Value { return addresses(x.message().Recipients, nil) }},
		member[*Msg]{name: "dropped", sign: "list of addresses", doc: "the recipients that were discarded and do not get the message", get: (*Msg).dropped},
		member[*Msg]{name: "subject", sign: "string", doc: "the subject, decoded; \"\" if there is none", get: func(x *Msg) starlark.Value { return text(x.open().Subject()) }},
		member[*Msg]{name: "message_id", sign: "string", doc: "the Message-ID with its brackets; \"\" if there is none", get: func(x *Msg) starlark.Value { return text(x.open().MessageID()) }},
		member[*Msg]{name: "from_", sign: "list of addresses", doc: "the addresses in From, in lower case", get: (*Msg).from},
		member[*Msg]{name: "date", sign: "time.time or None", doc: "the date in the Date field; None if it is missing or cannot be parsed", get: (*Msg).date},
		member[*Msg]{name: "header", sign: "(name, raw=False) -> string or None", doc: "the first field with that name, decoded and unfolded; None if there is none. raw=True: as it was sent", call: (*Call).header},
		member[*Msg]{name: "headers", sign: "(name, raw=False) -> list", doc: "all fields with that name", call: (*Call).headers},
		member[*Msg]{name: "fields", sign: "list of (name, value)", doc: "the whole header, decoded, without the Received field that the MTA itself adds", get: (*Msg).fields},
		member[*Msg]{name: "size", sign: "int", doc: "the size of the body in octets", get: func(x *Msg) starlark.Value { return starlark.MakeInt64(x.message().Size) }},
		member[*Msg]{name: "cut", sign: "bool", doc: "whether the body was cut at the limit ([milter] body), or the header was cut", get: func(x *Msg) starlark.Value { return starlark.Bool(x.message().Cut || x.message().HeaderCut) }},
		member[*Msg]{name: "malformed", sign: "string or None", doc: "one word for the first fault in the message's structure, such as \"depth\" or \"boundary\"; None if there is none", try: (*Msg).malformed},
		member[*Msg]{name: "virus", sign: "string or None", doc: "the name of the virus that a scanner found; None if none was found, or if the message was not scanned yet (see scan())", get: func(x *Msg) starlark.Value { return orNone(x.message().Virus) }},
		member[*Msg]{name: "unscanned", sign: "string or None", doc: "why no scanner gave a result; None if one did, or if the message was not scanned yet", get: func(x *Msg) starlark.Value { return orNone(x.message().Unscanned) }},
		member[*Msg]{name: "text", sign: "(max=65536) -> string", doc: "the text that a reader sees first: the first text/plain part that is not an attachment. If there is none, the first text/html part, as HTML", call: (*Call).msgText},
		member[*Msg]{name: "parts", sign: "list of parts", doc: "all parts except multiparts, in the order of the message. A message that is not a multipart has itself as its only part", try: (*Msg).leaves},

		member[*Msg]{name: "add_header", sign: "(name, value, top=False)", doc: "adds a field at the end of the header, or at the top with top=True. Values that are not ASCII are encoded, and long values are folded", call: (*Call).addHeader},
		member[*Msg]{name: "change_header", sign: "(name, value, index=1)", doc: "replaces the value of a field. If several fields have the name, index selects one, counting from 1", call: (*Call).changeHeader},
		member[*Msg]{name: "delete_header", sign: "(name, index=None) -> int", doc: "removes the field at index, or all fields with that name; returns how many were removed", call: (*Call).deleteHeader},
		member[*Msg]{name: "tag_subject", sign: "(tag)", doc: "puts a tag before the subject, unless it is already there", call: (*Call).tagSubject},
		member[*Msg]{name: "add_recipient", sign: "(address)", doc: "adds a recipient", call: (*Call).addRecipient},
		member[*Msg]{name: "delete_recipient", sign: "(address) -> bool", doc: "removes a recipient; returns whether it was a recipient. A message without recipients is discarded", call: (*Call).deleteRecipient},
		member[*Msg]{name: "change_sender", sign: "(address)", doc: "changes the reverse-path of the message; \"\" is <>", call: (*Call).changeSender},
		member[*Msg]{name: "append_text", sign: "(text, html=\"\") -> int", doc: "appends a text, such as a disclaimer, to the parts that a reader sees as the message's text; returns how many parts were changed. Signed and encrypted messages are left unchanged. Without html, text is used in HTML parts too", call: (*Call).appendText},
	)...)

// String and the rest make Msg a value.
func (x *Msg) String() string                           { return "message " + x.c.query().QueueID }
func (*Msg) Type() string                               { return msgClass.name }
func (*Msg) Hash() (uint32, error)                      { return unhashable("a message") }
func (x *Msg) AttrNames() []string                      { return msgClass.names }
func (x *Msg) Attr(name string) (starlark.Value, error) { return msgClass.attr(x, name) }

func (x *Msg) begin() { x.view = nil }
func (x *Msg) end()   { x.view = nil }

// noMessage stands in for the message of a call that has ended.
var noMessage rcptgate.Message //nolint:gochecknoglobals // never written

func (x *Msg) message() *rcptgate.Message {
	if m := x.c.query().Message; m != nil {
		return m
	}
	return &noMessage
}

// open gives the view of the message.
func (x *Msg) open() *part.View {
	if x.view == nil {
		x.view = part.Open(x.c.context(), x.message())
		read := 0 // less than a step
		x.view.OnWork(func(octets int) error {
			read += octets
			steps := read / readAStep
			read %= readAStep
			return x.c.works(steps)
		})
	}
	return x.view
}

// Apply proposes the changes of the body that a function has asked for.
func (c *Call) Apply() error {
	if c.msg.view == nil {
		return nil
	}
	return c.msg.view.Apply()
}

func addresses(list []rcptgate.Mailbox, at []int) starlark.Value {
	var out []starlark.Value
	if at == nil {
		for i := range list {
			out = append(out, text(canonical(&list[i])))
		}
	}
	for _, i := range at {
		if i < len(list) {
			out = append(out, text(canonical(&list[i])))
		}
	}
	return starlark.NewList(out)
}

func (x *Msg) dropped() starlark.Value {
	t := &x.c.session().Mail
	return addresses(t.Recipients, append([]int{}, t.Dropped...))
}

func (x *Msg) from() starlark.Value {
	var out []starlark.Value
	for _, a := range x.open().From() {
		m := mailboxOf(a)
		out = append(out, text(canonical(&m)))
	}
	return starlark.NewList(out)
}

func (x *Msg) date() starlark.Value {
	if t, ok := x.open().Date(); ok {
		return timeValue(t)
	}
	return starlark.None
}

// fieldText is a field's value: decoded, or as it was sent without the space before it.
func fieldText(f *rcptgate.Field, raw bool) starlark.Value {
	if raw {
		return text(strings.TrimPrefix(f.Value, " "))
	}
	return text(mail.DecodeWords(f.Text()))
}

func (x *Msg) fields() starlark.Value {
	fields := x.message().Fields
	out := make([]starlark.Value, len(fields))
	for i := range fields {
		out[i] = starlark.Tuple{text(fields[i].Name), fieldText(&fields[i], false)}
	}
	return starlark.NewList(out)
}

func headerArguments(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (name string, raw bool, err error) {
	err = starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "raw?", &raw)
	return name, raw, err
}

func (c *Call) header(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	name, raw, err := headerArguments(b, args, kwargs)
	if err != nil {
		return nil, err
	}
	if f := x.message().Header(name); f != nil {
		return fieldText(f, raw), nil
	}
	return starlark.None, nil
}

func (c *Call) headers(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	name, raw, err := headerArguments(b, args, kwargs)
	if err != nil {
		return nil, err
	}
	var out []starlark.Value
	fields := x.message().Fields
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			out = append(out, fieldText(&fields[i], raw))
		}
	}
	return starlark.NewList(out), nil
}

func (x *Msg) malformed() (starlark.Value, error) {
	word, err := x.open().Malformed()
	return orNone(word), err
}

// textMax reads the argument max: octets, or "64KiB".
func textMax(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (int, error) {
	v := starlark.Value(starlark.MakeInt(64 << 10))
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "max?", &v); err != nil {
		return 0, err
	}
	if s, ok := starlark.AsString(v); ok {
		n, err := setting.ParseSize(s)
		return int(min(n, part.TextMax)), err
	}
	n, err := starlark.AsInt32(v)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("max: expected a number of octets, or a size such as \"64KiB\"")
	}
	return min(n, part.TextMax), nil
}

func (c *Call) msgText(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	n, err := textMax(b, args, kwargs)
	if err != nil {
		return nil, err
	}
	s, err := x.open().Text(n)
	return text(s), err
}

// encoded makes a value of a field that is fit to be sent: RFC 2047 where it is not ASCII.
// Control characters stay: they are for the message to refuse, and not to be hidden.
func encoded(s string) string {
	isASCII := true
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' {
			return s
		}
		isASCII = isASCII && s[i] < 0x80
	}
	if isASCII {
		return s
	}
	return mime.QEncoding.Encode("utf-8", strings.ToValidUTF8(s, "?"))
}

func (c *Call) addHeader(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name, value string
	top := false
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "value", &value, "top?", &top); err != nil {
		return nil, err
	}
	if x.c.Query == nil {
		return nil, errOver
	}
	if top {
		return starlark.None, x.message().InsertHeader(name, encoded(value))
	}
	return starlark.None, x.message().AddHeader(name, encoded(value))
}

func (c *Call) changeHeader(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name, value string
	index := 1
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "value", &value, "index?", &index); err != nil {
		return nil, err
	}
	return starlark.None, x.message().ChangeHeader(name, index, encoded(value))
}

func (c *Call) deleteHeader(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	at := starlark.Value(starlark.None)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "index?", &at); err != nil {
		return nil, err
	}
	m := x.message()
	if at != starlark.None {
		index, err := starlark.AsInt32(at)
		if err != nil {
			return nil, err
		}
		if index < 1 || index > m.CountHeader(name) {
			return starlark.MakeInt(0), nil
		}
		return starlark.MakeInt(1), m.DeleteHeader(name, index)
	}
	n := m.CountHeader(name)
	for i := n; i > 0; i-- {
		if err := m.DeleteHeader(name, i); err != nil {
			return nil, err
		}
	}
	return starlark.MakeInt(n), nil
}

func (c *Call) tagSubject(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var tag string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "tag", &tag); err != nil {
		return nil, err
	}
	m := x.message()
	at, value := subject(m)
	switch {
	case value == "" && at < 0 && m.Header("Subject") == nil:
		return starlark.None, m.AddHeader("Subject", encoded(tag))
	case value == "":
		return starlark.None, m.ChangeHeader("Subject", 1, encoded(tag))
	case strings.HasPrefix(mail.DecodeWords(strings.ReplaceAll(value, "\n", "")), tag):
		return starlark.None, nil
	}
	if word := encoded(tag); word != tag && strings.HasPrefix(value, "=?") {
		value = encoded(tag+" ") + " " + value // the space between encoded words is not shown
	} else {
		value = word + " " + value
	}
	if at >= 0 {
		return starlark.None, m.Amend(at, value)
	}
	return starlark.None, m.ChangeHeader("Subject", 1, value)
}

// subject is the value that the field will have after what is proposed so far: at is the edit
// that gives it the value, or -1. It is "" if there is no such field, or none any more.
func subject(m *rcptgate.Message) (at int, value string) {
	f := m.Header("Subject")
	for i, e := range m.Proposed() {
		if !strings.EqualFold(e.Name, "Subject") {
			continue
		}
		switch e.Kind {
		case rcptgate.EditAddHeader, rcptgate.EditInsertHeader:
			if f == nil {
				return i, e.Value
			}
		case rcptgate.EditChangeHeader, rcptgate.EditDeleteHeader:
			if e.Index == 1 {
				return i, e.Value
			}
		}
	}
	if f != nil {
		return -1, strings.TrimLeft(f.Value, " ")
	}
	return -1, ""
}

func oneAddress(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (string, error) {
	var s string
	err := starlark.UnpackArgs(b.Name(), args, kwargs, "address", &s)
	return strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">"), err
}

func (c *Call) addRecipient(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := oneAddress(b, args, kwargs)
	if err != nil {
		return nil, err
	}
	return starlark.None, x.message().AddRecipient(s)
}

func (c *Call) deleteRecipient(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := oneAddress(b, args, kwargs)
	if err != nil {
		return nil, err
	}
	found := false
	key := keyOf(s)
	for i := range x.message().Recipients {
		if canonical(&x.message().Recipients[i]) == key {
			if err := x.message().DeleteRecipient(i); err != nil {
				return nil, err
			}
			found = true
		}
	}
	return starlark.Bool(found), nil
}

func (c *Call) changeSender(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := oneAddress(b, args, kwargs)
	if err != nil {
		return nil, err
	}
	return starlark.None, x.message().ChangeSender(s)
}

func (c *Call) appendText(x *Msg, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var plain, html string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "text", &plain, "html?", &html); err != nil {
		return nil, err
	}
	list, err := x.open().AppendText(plain, html)
	if err != nil {
		return nil, err
	}
	n := 0
	for i := range list {
		if list[i].Reason == "" {
			n++
		}
	}
	return starlark.MakeInt(n), nil
}
