// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Entry describes one option for people: examples and manual pages are made of it.
type Entry struct {
	Section  string // "callahead"; empty at the top level
	Repeated bool   // the section is written [[name]] and may stand several times
	Name     string // "timeout"; empty for the entry that opens a section
	Inner    bool   // inside an inline table: Name is "valid.expire"
	Doc      string
	Form     string // what it takes, in words
	Default  string // as TOML; empty when it has none
	Example  string // as TOML
}

// Describe lists the options of cfg, a struct or pointer to one that holds the
// defaults, section by section in the order of the fields.
func Describe(cfg any) []Entry {
	v := reflect.ValueOf(cfg)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	out := describe(v, Entry{})
	for _, o := range optionsOf(v.Type()) {
		if shapeOf(o.typ) != shapeTable && !elementIsTable(o.typ) {
			continue
		}
		head := Entry{Section: o.name, Doc: o.doc, Repeated: elementIsTable(o.typ)}
		inner := v.FieldByIndex(o.index)
		if head.Repeated {
			inner = newElement(o.typ.Elem())
		}
		out = append(out, head)
		out = append(out, describe(inner, head)...)
	}
	return out
}

func describe(v reflect.Value, head Entry) []Entry {
	var out []Entry
	for _, o := range optionsOf(v.Type()) {
		table := shapeOf(o.typ) == shapeTable
		if head.Section == "" && (table || elementIsTable(o.typ)) {
			continue
		}
		value := v.FieldByIndex(o.index)
		e := Entry{
			Section: head.Section, Repeated: head.Repeated, Name: o.name, Doc: o.explain(),
			Form: o.describeForm(), Example: o.example,
		}
		if text, ok := formatValue(value); ok && !o.secret && !(head.Repeated && value.IsZero()) {
			e.Default = text
		}
		out = append(out, e)
		if inner := structBehind(value); inner.IsValid() {
			for _, sub := range describe(inner, Entry{Section: head.Section, Repeated: head.Repeated || !table}) {
				sub.Name, sub.Inner = o.name+"."+sub.Name, true
				out = append(out, sub)
			}
		}
	}
	return out
}

// structBehind gives the table that an option holds, a zero one for a pointer that
// is nil or a list; invalid if the option holds none.
func structBehind(v reflect.Value) reflect.Value {
	t := v.Type()
	switch shapeOf(t) {
	case shapeTable:
		return v
	case shapeOptional, shapeList:
		if shapeOf(t.Elem()) == shapeTable {
			return reflect.New(t.Elem()).Elem()
		}
	}
	return reflect.Value{}
}

// explain is what the option does, and that a change of it needs a restart.
func (o *option) explain() string {
	if o.restart {
		return o.doc + "; a change needs a restart"
	}
	return o.doc
}

func (o *option) describeForm() string {
	t := o.typ
	if shapeOf(t) == shapeOptional {
		t = t.Elem()
	}
	text := o.form(t)
	if shapeOf(t) == shapeTable {
		text = "a table"
	}
	switch {
	case o.min != "" && o.max != "":
		text += fmt.Sprintf(", from %s to %s", o.min, o.max)
	case o.min != "":
		text += fmt.Sprintf(", at least %s", o.min)
	case o.max != "":
		text += fmt.Sprintf(", at most %s", o.max)
	}
	return text
}

// Example writes a file with every option of cfg, each explained and commented out
// with its default: a file to start from.
func Example(cfg any) string {
	var b strings.Builder
	b.WriteString("# Every option is explained here and commented out; what follows the name is its\n# default, or an example where there is none.\n")
	entries := Describe(cfg)
	var line string // the option's own line: it comes after what is said of its inner keys
	for i, e := range entries {
		switch {
		case e.Name == "" && e.Repeated:
			line = fmt.Sprintf("#[[%s]]\n", e.Section)
		case e.Name == "":
			line = fmt.Sprintf("[%s]\n", e.Section)
		case !e.Inner:
			line = fmt.Sprintf("#%s = %s\n", e.Name, exampleValue(e))
		}
		if e.Inner {
			comment(&b, "  "+e.Name+": "+e.Doc)
		} else {
			b.WriteString("\n")
			comment(&b, e.Doc)
		}
		if i+1 == len(entries) || !entries[i+1].Inner {
			b.WriteString(line)
		}
	}
	return b.String()
}

func exampleValue(e Entry) string {
	empty := e.Default == "" || e.Default == `""` || e.Default == "[]"
	if empty && e.Example != "" {
		return e.Example
	}
	if e.Default == "" {
		return "(" + e.Form + ")"
	}
	return e.Default
}

// comment writes text as comment lines of at most 80 columns.
func comment(b *strings.Builder, text string) {
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	line := "# " + indent
	fresh := true
	for _, word := range strings.Fields(text) {
		if !fresh && len(line)+1+len(word) > 80 {
			b.WriteString(line + "\n")
			line, fresh = "# "+indent+indent, true
		}
		if !fresh {
			line += " "
		}
		line, fresh = line+word, false
	}
	if !fresh {
		b.WriteString(line + "\n")
	}
}
