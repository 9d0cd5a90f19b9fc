// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// syntaxError says what to write where the TOML library, which knows neither keys nor
// sections, only says what it did not expect. The library's words remain for mistakes that
// are not recognized.
func syntaxError(name string, data []byte, schema reflect.Type, err error) error {
	c := collector{file: name}
	m := mistake{Error: Error{Line: 1, Column: 1, Text: strings.TrimPrefix(err.Error(), "toml: ")}}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		m.Line, m.Column = at.Position()
		m.Key = strings.Join(at.Key(), ".")
		m.goodLines = m.Line - 1
		m.explain(&builder{data: data}, schema)
	}
	c.add(&node{line: m.Line, column: m.Column}, m.Key, "%s", m.Text)
	c.list[0].goodLines = m.goodLines
	return c.err()
}

// mistake is an error of the library that is being put into words.
type mistake struct {
	Error
	goodLines int
}

func (m *mistake) explain(b *builder, schema reflect.Type) {
	b.indexLines()
	offset := b.lines[m.Line-1] + m.Column - 1
	good, section := b.statements()
	i := slices.IndexFunc(good, func(s statement) bool { return offset < s.end })
	if i >= 0 {
		m.clash(good[:i], good[i], schema)
		return
	}
	start := 0
	if len(good) > 0 {
		start = b.nextLine(good[len(good)-1].end)
	}
	for start <= offset && (b.textAt(start) == "" || b.textAt(start)[0] == '#') {
		start = b.nextLine(start)
	}
	if start <= offset {
		m.malformed(b, start, section)
	}
}

// statement is a header, or a key with its value, that is good TOML by itself.
type statement struct {
	kind         unstable.Kind // Table, ArrayTable or KeyValue
	key          string        // from the root: "domain[2].name"; a header's without its own number
	value        *node         // of a KeyValue
	line, column int
	end          int // offset behind its last key or value
}

// statements reads the text up to its first mistake. The section is the one in which that is.
func (b *builder) statements() (list []statement, section string) {
	times := map[string]int{} // how often each [[section]] stood
	b.parser.Reset(b.data)
	for b.parser.NextExpression() {
		e := b.parser.Expression()
		s := statement{kind: e.Kind}
		if e.Kind == unstable.KeyValue {
			s.key = section
		}
		for key := e.Key(); key.Next(); {
			raw := key.Node().Raw
			if s.line == 0 {
				s.line, s.column = b.position(int(raw.Offset))
			} else if n := times[s.key]; n > 0 {
				s.key = fmt.Sprintf("%s[%d]", s.key, n)
			}
			s.key = join(s.key, quoteKey(string(key.Node().Data)))
			s.end = int(raw.Offset + raw.Length)
		}
		switch e.Kind {
		case unstable.KeyValue:
			s.value = b.value(e.Value(), s.line, s.column)
			s.end = int(e.Raw.Offset + e.Raw.Length)
		case unstable.ArrayTable:
			times[s.key]++
			section = fmt.Sprintf("%s[%d]", s.key, times[s.key])
		default:
			section = s.key
		}
		list = append(list, s)
	}
	return list, section
}

