// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"context"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"time"

	"rcptgate"
	"rcptgate/mail"
)

// Limits of what a view reads.
const (
	// WorkMax is how many octets of the body the calls of one view may read together, in
	// addition to sixteen times the body's own. More is [ErrWork].
	WorkMax = 256 << 20
	// UnpackedMax is how many octets are unpacked from all archives of a message together.
	UnpackedMax = 256 << 20
	// TextMax is the most that Text gives, in octets of UTF-8.
	TextMax = 1 << 20
)

// ErrWork is wrapped by the error of a call that would read more than a view may.
var ErrWork = errors.New("too much of the message was read again and again")

// View is what a step sees of a message.
type View struct {
	ctx    context.Context
	msg    *rcptgate.Message
	header mail.Header
	limits mail.Limits
	left   int64 // octets that may still be read
	unpack int64 // and unpacked
	work   func(octets int) error

	scanned bool
	err     error
	root    *Part
	parts   []*Part
	word    string // what is malformed
	changed bool
	applied bool
	written int // octets that changes write anew
}

// Open gives a view of a message; nothing is read yet. When ctx ends, reading ends with its
// error.
func Open(ctx context.Context, m *rcptgate.Message) *View {
	return &View{ctx: ctx, msg: m, left: WorkMax + 16*m.Size, unpack: UnpackedMax}
}

// OnWork has a view call work with each number of octets that it has read or unpacked. Its error
// ends the call that needs them.
func (v *View) OnWork(work func(octets int) error) { v.work = work }

// worked accounts for octets that were read or unpacked.
func (v *View) worked(octets int) error {
	err := v.ctx.Err()
	if err == nil && v.work != nil {
		err = v.work(octets)
	}
	return err
}

// Header gives the message's fields. Their Start and End say nothing.
func (v *View) Header() mail.Header {
	if v.header == nil {
		v.header = make(mail.Header, len(v.msg.Fields))
		for i := range v.msg.Fields {
			f := &v.msg.Fields[i]
			v.header[i] = mail.Field{Name: f.Name, Raw: []byte(f.Value)}
		}
	}
	return v.header
}

// Subject gives the decoded subject, or "".
func (v *View) Subject() string { return v.Header().Text("Subject") }

// MessageID gives the Message-ID with its brackets, or "".
func (v *View) MessageID() string { return v.Header().Value("Message-ID") }

// From gives the addresses of all From fields, in order.
func (v *View) From() []mail.Address {
	var out []mail.Address
	for _, value := range v.Header().Values("From") {
		out = append(out, mail.Addresses(value)...)
	}
	return out
}

// Date gives the date that the sender wrote. It reports whether there is one that can be read.
func (v *View) Date() (time.Time, bool) {
	t, err := netmail.ParseDate(v.Header().Value("Date"))
	return t, err == nil
}

// scan takes the body apart, once.
func (v *View) scan() error {
	if v.scanned {
		return v.err
	}
	v.scanned = true
	m, err := mail.ScanBody(v.Header(), v.body(), int(v.msg.Size), v.limits)
	if err != nil {
		v.err = err
		return err
	}
	v.word = m.Malformed
	if v.msg.HeaderCut && v.word == "" {
		v.word = "header"
	}
	v.root = v.add(m.Part, nil)
	return nil
}

// add makes parts of what was scanned.
func (v *View) add(m *mail.Part, parent *Part) *Part {
	p := &Part{view: v, part: m, Parent: parent, Depth: m.Depth, Type: m.Media.Type, Charset: m.Media.Param("charset")}
	d := m.Disposition()
	p.Disposition = d.Type
	v.parts = append(v.parts, p)
	for _, inner := range m.Parts {
		p.Parts = append(p.Parts, v.add(inner, p))
	}
	return p
}

// Parts gives all parts, outermost first, in the message's order: the message itself is the
// first, multiparts and attached messages stand before what is in them.
func (v *View) Parts() ([]*Part, error) {
	err := v.scan()
	return v.parts, err
}

// Root gives the message itself as a part.
func (v *View) Root() (*Part, error) {
	err := v.scan()
	return v.root, err
}

// Malformed says in one word what is wrong with the message first, or is "": see
// [mail.Message].
func (v *View) Malformed() (string, error) {
	err := v.scan()
	return v.word, err
}

// Text gives the text that a reader sees first, at most max octets of UTF-8: the first
// text/plain part that is not an attachment, else the first text/html, as it is; "" if there
// is none.
func (v *View) Text(max int) (string, error) {
	if err := v.scan(); err != nil {
		return "", err
	}
	for _, kind := range []string{"text/plain", "text/html"} {
		for _, p := range v.parts {
			if p.Type == kind && !p.IsAttachment() {
				return p.Text(max)
			}
		}
	}
	return "", nil
}

// body gives the body to read within the view's bounds.
func (v *View) body() io.ReaderAt {
	if v.msg.Body == nil {
		return &bounded{view: v, in: eof{}}
	}
	return &bounded{view: v, in: v.msg.Body}
}

// bounded reads as long as the view may.
type bounded struct {
	view *View
	in   io.ReaderAt
}

func (b *bounded) ReadAt(p []byte, off int64) (int, error) {
	v := b.view
	if err := v.worked(len(p)); err != nil {
		return 0, err
	}
	if v.left -= int64(len(p)); v.left < 0 {
		return 0, fmt.Errorf("read the message: %w", ErrWork)
	}
	return b.in.ReadAt(p, off)
}

// eof is the body of a message without one.
type eof struct{}

func (eof) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
