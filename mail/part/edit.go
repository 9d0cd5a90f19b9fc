// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode"

	"rcptgate/mail/splice"
)

// Bounds of edits, in octets.
const (
	AppendMax  = 64 << 10 // one text that is appended
	ContentMax = 4 << 20  // the content of one part
	editsMax   = 8 << 20  // everything that is written anew
)

var (
	// ErrCut is wrapped by the error of a change of a body that the front did not keep whole.
	ErrCut = errors.New("only the beginning of the message was kept")
	// ErrReplaced is wrapped by the error of a change of a part that was removed or replaced
	// before, or that is in one.
	ErrReplaced = errors.New("the part was removed or replaced before")
)

// change is what is done to one part.
type change struct {
	texts   []string // appended
	removed bool
	header  []field // instead of the part's own
	body    []byte
}

// field is a header field that is written.
type field struct{ name, value string }

// changed gives the part's change, to add to it.
func (p *Part) changed() *change {
	if p.change == nil {
		p.change = &change{}
		p.view.changed = true
	}
	return p.change
}

// replaces reports whether the part as it was is gone.
func (c *change) replaces() bool { return c != nil && (c.removed || c.header != nil) }

// replacedBy gives the part that was removed or replaced and that p is, or is in; nil if there
// is none.
func (p *Part) replacedBy() *Part {
	for q := p; q != nil; q = q.Parent {
		if q.change.replaces() {
			return q
		}
	}
	return nil
}

// spend accounts for octets that are written anew.
func (v *View) spend(n int) error {
	if v.msg.Cut {
		return fmt.Errorf("change the body: %w", ErrCut)
	}
	if v.written += n; v.written > editsMax {
		return fmt.Errorf("change the body: more than %d octets of new text", editsMax)
	}
	return nil
}

// AppendText appends text to what a reader sees as the message's text: to text/plain parts as
// it is, to text/html parts before </body>, as html or, if that is "", made from text. It is
// written in each part's own character set and transfer encoding. All alternatives get it; of
// other multiparts the first part that is not an attachment does. See [Outcome] for what gets
// nothing.
//
// Text in a plain part that says it is ASCII, or nothing, makes the part UTF-8 if it is not
// ASCII itself; a character that the part's character set does not have is written in ASCII.
func (v *View) AppendText(text, html string) ([]Outcome, error) {
	if len(text) > AppendMax || len(html) > AppendMax {
		return nil, fmt.Errorf("append a text of %d octets: at most %d are allowed", max(len(text), len(html)), AppendMax)
	}
	if err := v.scan(); err != nil {
		return nil, err
	}
	if html == "" {
		html = htmlOf(text)
	}
	out := v.root.body(nil)
	for i := range out {
		p := out[i].Part
		if out[i].Reason != "" {
			continue
		}
		s, err := p.find()
		if err != nil {
			return nil, err
		}
		if out[i].Reason = s.reason; s.reason != "" {
			continue
		}
		if p.isHTML() {
			err = p.append(asciiHTML(html))
		} else {
			err = p.append(text)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *Part) append(text string) error {
	if err := p.view.spend(4 * len(text)); err != nil { // encoded
		return err
	}
	c := p.changed()
	c.texts = append(c.texts, text)
	return nil
}

// Remove removes the part, and puts a note in its place, as plain text. Without a note the
// part disappears; a multipart keeps at least one part, if need be an empty one.
//
// In a multipart/signed this breaks the signature, and programs say so.
func (p *Part) Remove(note string) error {
	if note == "" && p.Parent != nil && p.Parent.IsMultipart() {
		if err := p.begin(0); err != nil {
			return err
		}
		p.changed().removed = true
		return nil
	}
	return p.Replace([]byte(strings.Join(textLines(note), "\r\n")+"\r\n"), "text/plain; charset=utf-8", "")
}

// begin checks that the part can be replaced, and forgets what was to be done in it.
func (p *Part) begin(octets int) error {
	if p.replacedBy() != nil {
		return fmt.Errorf("change the body: %w", ErrReplaced)
	}
	if err := p.view.spend(octets + 1024); err != nil {
		return err
	}
	p.forget()
	return nil
}

func (p *Part) forget() {
	p.change = nil
	for _, q := range p.Parts {
		q.forget()
	}
}

// Replace gives the part another content. The type is that of a Content-Type with its
// parameters; a multipart or a message is not allowed. A part with a name is an attachment.
// Of the part's header only fields that do not describe the content stay.
func (p *Part) Replace(content []byte, contentType, name string) error {
	if len(content) > ContentMax {
		return fmt.Errorf("replace a part: the content has more than %d octets", ContentMax)
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(kind, "/") || strings.HasPrefix(kind, "multipart/") || strings.HasPrefix(kind, "message/") {
		return fmt.Errorf("replace a part: %q is not the type of a single part", contentType)
	}
	if len(name) > 255 || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("replace a part: the name %.40q is too long or has control characters", name)
	}
	if name != "" {
		params["name"] = name
	}
	if strings.HasPrefix(kind, "text/") && params["charset"] == "" {
		params["charset"] = "utf-8"
	}
	described := mime.FormatMediaType(kind, params)
	if described == "" {
		return fmt.Errorf("replace a part: %q is not a Content-Type", contentType)
	}
	if err := p.begin(2 * len(content)); err != nil {
		return err
	}
	c := p.changed()
	encoding := "base64"
	if strings.HasPrefix(kind, "text/") {
		encoding = "quoted-printable"
		c.body = quoted(safeLines(content))
	} else {
		c.body = base64Lines(content)
	}
	disposition := "inline"
	if name != "" {
		disposition = mime.FormatMediaType("attachment", map[string]string{"filename": name})
	}
	c.header = []field{{"Content-Type", described}, {"Content-Transfer-Encoding", encoding}, {"Content-Disposition", disposition}}
	return nil
}

// Apply proposes what was changed to the message that the view is of: another body, and the
// header fields that belong to it. Without changes it does nothing. It is called once, after all
// changes. An error may be rcptgate.ErrNotAgreed.
func (v *View) Apply() error {
	if !v.changed {
		return nil
	}
	if v.applied {
		return errors.New("change the message: the changes were proposed already")
	}
	v.applied = true
	body, header, err := v.build()
	if err != nil {
		return err
	}
	if err := v.msg.ReplaceBody(body, body.Size()); err != nil {
		return err
	}
	for _, f := range header {
		n := v.msg.CountHeader(f.name)
		switch {
		case f.value == "":
			for i := 1; i <= n && err == nil; i++ {
				err = v.msg.DeleteHeader(f.name, i)
			}
		case n == 0:
			err = v.msg.AddHeader(f.name, f.value)
		default:
			for i := 2; i <= n && err == nil; i++ {
				err = v.msg.DeleteHeader(f.name, i)
			}
			if err == nil {
				err = v.msg.ChangeHeader(f.name, 1, f.value)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// build gives the changed body, and the fields of the message's header that go with it; one
// without a value is deleted.
func (v *View) build() (*splice.Splice, []field, error) {
	b := &builder{view: v}
	for _, p := range v.parts {
		if err := b.part(p); err != nil {
			return nil, nil, err
		}
	}
	texts := b.edits
	b.edits = nil // headers stand in front of texts
	for _, p := range v.parts {
		if err := b.setFields(p); err != nil {
			return nil, nil, err
		}
	}
	body, err := splice.New(v.source(), v.msg.Size, append(b.edits, texts...))
	return body, b.header, err
}
