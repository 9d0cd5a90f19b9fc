// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxErrors is how many errors of one file are reported.
const maxErrors = 20

// Error is one mistake in a configuration.
type Error struct {
	File   string
	Line   int // 0 when the file does not say it: a default, or an option that is missing
	Column int
	Key    string // "callahead.timeout", "domain[2].name"; empty when the mistake is at no key
	Text   string

	goodLines int // of an error in the syntax: how many lines before it can be read
}

// Error writes "file:line:column: key: text".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Text)
	return b.String()
}

// Errors is every mistake found in a configuration, in the order of the file.
type Errors struct {
	List []*Error // at most 20
	More int      // how many others there are
}

// Error writes one line an error.
func (e *Errors) Error() string {
	lines := make([]string, 0, len(e.List)+1)
	for _, one := range e.List {
		lines = append(lines, one.Error())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("%s: further errors: %d", e.List[0].File, e.More))
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors.
func (e *Errors) Unwrap() []error {
	out := make([]error, len(e.List))
	for i, one := range e.List {
		out[i] = one
	}
	return out
}

// collector gathers errors. It keeps more than it reports, so that sorting by line
// shows the first ones, but a bounded number.
type collector struct {
	file string
	list []*Error
	more int
}

func (c *collector) add(n *node, key, format string, args ...any) {
	if len(c.list) >= 50*maxErrors {
		c.more++
		return
	}
	e := &Error{File: c.file, Key: key, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line, e.Column = n.line, n.column
	}
	for _, known := range c.list {
		if *known == *e {
			return
		}
	}
	c.list = append(c.list, e)
}

// under reports whether something at or below key is wrong.
func (c *collector) under(key string) bool { return c.underFirst(len(c.list), key) }

// underFirst is under for the first n errors alone.
func (c *collector) underFirst(n int, key string) bool {
	for _, e := range c.list[:n] {
		if key == "" || e.Key == key || strings.HasPrefix(e.Key, key+".") || strings.HasPrefix(e.Key, key+"[") {
			return true
		}
	}
	return false
}

func (c *collector) err() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortStableFunc(c.list, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	out := &Errors{List: c.list, More: c.more}
	if len(out.List) > maxErrors {
		out.More += len(out.List) - maxErrors
		out.List = out.List[:maxErrors]
	}
	return out
}
