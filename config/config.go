// SPDX-License-Identifier: BSD-2-Clause

// Package config reads the configuration file: TOML 1.0 (toml.io), decoded strictly
// into whatever struct the caller composed from the units' own sections. It knows
// no option itself.
//
// A field is an option when it has a `toml:"name"` tag; embedded structs are
// flattened into the section that embeds them. Apart from the name, tags say
//
//	doc:"..."      what the option does; examples and manual page are made of it
//	example:"..."  a value for the example, as TOML
//	min:"1"        the least value, written as in the file
//	max:"1w"       the greatest
//	oneof:"a,b"    the allowed words
//	secret:"true"  Show never prints the value
//	restart:"true" a change takes effect only when the daemon starts anew
//
// A section may have a method Validate() error, called with its effective values.
// What it returns is a [setting.KeyError], or several joined with errors.Join. The file and
// the line are added here. A value that reads itself
// (encoding.TextUnmarshaler) gives its own error; a method Form() string says what
// it takes ("a duration such as \"15m\"").
//
// Every error of a file is reported at once, the first 20 of them, each with file,
// line, column and key. Only an error in the syntax is reported alone. Limits: a file has at
// most 1 MiB.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"

	"rcptgate/config/setting"
)

// MaxFileSize bounds a configuration file, in octets.
const MaxFileSize = 1 << 20

// File is what was read from one file: where each option stands in it.
type File struct {
	Name string
	root *node
}

// LoadFile reads the file at path into cfg, a pointer to a struct that holds the
// defaults, and gives back which options the file sets. On an error, which is an [Errors] or
// says that the file could not be read, cfg is as it was.
func LoadFile(path string, cfg any) (*File, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, cfg)
}

// Parse is LoadFile for a text already read; name is used in errors.
func Parse(name string, data []byte, cfg any) (*File, error) {
	into := reflect.ValueOf(cfg)
	if into.Kind() != reflect.Pointer || into.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("read configuration into %T: it is not a pointer to a struct", cfg)
	}
	root, err := parseTree(name, data, into.Elem().Type())
	if err != nil {
		return nil, err
	}
	d := &decoder{errs: collector{file: name}, root: root, schema: into.Elem().Type()}
	fresh := reflect.New(into.Elem().Type()).Elem()
	fresh.Set(into.Elem()) // shallow: decoding replaces lists, maps and pointers, it never writes through them
	d.table(root, fresh, "")
	d.validate(root, fresh, "")
	if err := d.errs.err(); err != nil {
		return nil, err
	}
	into.Elem().Set(fresh)
	return &File{Name: name, root: root}, nil
}

// Reach reads into cfg what can be read of the file at path in spite of its mistakes, which it
// gives: of a file that is not TOML what stands before the place where it is not. An error
// that is not an [Errors] says that the file could not be read, and cfg is as it was. It is for
// finding a daemon, not for starting one.
func Reach(path string, cfg any) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	_, mistakes := Parse(path, data, cfg)
	if mistakes == nil {
		return nil
	}
	into := reflect.ValueOf(cfg).Elem()
	root, err := parseTree(path, data, into.Type())
	var found *Errors
	if errors.As(err, &found) {
		root, err = parseTree(path, linesBefore(data, found.List[0].goodLines+1), into.Type())
	}
	if err != nil {
		return mistakes
	}
	fresh := reflect.New(into.Type()).Elem()
	fresh.Set(into)
	d := &decoder{errs: collector{file: path}, root: root, schema: into.Type()}
	d.table(root, fresh, "")
	into.Set(fresh)
	return mistakes
}

// linesBefore gives the lines before line n, of which the first is 1.
func linesBefore(data []byte, n int) []byte {
	end := 0
	for ; n > 1; n-- {
		next := bytes.IndexByte(data[end:], '\n')
		if next < 0 {
			break
		}
		end += next + 1
	}
	return data[:end]
}

// Validate checks the values of cfg, a pointer to a struct, as LoadFile does after
// reading a file: for a configuration that consists of defaults alone.
func Validate(cfg any) error {
	_, err := Parse("built-in defaults", nil, cfg)
	return err
}

// Place gives errors that were found in the values after the file was read their
// lines: each [setting.KeyError] joined or wrapped in err, whose key counts from the root
// ("domain[2].backend"). Other errors only get the file's name. A nil File stands for
// the built-in defaults.
func (f *File) Place(err error) error {
	if err == nil {
		return nil
	}
	d := &decoder{errs: collector{file: "built-in defaults"}}
	if f != nil {
		d.errs.file, d.root = f.Name, f.root
	}
	for _, one := range keyed(err) {
		d.place(d.root, "", one)
	}
	if placed := d.errs.err(); placed != nil {
		return placed
	}
	return fmt.Errorf("%s: %w", d.errs.file, err)
}

// keyed finds the errors in err that name a key; none if there are others among
// them.
func keyed(err error) (out []error) {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself, to find all of them
	case *setting.KeyError:
		return []error{e}
	case interface{ Unwrap() error }:
		return keyed(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			list := keyed(one)
			if len(list) == 0 {
				return nil
			}
			out = append(out, list...)
		}
	}
	return out
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before open, which would wait on a FIFO
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read configuration %s: %w", path, errNotRegular)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", &fs.PathError{Op: "read", Path: path, Err: err})
	}
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("read configuration %s: the file is larger than %d octets", path, MaxFileSize)
	}
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}

var errNotRegular = errors.New("it is not a regular file")