// clash explains why now, which is good by itself, cannot follow what stands before it.
func (m *mistake) clash(before []statement, now statement, schema reflect.Type) {
	m.Key, m.goodLines = now.key, now.line-1
	i := slices.IndexFunc(before, func(s statement) bool { return s.key == now.key || strings.HasPrefix(s.key, now.key+".") })
	if i < 0 {
		return
	}
	first, header, one, many := before[i], "["+now.key+"]", false, false
	if o := optionNamed(optionsOf(schema), now.key); o != nil && first.key == now.key {
		one, many = shapeOf(o.typ) == shapeTable, elementIsTable(o.typ)
	}
	const value, table, list, either = unstable.KeyValue, unstable.Table, unstable.ArrayTable, unstable.Invalid
	for _, c := range []struct {
		first, now unstable.Kind
		when       bool
		blameFirst bool
		text       string
	}{
		{value, value, first.key == now.key, false, fmt.Sprintf("this key is already set on line %d; remove one of the two", first.line)},
		{value, table, one, true, sectionHint(schema, now.key, first.value)},
		{table, table, many, true, fmt.Sprintf("this section can stand several times; write [%s], here and on line %d", header, now.line)},
		{table, table, first.key == now.key, false, fmt.Sprintf("section %s already begins on line %d; write its keys there", header, first.line)},
		{table, list, many, true, fmt.Sprintf("write [%s] with two brackets, as on line %d", header, now.line)},
		{list, table, many, false, fmt.Sprintf("write [%s] with two brackets, as on line %d", header, first.line)},
		{table, list, one, false, fmt.Sprintf("section %s already begins on line %d; write its keys there", header, first.line)},
		{either, either, true, false, fmt.Sprintf("it is already defined on line %d, in another way; write it in one place", first.line)},
	} {
		if c.when && (c.first == either || c.first == first.kind && c.now == now.kind) {
			m.Text = c.text
			if c.blameFirst {
				m.Line, m.Column = first.line, first.column
			}
			return
		}
	}
}

// malformed explains a statement, which begins at offset start, that is not TOML.
func (m *mistake) malformed(b *builder, start int, section string) {
	text, last, said := b.textAt(start), b.textAt(b.lines[m.Line-1]), m.Text
	line, _ := b.position(start)
	header := text[0] == '['
	name, value, sep := splitKey(text)
	if name != "" && !header {
		m.Key = join(section, name)
	}
	words, write := strings.Contains(value, "="), "write "+name+" = "+properValue(value)
	says := func(s ...string) bool {
		return slices.ContainsFunc(s, func(s string) bool { return strings.Contains(said, s) })
	}
	newStatement := m.Line > line && beginsStatement(last)
	opens := func(s string) bool { return sep == "=" && strings.HasPrefix(value, s) }
	for _, r := range []struct {
		when, blameStart bool
		text             string
	}{
		{header, false, fmt.Sprintf("a section's name stands in brackets, alone on its line: %s", properHeader(text))},
		{name == "" || says("UTF-8", "control char", "carriage return"), false, said},
		{sep == "" && value == "", false, "the value is missing; write " + name + " = and the value"},
		{sep == "" && words, false, "a key is one word of letters, digits, _ and -"},
		{sep != "=", false, write},
		{value == "", false, "the value is missing; write it after " + name + " ="},
		{
			opens("[") && (newStatement || says("incomplete", "end of input")), true,
			fmt.Sprintf("the list that begins on line %d has no closing bracket \"]\"", line),
		},
		{
			opens("{") && (says("incomplete", "end of input") || newStatement && last[0] == '['), true,
			fmt.Sprintf("the table that begins on line %d has no closing brace \"}\"", line),
		},
		{says("not terminated"), true, fmt.Sprintf("the string that begins on line %d has no closing %s", line, value[:min(3, len(value))])},
		{says("have new lines", "unterminated"), false, "the string has no closing quote"},
		{says("escape"), false, said + `; write \\ for a backslash, or put the string in single quotes`},
		{says("at start of value", "after array value") && opens("["), false, "in a list, each string needs straight double quotes, with commas between: [\"a\", \"b\"]"},
		{says("newline") && words, false, "a line has one key with its value; write what follows on a line of its own"},
		{opens(`"`) || opens("'") || opens("[") || opens("{") || isNumber(value), false, said},
		{isYesNo(value), false, "a switch is true or false; " + write},
		{true, false, "a string needs straight double quotes; " + write},
	} {
		if !r.when {
			continue
		}
		m.Text = r.text
		m.goodLines = line - 1
		if r.blameStart {
			m.Line, m.Column = b.position(start + bytes.IndexByte(b.data[start:], text[0]))
		}
		return
	}
}

