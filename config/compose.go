// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Part is what one unit adds to the configuration: keys of one section, as a struct whose
// fields have the tags of this package. Several parts may add to one section.
type Part struct {
	// Section is the section's name; "" is the top level.
	Section string
	// Doc says what the section is for. One part of a section needs it.
	Doc string
	// Repeated makes it a section that is written [[name]] and may stand several times.
	Repeated bool
	// Defaults is a struct with the default values; those of a repeated section are what
	// its method SetDefaults sets, see [Defaulter]. No two parts have one type: it is by its
	// type that a unit finds its part again ([Get], [All]).
	Defaults any
}

// Schema is a configuration composed from parts.
type Schema struct {
	parts    []Part
	typ      reflect.Type
	sections []section
	places   map[reflect.Type]place
}

// section is one field of the composed struct, or, without a name, the part that is
// flattened into the top level.
type section struct {
	name     string
	doc      string
	repeated bool
	parts    []Part
}

// place is where a part lies: the composed struct's field, and the field in that.
type place struct {
	outer, inner int
	repeated     bool
	top          bool
}

// Compose makes a schema. Sections stand in the order in which they are first named,
// repeated ones last. A part that is not a struct, or of a type that another part has, is
// an error.
func Compose(parts ...Part) (*Schema, error) {
	s := &Schema{parts: parts, places: make(map[reflect.Type]place)}
	var errs []error
	for _, p := range parts {
		t := reflect.TypeOf(p.Defaults)
		switch {
		case t == nil || t.Kind() != reflect.Struct:
			errs = append(errs, fmt.Errorf("configuration part [%s]: %v is not a struct", p.Section, t))
		case slices.ContainsFunc(parts, func(o Part) bool { return o.Section == p.Section && o.Repeated != p.Repeated }):
			errs = append(errs, fmt.Errorf("configuration part %v: [%s] is repeated in one part and single in another", t, p.Section))
		default:
			s.add(p)
		}
	}
	slices.SortStableFunc(s.sections, func(a, b section) int { return rank(a) - rank(b) })
	var fields []reflect.StructField
	for i := range s.sections {
		f, err := s.field(i)
		if err != nil {
			errs = append(errs, err)
		}
		fields = append(fields, f)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.typ = reflect.StructOf(fields)
	return s, nil
}

func rank(s section) int {
	switch {
	case s.name == "":
		return 0
	case s.repeated:
		return 2
	}
	return 1
}

func (s *Schema) add(p Part) {
	i := slices.IndexFunc(s.sections, func(o section) bool { return o.name == p.Section })
	if i < 0 || p.Section == "" { // each part of the top level has a field of its own
		s.sections = append(s.sections, section{name: p.Section, repeated: p.Repeated})
		i = len(s.sections) - 1
	}
	sec := &s.sections[i]
	if sec.doc == "" {
		sec.doc = p.Doc
	}
	sec.parts = append(sec.parts, p)
}

// field makes the composed struct's field for section i, and notes where its parts lie.
func (s *Schema) field(i int) (reflect.StructField, error) {
	sec := &s.sections[i]
	for inner, p := range sec.parts {
		t := reflect.TypeOf(p.Defaults)
		if _, twice := s.places[t]; twice {
			return reflect.StructField{}, fmt.Errorf("two parts of the configuration are a %v", t)
		}
		s.places[t] = place{outer: i, inner: inner, repeated: sec.repeated, top: sec.name == ""}
	}
	name := fmt.Sprintf("S%d", i)
	if sec.name == "" {
		return reflect.StructField{Name: name, Type: reflect.TypeOf(sec.parts[0].Defaults), Tag: `toml:",inline"`}, nil
	}
	fields := make([]reflect.StructField, len(sec.parts))
	for k, p := range sec.parts {
		fields[k] = reflect.StructField{Name: fmt.Sprintf("P%d", k), Type: reflect.TypeOf(p.Defaults), Tag: `toml:",inline"`}
	}
	t := reflect.StructOf(fields)
	if sec.repeated {
		t = reflect.SliceOf(t)
	}
	return reflect.StructField{Name: name, Type: t, Tag: reflect.StructTag(fmt.Sprintf("toml:%q doc:%q", sec.name, sec.doc))}, nil
}

// Defaults gives a configuration that has every part's defaults, and no repeated section.
func (s *Schema) Defaults() *Composed {
	c := &Composed{schema: s, value: reflect.New(s.typ)}
	for i, sec := range s.sections {
		if sec.repeated {
			continue
		}
		for k, p := range sec.parts {
			f := c.value.Elem().Field(i)
			if sec.name != "" {
				f = f.Field(k)
			}
			f.Set(reflect.ValueOf(p.Defaults))
		}
	}
	return c
}

// Composed is one configuration of a schema: defaults, and what a file changed.
type Composed struct {
	schema *Schema
	value  reflect.Value // a pointer to the composed struct
}

// Any gives the composed struct, as a pointer, to the functions of this package.
func (c *Composed) Any() any { return c.value.Interface() }

// Clone gives a copy whose parts can be changed. Lists within them are shared.
func (c *Composed) Clone() *Composed {
	out := &Composed{schema: c.schema, value: reflect.New(c.schema.typ)}
	out.value.Elem().Set(c.value.Elem())
	return out
}

// Get finds the part of type T. It panics when the schema has none, or when the part's
// section is repeated: that is a mistake of the program.
func Get[T any](c *Composed) *T {
	p := c.schema.place(reflect.TypeFor[T](), false)
	f := c.value.Elem().Field(p.outer)
	if !p.top {
		f = f.Field(p.inner)
	}
	return f.Addr().Interface().(*T) //nolint:forcetypeassert // it was found by its type
}

// All finds the parts of type T of a repeated section, one for each time that it stands
// in the file. All parts of a section have the same length and order. It panics as Get
// does.
func All[T any](c *Composed) []T {
	p := c.schema.place(reflect.TypeFor[T](), true)
	list := c.value.Elem().Field(p.outer)
	out := make([]T, list.Len())
	for i := range out {
		out[i] = list.Index(i).Field(p.inner).Interface().(T) //nolint:forcetypeassert // as above
	}
	return out
}

func (s *Schema) place(t reflect.Type, repeated bool) place {
	p, ok := s.places[t]
	if !ok || p.repeated != repeated {
		panic(fmt.Sprintf("config: no part of the configuration is a %v (repeated: %v)", t, repeated))
	}
	return p
}

// NeedsRestart names the options with a `restart:"true"` tag that differ between two
// configurations of one schema: "cache.entries". A section's own tag stands for all of it.
func NeedsRestart(begun, now *Composed) (names []string) {
	differ(begun.value.Elem(), now.value.Elem(), "", &names)
	return names
}

func differ(a, b reflect.Value, path string, names *[]string) {
	for _, o := range optionsOf(a.Type()) {
		x, y, key := a.FieldByIndex(o.index), b.FieldByIndex(o.index), join(path, o.name)
		switch {
		case o.restart:
			if !reflect.DeepEqual(x.Interface(), y.Interface()) {
				*names = append(*names, key)
			}
		case shapeOf(o.typ) == shapeTable:
			differ(x, y, key, names)
		}
	}
}

// Parts gives a pointer to every part, those of repeated sections once for each time that
// they stand in the file.
func (c *Composed) Parts() (out []any) {
	for i := range c.schema.sections {
		sec, f := &c.schema.sections[i], c.value.Elem().Field(i)
		switch {
		case sec.name == "":
			out = append(out, f.Addr().Interface())
		case sec.repeated:
			for k := range f.Len() {
				out = appendFields(out, f.Index(k))
			}
		default:
			out = appendFields(out, f)
		}
	}
	return out
}

func appendFields(out []any, v reflect.Value) []any {
	for i := range v.NumField() {
		out = append(out, v.Field(i).Addr().Interface())
	}
	return out
}
