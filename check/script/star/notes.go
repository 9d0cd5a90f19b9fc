// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.starlark.net/starlark"
)

// Bounds of notes: of one connection or one transaction.
const (
	notesMax     = 256      // entries
	notesSizeMax = 64 << 10 // octets of names and values
)

// ofClient and ofMail are whose notes they are.
const (
	ofClient = iota
	ofMail
)

// noteKey is where the script's notes are among those of a session.
const noteKey = "script"

// book is the notes of one connection or transaction.
type book struct {
	entries map[string]starlark.Value
	size    int
}

// Notes is what a script writes down for its later functions: a dictionary whose keys are
// strings, and whose values are strings, numbers, True, False, None, or lists of these.
type Notes struct {
	object
	c  *Call
	of int
}

var notesClass = newClass("notes", "a dictionary that lives as long as the connection (client.notes) or the transaction (mail.notes). Keys are strings; values are strings, numbers, True, False, None, or lists of these. At most 256 entries and 64 KiB",
	member[*Notes]{name: "get", sign: "(key, default=None) -> value", doc: "the value of a key, or the default", call: (*Call).notesGet},
	member[*Notes]{name: "pop", sign: "(key, default=None) -> value", doc: "removes a key and returns its value, or the default", call: (*Call).notesPop},
	member[*Notes]{name: "keys", sign: "() -> list", doc: "the keys, sorted", call: (*Call).notesKeys},
)

// find gives the book; with make, makes it if there is none yet.
func (x *Notes) find(create bool) *book {
	q := x.c.query()
	if q.Session == nil {
		return nil
	}
	notes := &q.Session.Notes
	if x.of == ofMail {
		notes = &q.Session.Mail.Notes
	}
	b, _ := (*notes)[noteKey].(*book)
	if b == nil && create {
		if *notes == nil {
			*notes = make(map[string]any)
		}
		b = &book{entries: make(map[string]starlark.Value)}
		(*notes)[noteKey] = b
	}
	return b
}

func (x *Notes) value(key string) (starlark.Value, bool) {
	b := x.find(false)
	if b == nil {
		return nil, false
	}
	v, ok := b.entries[key]
	return v, ok
}

// Get, SetKey and the rest make Notes a value and a mapping.
func (x *Notes) Get(key starlark.Value) (starlark.Value, bool, error) {
	name, ok := key.(starlark.String)
	if !ok {
		return nil, false, errors.New("keys of notes are strings")
	}
	v, found := x.value(string(name))
	return v, found, nil
}

// SetKey writes a note down.
func (x *Notes) SetKey(key, v starlark.Value) error {
	name, ok := key.(starlark.String)
	if !ok {
		return errors.New("keys of notes are strings")
	}
	kept, size, err := noted(v)
	if err != nil {
		return fmt.Errorf("notes[%s]: %w", name, err)
	}
	b := x.find(true)
	if b == nil {
		return nil // a question without a session: there is no later one
	}
	old, known := b.entries[string(name)]
	if known {
		_, was, _ := noted(old)
		b.size -= was + len(name)
	}
	if len(b.entries) >= notesMax && !known || b.size+size+len(name) > notesSizeMax {
		if known {
			_, was, _ := noted(old)
			b.size += was + len(name)
		}
		return fmt.Errorf("notes are full: at most %d entries and %d octets are allowed", notesMax, notesSizeMax)
	}
	b.entries[string(name)] = kept
	b.size += size + len(name)
	return nil
}

// noted copies a value that may be written down, and gives its size in octets.
func noted(v starlark.Value) (starlark.Value, int, error) {
	switch v := v.(type) {
	case starlark.NoneType, starlark.Bool, starlark.Float:
		return v, 8, nil
	case starlark.Int:
		return v, 8 + v.BigInt().BitLen()/8, nil
	case starlark.String:
		return v, 16 + len(v), nil
	case *starlark.List:
		out, size := make([]starlark.Value, v.Len()), 24
		for i := range v.Len() {
			if _, nested := v.Index(i).(*starlark.List); nested {
				return nil, 0, errors.New("a list of lists cannot be a note")
			}
			e, n, err := noted(v.Index(i))
			if err != nil {
				return nil, 0, err
			}
			out[i], size = e, size+n
		}
		l := starlark.NewList(out)
		l.Freeze()
		return l, size, nil
	}
	return nil, 0, fmt.Errorf("a value of type %s cannot be a note: strings, numbers, True, False, None and lists of these can", v.Type())
}

func (x *Notes) String() string                           { return fmt.Sprintf("notes(%d)", x.Len()) }
func (*Notes) Type() string                               { return notesClass.name }
func (*Notes) Hash() (uint32, error)                      { return unhashable("notes") }
func (x *Notes) AttrNames() []string                      { return notesClass.names }
func (x *Notes) Attr(name string) (starlark.Value, error) { return notesClass.attr(x, name) }

// Len is how many there are.
func (x *Notes) Len() int {
	if b := x.find(false); b != nil {
		return len(b.entries)
	}
	return 0
}

// Iterate goes through the keys.
func (x *Notes) Iterate() starlark.Iterator { return starlark.NewList(x.keys()).Iterate() }

func (c *Call) notesGet(x *Notes, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	fallback := starlark.Value(starlark.None)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key, "default?", &fallback); err != nil {
		return nil, err
	}
	if v, ok := x.value(key); ok {
		return v, nil
	}
	return fallback, nil
}

func (c *Call) notesPop(x *Notes, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	v, err := c.notesGet(x, b, args, kwargs)
	if err != nil {
		return nil, err
	}
	if key, ok := starlark.AsString(first(args, kwargs)); ok {
		if book := x.find(false); book != nil {
			if old, known := book.entries[key]; known {
				_, size, _ := noted(old)
				book.size -= size + len(key)
				delete(book.entries, key)
			}
		}
	}
	return v, nil
}

// first is the first argument, by position or as key.
func first(args starlark.Tuple, kwargs []starlark.Tuple) starlark.Value {
	if len(args) > 0 {
		return args[0]
	}
	for _, k := range kwargs {
		if k[0] == starlark.String("key") {
			return k[1]
		}
	}
	return starlark.None
}

func (c *Call) notesKeys(x *Notes, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackArgs(b.Name(), args, kwargs); err != nil {
		return nil, err
	}
	return starlark.NewList(x.keys()), nil
}

func (x *Notes) keys() (list []starlark.Value) {
	if book := x.find(false); book != nil {
		for _, key := range slices.Sorted(maps.Keys(book.entries)) {
			list = append(list, starlark.String(key))
		}
	}
	return list
}
