// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a node of the file is.
type kind uint8

const (
	kindTable kind = iota
	kindArray
	kindString
	kindInteger
	kindFloat
	kindBool
	kindTime
)

var kindWords = [...]string{"a table", "a list", "a string", "a whole number", "a number with a fraction", "true or false", "a date or time"}

// node is a value of the file and where it stands.
type node struct {
	kind         kind
	text         string // scalars: the text, for strings without quoting
	line, column int
	keys         []string // of a table, in the file's order
	children     map[string]*node
	items        []*node // of an array
	written      bool    // has a header or key of its own: positions are meaningful
}

func newTable(line, column int) *node {
	return &node{kind: kindTable, line: line, column: column, children: map[string]*node{}}
}

func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	return n.children[name]
}

func (n *node) put(name string, c *node) {
	if _, ok := n.children[name]; !ok {
		n.keys = append(n.keys, name)
	}
	n.children[name] = c
}

// find follows a dotted key; nil if the file does not have it.
func (n *node) find(key string) *node {
	for _, part := range strings.Split(key, ".") {
		if n = n.child(part); n == nil {
			return nil
		}
	}
	return n
}

// parseTree reads TOML into nodes. The text goes through the decoder first, which
// holds it against all of the grammar (doubled keys, tables defined twice); the
// second pass can then be simple. Errors use the schema to say what belongs where.
func parseTree(name string, data []byte, schema reflect.Type) (*node, error) {
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil {
		return nil, syntaxError(name, data, schema, err)
	}
	b := &builder{root: newTable(1, 1), data: data}
	b.parser.Reset(data)
	b.indexLines()
	current := b.root
	for b.parser.NextExpression() {
		e := b.parser.Expression()
		switch e.Kind {
		case unstable.Table:
			current = b.open(b.root, e.Key(), false)
		case unstable.ArrayTable:
			current = b.open(b.root, e.Key(), true)
		case unstable.KeyValue:
			b.keyValue(current, e)
		}
	}
	if err := b.parser.Error(); err != nil {
		return nil, syntaxError(name, data, schema, err)
	}
	return b.root, nil
}

type builder struct {
	parser unstable.Parser
	root   *node
	data   []byte
	lines  []int // offset of each line's first octet
}

func (b *builder) indexLines() {
	b.lines = append(b.lines, 0)
	for i, c := range b.data {
		if c == '\n' {
			b.lines = append(b.lines, i+1)
		}
	}
}

// position turns an offset into line and column, both from 1.
func (b *builder) position(offset int) (line, column int) {
	lo, hi := 0, len(b.lines)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; b.lines[mid] <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo + 1, offset - b.lines[lo] + 1
}

// open walks to the table that a header names, making what is not there.
func (b *builder) open(from *node, key unstable.Iterator, array bool) *node {
	at := from
	for key.Next() {
		k := key.Node()
		line, column := b.position(int(k.Raw.Offset))
		name, last := string(k.Data), key.IsLast()
		next := at.children[name]
		switch {
		case last && array:
			if next == nil {
				next = &node{kind: kindArray, line: line, column: column, written: true}
				at.put(name, next)
			}
			table := newTable(line, column)
			table.written = true
			next.items = append(next.items, table)
			return table
		case next == nil:
			next = newTable(line, column)
			at.put(name, next)
		case next.kind == kindArray && len(next.items) > 0:
			next = next.items[len(next.items)-1]
		}
		if last && !next.written {
			next.line, next.column, next.written = line, column, true
		}
		at = next
	}
	return at
}

func (b *builder) keyValue(at *node, e *unstable.Node) {
	key := e.Key()
	for key.Next() {
		k := key.Node()
		line, column := b.position(int(k.Raw.Offset))
		name := string(k.Data)
		if key.IsLast() {
			v := b.value(e.Value(), line, column)
			v.line, v.column, v.written = line, column, true
			at.put(name, v)
			return
		}
		next := at.children[name]
		if next == nil {
			next = newTable(line, column)
			at.put(name, next)
		}
		at = next
	}
}

func (b *builder) value(v *unstable.Node, line, column int) *node {
	if v.Raw.Length > 0 {
		line, column = b.position(int(v.Raw.Offset))
	}
	n := &node{line: line, column: column, text: string(v.Data)}
	switch v.Kind {
	case unstable.Array:
		n.kind, n.text = kindArray, ""
		for it := v.Children(); it.Next(); {
			n.items = append(n.items, b.value(it.Node(), line, column))
		}
	case unstable.InlineTable:
		n = newTable(line, column)
		for it := v.Children(); it.Next(); {
			b.keyValue(n, it.Node())
		}
	case unstable.String:
		n.kind = kindString
	case unstable.Integer:
		n.kind = kindInteger
	case unstable.Float:
		n.kind = kindFloat
	case unstable.Bool:
		n.kind = kindBool
	default:
		n.kind = kindTime
	}
	return n
}
