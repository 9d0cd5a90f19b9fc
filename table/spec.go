// SPDX-License-Identifier: BSD-2-Clause

package table

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Type is the first half of a table's spelling.
type Type string

// The types, with the words of the MTAs.
const (
	Hash     Type = "hash"     // Berkeley DB: makemap hash, newaliases, postmap, postalias
	Btree    Type = "btree"    // Berkeley DB: makemap btree, postmap
	CDB      Type = "cdb"      // constant database
	LMDB     Type = "lmdb"     // OpenLDAP LMDB as Postfix writes it
	Text     Type = "text"     // aliases(5): name: target, target
	TextHash Type = "texthash" // what makemap and postmap read: key white-space value

	// Memcached is not a file but the names that other gateways publish. ParseSpec does
	// not return it: only [aliases] files can name it.
	Memcached Type = "memcached"
)

// Types lists every type of file in the order of documentation.
func Types() []Type { return []Type{Hash, Btree, CDB, LMDB, Text, TextHash} }

// ending is what the MTAs append to the name of the file; "" for text.
func (t Type) ending() string {
	switch t {
	case Hash, Btree:
		return ".db"
	case CDB:
		return ".cdb"
	case LMDB:
		return ".lmdb"
	}
	return ""
}

// Spec is a table's spelling, TYPE:FILE. The zero Spec names nothing.
type Spec struct {
	Type Type
	Name string // the file as written, with or without the ending
}

// ParseSpec reads "hash:/etc/mail/aliases". The file may be written with or without the
// ending that the MTAs append (.db, .cdb, .lmdb). "proxy:hash:/etc/postfix/virtual" is
// the table behind Postfix's proxymap(8). Only files are tables here.
func ParseSpec(s string) (Spec, error) {
	word, name, found := strings.Cut(strings.TrimPrefix(s, "proxy:"), ":")
	if !found {
		return Spec{}, fmt.Errorf("table %q has no type: write TYPE:FILE, for instance hash:/etc/mail/aliases; types are %s", s, typeList())
	}
	if Type(word) == Memcached {
		return Spec{}, fmt.Errorf("table %q: names in memcached are alias names, which only [aliases] files can name; types are %s", s, typeList())
	}
	spec := Spec{Type: Type(word), Name: name}
	if !spec.Type.known() {
		return Spec{}, fmt.Errorf("table %q has the unknown type %q; types are %s", s, word, typeList())
	}
	if err := checkName(name); err != nil {
		return Spec{}, fmt.Errorf("table %q: %w", s, err)
	}
	return spec, nil
}

func (t Type) known() bool {
	for _, known := range Types() {
		if t == known {
			return true
		}
	}
	return false
}

func typeList() string {
	var words []string
	for _, t := range Types() {
		words = append(words, string(t))
	}
	return strings.Join(words, ", ")
}

func checkName(name string) error {
	if name == "" {
		return errors.New("the file name is missing")
	}
	if strings.HasSuffix(name, "/") {
		return errors.New("the file name is that of a directory")
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("the file name has the control character %U", r)
		}
	}
	return nil
}

// Path is the file that is read: Name with the type's ending, once.
func (s Spec) Path() string {
	if ending := s.Type.ending(); !strings.HasSuffix(s.Name, ending) {
		return s.Name + ending
	}
	return s.Name
}

// String is the spelling as it was written, without "proxy:".
func (s Spec) String() string { return string(s.Type) + ":" + s.Name }

// IsText reports whether people write the file themselves: the MTAs then lock it
// for their own purposes, or not at all (see table/live).
func (s Spec) IsText() bool { return s.Type == Text || s.Type == TextHash }

// MarshalText returns the spelling.
func (s Spec) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses a spelling, so that a configuration can hold Specs.
func (s *Spec) UnmarshalText(text []byte) error {
	spec, err := ParseSpec(string(text))
	if err != nil {
		return err
	}
	*s = spec
	return nil
}

// Form says what a value looks like, for the configuration's reference.
func (Spec) Form() string {
	return `a table TYPE:FILE such as "hash:/etc/mail/aliases"; types are ` + typeList()
}
