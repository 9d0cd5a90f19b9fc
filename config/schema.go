// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// option is one key of a section, as its struct field declares it.
type option struct {
	name    string
	index   []int // for reflect.Value.FieldByIndex
	typ     reflect.Type
	doc     string
	example string
	min     string
	max     string
	oneof   []string
	secret  bool
	restart bool // a change takes effect when the daemon is started anew
}

// shape is how an option's values are written in TOML.
type shape uint8

const (
	shapeBad   shape = iota
	shapeText        // reads itself from a string
	shapeValue       // bool, number, string
	shapeTable       // struct
	shapeList
	shapeMap
	shapeOptional // pointer: may be unset
)

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func shapeOf(t reflect.Type) shape {
	if reflect.PointerTo(t).Implements(textUnmarshaler) && t.Kind() != reflect.Pointer {
		return shapeText
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return shapeValue
	case reflect.Struct:
		return shapeTable
	case reflect.Slice:
		return shapeList
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return shapeMap
		}
	case reflect.Pointer:
		if t.Elem().Kind() != reflect.Pointer {
			return shapeOptional
		}
	}
	return shapeBad
}

// optionsOf lists the options of a section, those of inline structs in their place. Fields
// without a toml tag are not options.
func optionsOf(t reflect.Type) []option {
	var out []option
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := tagOf(f)
		if inline {
			for _, o := range optionsOf(f.Type) {
				o.index = append([]int{i}, o.index...)
				out = append(out, o)
			}
			continue
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		o := option{
			name: name, index: []int{i}, typ: f.Type,
			doc: f.Tag.Get("doc"), example: f.Tag.Get("example"),
			min: f.Tag.Get("min"), max: f.Tag.Get("max"), secret: f.Tag.Get("secret") == "true", restart: f.Tag.Get("restart") == "true",
		}
		if words := f.Tag.Get("oneof"); words != "" {
			o.oneof = strings.Split(words, ",")
		}
		out = append(out, o)
	}
	return out
}

// tagOf gives the name of a field's option, and whether the field is a struct whose
// options stand in the section of the struct around it: one that is embedded, or has the
// tag `toml:",inline"`.
func tagOf(f reflect.StructField) (name string, inline bool) {
	name, flags, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name, name == "" && f.Type.Kind() == reflect.Struct && (f.Anonymous || flags == "inline")
}

func optionNamed(options []option, name string) *option {
	for i := range options {
		if options[i].name == name {
			return &options[i]
		}
	}
	return nil
}

// CheckTypes holds the struct behind cfg against what this package asks of
// sections: names in lower case and once each, a doc tag on every option, types
// that can be written. It is for a test of whoever composes the configuration.
func CheckTypes(cfg any) error {
	t := reflect.TypeOf(cfg)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var wrong []string
	checkType(t, "", &wrong)
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("configuration types: %s", strings.Join(wrong, "; "))
}

func checkType(t reflect.Type, path string, wrong *[]string) {
	var names []string
	for _, o := range optionsOf(t) {
		key := join(path, o.name)
		if slices.Contains(names, o.name) {
			*wrong = append(*wrong, key+" is declared twice")
		}
		names = append(names, o.name)
		if o.doc == "" {
			*wrong = append(*wrong, key+" has no doc tag")
		}
		if strings.Trim(o.name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			*wrong = append(*wrong, key+" is not in lower case")
		}
		checkValueType(o.typ, key, wrong)
		for _, limit := range []string{o.min, o.max} {
			if _, ok := limitOf(o.typ, limit); limit != "" && !ok {
				*wrong = append(*wrong, fmt.Sprintf("%s: limit %q does not fit %v", key, limit, o.typ))
			}
		}
	}
}

func checkValueType(t reflect.Type, key string, wrong *[]string) {
	switch shapeOf(t) {
	case shapeBad:
		*wrong = append(*wrong, fmt.Sprintf("%s: a %v cannot be written in TOML", key, t))
	case shapeTable:
		checkType(t, key, wrong)
	case shapeList, shapeMap, shapeOptional:
		checkValueType(t.Elem(), key, wrong)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// former is what a value that reads itself says of what it takes.
type former interface{ Form() string }

// form says in words what a type takes; list gives it for many.
func form(t reflect.Type) string {
	switch shapeOf(t) {
	case shapeText:
		if f, ok := reflect.New(t).Interface().(former); ok {
			return f.Form()
		}
		return "a string in quotes"
	case shapeOptional:
		return form(t.Elem())
	case shapeList:
		if elementIsTable(t) {
			return "a list of tables"
		}
		return "a list in which each entry is " + form(t.Elem())
	case shapeMap:
		return "a table in which each value is " + form(t.Elem())
	case shapeTable:
		return "a table with the keys " + allowedKeys(optionsOf(t))
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string in quotes"
	case reflect.Float64:
		return "a number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	}
	return "a whole number"
}

func elementIsTable(t reflect.Type) bool {
	return shapeOf(t) == shapeList && shapeOf(t.Elem()) == shapeTable
}

func allowedKeys(options []option) string {
	names := make([]string, len(options))
	for i, o := range options {
		names[i] = o.name
	}
	return strings.Join(names, ", ")
}
