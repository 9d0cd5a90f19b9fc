// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"errors"

	"go.starlark.net/starlark"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/mail"
	"rcptgate/mail/archive"
	"rcptgate/mail/part"
)

// Part is a part of a message.
type Part struct {
	object
	c *Call
	p *part.Part
	q *rcptgate.Query // that it belongs to
}

var partClass = newClass("part", "a part of a message, from msg.parts",
	member[*Part]{name: "type", sign: "string", doc: "its media type in lower case, such as \"text/plain\"", get: func(x *Part) starlark.Value { return text(x.p.Type) }},
	member[*Part]{name: "charset", sign: "string", doc: "its character set as written in the message; \"\" if there is none", get: func(x *Part) starlark.Value { return text(x.p.Charset) }},
	member[*Part]{name: "disposition", sign: "string", doc: "\"attachment\", \"inline\" or \"\"", get: func(x *Part) starlark.Value { return text(x.p.Disposition) }},
	member[*Part]{name: "attachment", sign: "bool", doc: "whether mail programs show it as an attachment and not as text", get: func(x *Part) starlark.Value { return starlark.Bool(x.p.IsAttachment()) }},
	member[*Part]{name: "filename", sign: "string", doc: "the file name that most mail programs show, decoded and without a path; \"\" if there is none", get: func(x *Part) starlark.Value { return text(x.p.Filename()) }},
	member[*Part]{name: "names", sign: "list of strings", doc: "every file name that some mail program may see: in Content-Disposition and in Content-Type, continued over several parameters, encoded in either way, or given twice", get: func(x *Part) starlark.Value { return listValue(x.p.Names()) }},
	member[*Part]{name: "ext", sign: "string", doc: "the extension of filename in lower case, without the dot", get: func(x *Part) starlark.Value { return text(x.p.Ext()) }},
	member[*Part]{name: "exts", sign: "list of strings", doc: "the extensions of all names", get: func(x *Part) starlark.Value { return listValue(x.p.Exts()) }},
	member[*Part]{name: "depth", sign: "int", doc: "its nesting depth; 0 is the message itself", get: func(x *Part) starlark.Value { return starlark.MakeInt(x.p.Depth) }},
	member[*Part]{name: "size", sign: "int", doc: "its decoded size in octets", try: (*Part).size},
	member[*Part]{name: "sha256", sign: "string", doc: "the SHA-256 of its decoded content, in hexadecimal digits", try: (*Part).sum},
	member[*Part]{name: "text", sign: "(max=65536) -> string", doc: "its text in UTF-8; HTML is not converted", call: (*Call).partText},
	member[*Part]{name: "zip_names", sign: "(max=1000) -> list of strings", doc: "the names of the files in it, if it is a zip, tar or gzip archive, including those in nested zip files", call: (*Call).zipNames},
	member[*Part]{name: "archive", sign: "(max=1000) -> struct", doc: "describes it as an archive: .kind (\"zip\", \"tar\", \"gzip\", \"rar\" ..., or \"\" if it is not an archive), .names, .encrypted (whether a password is needed), and .problem (why .names may be incomplete, else \"\")", call: (*Call).archive},
	member[*Part]{name: "remove", sign: "(note=\"\")", doc: "removes the part; a note takes its place", call: (*Call).removePart},
	member[*Part]{name: "replace", sign: "(content, type=\"text/plain\", name=\"\")", doc: "replaces the content of the part by a string or bytes", call: (*Call).replacePart},
)

// String and the rest make Part a value.
func (x *Part) String() string                           { return "part " + x.p.Type + " " + x.p.Filename() }
func (*Part) Type() string                               { return partClass.name }
func (*Part) Hash() (uint32, error)                      { return unhashable("a part") }
func (x *Part) AttrNames() []string                      { return partClass.names }
func (x *Part) Attr(name string) (starlark.Value, error) { return partClass.attr(x, name) }

// leaves are the parts that are not multiparts.
func (x *Msg) leaves() (starlark.Value, error) {
	parts, err := x.open().Parts()
	if err != nil {
		return nil, err
	}
	var out []starlark.Value
	for _, p := range parts {
		if !p.IsMultipart() {
			out = append(out, &Part{c: x.c, p: p, q: x.c.Query})
		}
	}
	return starlark.NewList(out), nil
}

func listValue(list []string) starlark.Value {
	out := make([]starlark.Value, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return starlark.NewList(out)
}

// alive reports an error if the part is held beyond its call.
func (x *Part) alive() error {
	if x.c.Query == nil || x.c.Query != x.q {
		return errOver
	}
	return nil
}

func (x *Part) size() (starlark.Value, error) {
	if err := x.alive(); err != nil {
		return nil, err
	}
	n, err := x.p.Size()
	return starlark.MakeInt64(n), err
}

func (x *Part) sum() (starlark.Value, error) {
	if err := x.alive(); err != nil {
		return nil, err
	}
	s, err := x.p.SHA256()
	return text(s), err
}

func (c *Call) partText(x *Part, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	n, err := textMax(b, args, kwargs)
	if err = errors.Join(err, x.alive()); err != nil {
		return nil, err
	}
	s, err := x.p.Text(n)
	return text(s), err
}

// listing lists the part as an archive. Messages are none, and are not searched for one.
func (x *Part) listing(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (l archive.Listing, err error) {
	most := 1000
	err = errors.Join(starlark.UnpackArgs(b.Name(), args, kwargs, "max?", &most), x.alive())
	if err != nil || len(x.p.Parts) > 0 {
		return l, err
	}
	if most < 1 || most > 10_000 {
		return l, errors.New("max: expected 1 to 10000")
	}
	return x.p.Archive(archive.Limits{Names: most})
}

func namesIn(l *archive.Listing) starlark.Value {
	out := make([]starlark.Value, len(l.Entries))
	for i := range l.Entries {
		out[i] = text(l.Entries[i].Name)
	}
	return starlark.NewList(out)
}

func (c *Call) zipNames(x *Part, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	l, err := x.listing(b, args, kwargs)
	return namesIn(&l), err
}

func (c *Call) archive(x *Part, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	l, err := x.listing(b, args, kwargs)
	if err != nil {
		return nil, err
	}
	locked := false
	for i := range l.Entries {
		locked = locked || l.Entries[i].Encrypted
	}
	return structure("archive", starlark.StringDict{"kind": text(l.Kind), "names": namesIn(&l), "encrypted": starlark.Bool(locked), "problem": text(l.Problem)}), nil
}

func (c *Call) removePart(x *Part, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	note := ""
	if err := errors.Join(starlark.UnpackArgs(b.Name(), args, kwargs, "note?", &note), x.alive()); err != nil {
		return nil, err
	}
	return starlark.None, x.p.Remove(note)
}

func (c *Call) replacePart(x *Part, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var content starlark.Value
	kind, name := "text/plain", ""
	if err := errors.Join(starlark.UnpackArgs(b.Name(), args, kwargs, "content", &content, "type?", &kind, "name?", &name), x.alive()); err != nil {
		return nil, err
	}
	switch v := content.(type) {
	case starlark.String:
		return starlark.None, x.p.Replace([]byte(v), kind, name)
	case starlark.Bytes:
		return starlark.None, x.p.Replace([]byte(v), kind, name)
	}
	return nil, errors.New("content is a string or bytes")
}

// mailboxOf reads an address of a header field.
func mailboxOf(a mail.Address) rcptgate.Mailbox { return address.Parse(a.Address) }

// keyOf is an address as it is compared.
func keyOf(s string) string {
	m := address.Parse(s)
	return canonical(&m)
}
