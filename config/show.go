// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Show prints every effective value of cfg (a struct or a pointer to one) as TOML that
// LoadFile reads again to the same values, with a remark behind each that the file does not
// set. Options that are unset, and secrets, are comments. A nil File makes no remarks.
func (f *File) Show(cfg any) string {
	v := reflect.ValueOf(cfg)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	w := &shower{remarks: f != nil}
	var root *node
	if f != nil {
		root = f.root
	}
	w.section("", root, v)
	return w.out.String()
}

type shower struct {
	out     strings.Builder
	remarks bool
}

// section writes the plain options of one section and, at the top level, the
// sections below it after them, as TOML wants it.
func (w *shower) section(path string, n *node, v reflect.Value) {
	options := optionsOf(v.Type())
	for _, o := range options {
		value := v.FieldByIndex(o.index)
		if path != "" || !isSection(o.typ, value) {
			w.option(n, &o, value)
		}
	}
	if path != "" {
		return
	}
	for _, o := range options {
		value := v.FieldByIndex(o.index)
		if !isSection(o.typ, value) {
			continue
		}
		c := n.child(o.name)
		if shapeOf(o.typ) == shapeTable {
			fmt.Fprintf(&w.out, "\n[%s]\n", o.name)
			w.section(o.name, c, value)
			continue
		}
		for i := range value.Len() {
			var item *node
			if c != nil && i < len(c.items) {
				item = c.items[i]
			}
			fmt.Fprintf(&w.out, "\n[[%s]]\n", o.name)
			w.section(o.name, item, value.Index(i))
		}
	}
}

// isSection reports whether an option has a header of its own: a table, or a list
// of tables that is not empty.
func isSection(t reflect.Type, v reflect.Value) bool {
	return shapeOf(t) == shapeTable || elementIsTable(t) && v.Len() > 0
}

func (w *shower) option(n *node, o *option, v reflect.Value) {
	text, ok := formatValue(v)
	switch {
	case o.secret && ok && !v.IsZero():
		fmt.Fprintf(&w.out, "# %s is set and not shown\n", o.name)
	case !ok && elementIsTable(o.typ): // no section is no news
	case !ok:
		fmt.Fprintf(&w.out, "# %s is not set\n", o.name)
	case w.remarks && n.child(o.name) == nil:
		fmt.Fprintf(&w.out, "%s = %s  # default\n", o.name, text)
	default:
		fmt.Fprintf(&w.out, "%s = %s\n", o.name, text)
	}
}

// formatValue writes a value on one line; false when it is unset.
func formatValue(v reflect.Value) (string, bool) {
	switch shapeOf(v.Type()) {
	case shapeOptional:
		if v.IsNil() {
			return "", false
		}
		return formatValue(v.Elem())
	case shapeTable:
		return formatInline(v), true
	case shapeList:
		if v.IsNil() && elementIsTable(v.Type()) {
			return "", false
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i], _ = formatValue(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]", true
	case shapeMap:
		if v.IsNil() {
			return "", false
		}
		items := make([]string, 0, v.Len())
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			text, _ := formatValue(v.MapIndex(k))
			items = append(items, quoteKey(k.String())+" = "+text)
		}
		return brace(items), true
	}
	return formatLeaf(v), true
}

func formatInline(v reflect.Value) string {
	var items []string
	for _, o := range optionsOf(v.Type()) {
		value := v.FieldByIndex(o.index)
		if text, ok := formatValue(value); ok && !o.secret {
			items = append(items, o.name+" = "+text)
		}
	}
	return brace(items)
}

func brace(items []string) string {
	if len(items) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(items, ", ") + " }"
}

func formatLeaf(v reflect.Value) string {
	if shapeOf(v.Type()) == shapeText {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		if m, ok := p.Interface().(encoding.TextMarshaler); ok {
			if text, err := m.MarshalText(); err == nil {
				return quoteString(string(text))
			}
		}
		return quoteString(fmt.Sprint(v.Interface()))
	}
	switch {
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	case v.CanFloat():
		text := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return text
	}
	return quoteString(v.String())
}

var stringEscapes = map[rune]string{
	'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`,
}

// quoteString writes a TOML basic string.
func quoteString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch escaped, ok := stringEscapes[r]; {
		case ok:
			b.WriteString(escaped)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// quoteKey writes a key: bare if it may be.
func quoteKey(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return s
	}
	return quoteString(s)
}