// nextLine gives the offset at which the line after the one around offset begins.
func (b *builder) nextLine(offset int) int {
	if n := bytes.IndexByte(b.data[offset:], '\n'); n >= 0 {
		return offset + n + 1
	}
	return len(b.data) + 1
}

// textAt gives what stands from offset to the end of the line, without the space around it.
func (b *builder) textAt(offset int) string {
	if offset >= len(b.data) {
		return ""
	}
	line, _, _ := bytes.Cut(b.data[offset:], []byte("\n"))
	return strings.TrimSpace(string(line))
}

const keyLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

// splitKey takes a line apart: the key, what stands after it ("=", ":" or nothing), and the
// value without a comment.
func splitKey(line string) (key, value, sep string) {
	value = strings.TrimLeft(line, keyLetters)
	key, value = line[:len(line)-len(value)], strings.TrimSpace(value)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		sep, value = value[:1], strings.TrimSpace(value[1:])
	}
	if value == "" || value[0] == '#' {
		return key, "", sep
	}
	if value[0] != '"' && value[0] != '\'' {
		value, _, _ = strings.Cut(value, " #")
	}
	return key, strings.TrimSpace(value), sep
}

// beginsStatement reports whether a line looks like a header, or a key with its value, and
// not like a part of a list.
func beginsStatement(line string) bool {
	if name := strings.TrimLeft(line, "["); len(name) < len(line) {
		end := strings.TrimLeft(name, keyLetters)
		return len(end) < len(name) && strings.HasPrefix(end, "]") && !isNumber(name[:1])
	}
	key, _, sep := splitKey(line)
	return key != "" && sep == "="
}

func properHeader(line string) string {
	name := strings.TrimLeft(line, "[ \t")
	name = name[:len(name)-len(strings.TrimLeft(name, keyLetters))]
	if name == "" {
		name = "section"
	}
	if strings.HasPrefix(line, "[[") {
		return "[[" + name + "]]"
	}
	return "[" + name + "]"
}

// properValue writes a value as TOML takes it, if the reader can guess it.
func properValue(value string) string {
	plain := strings.Trim(value, "“”„‟‘’‚‛«»\"'`")
	switch low := strings.ToLower(value); {
	case low == "true" || low == "yes" || low == "on":
		return "true"
	case low == "false" || low == "no" || low == "off":
		return "false"
	case isNumber(value) || value[:min(1, len(value))] == "[":
		return value
	case plain == "" || len(plain) > 64 || !utf8.ValidString(plain):
		return `"…"`
	}
	return strconv.Quote(plain)
}

func isYesNo(value string) bool {
	v := properValue(value)
	return v == "true" || v == "false"
}

func isNumber(value string) bool {
	digits := strings.Trim(value, "0123456789_+-")
	return value != "" && digits == ""
}

// sectionHint says how to write a section for which the file has a value: the value as that
// of the section's first key which takes it, if there is one.
func sectionHint(schema reflect.Type, name string, value *node) string {
	o := optionNamed(optionsOf(schema), name)
	if o == nil || shapeOf(o.typ) != shapeTable || value == nil {
		return ""
	}
	options := optionsOf(o.typ)
	for i := range options {
		free := options[i].typ.Kind() == reflect.String && len(options[i].oneof) == 0 // it takes any text
		if text := value.scalar(); text != "" && !free && options[i].takes(value) {
			return fmt.Sprintf("this is a section; write [%s] and below it a key, for example %s = %s", name, options[i].name, text)
		}
	}
	return fmt.Sprintf("this is a section; write [%s] and below it its keys: %s", name, allowedKeys(options))
}

// scalar writes a short single value as TOML; "" for others.
func (n *node) scalar() string {
	switch {
	case n.kind == kindTable || n.kind == kindArray || len(n.text) > 64:
		return ""
	case n.kind == kindString:
		return strconv.Quote(n.text)
	}
	return n.text
}
