// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// decoder puts nodes into a struct, gathering every error on the way.
type decoder struct {
	errs   collector
	root   *node
	schema reflect.Type // the whole configuration, to say where a lost key belongs
}

func (d *decoder) table(n *node, v reflect.Value, path string) {
	options := optionsOf(v.Type())
	for _, key := range n.keys {
		c := n.children[key]
		o := optionNamed(options, key)
		if o == nil {
			d.unknown(c, path, key, options)
			continue
		}
		d.value(c, v.FieldByIndex(o.index), join(path, key), o)
	}
}

func (d *decoder) unknown(c *node, path, key string, options []option) {
	where := "this section"
	if path == "" {
		where = "the top level"
	}
	var hint string
	if near := nearest(key, options); near != "" {
		hint = fmt.Sprintf("did you mean %q? ", near)
	} else if other := sectionWith(d.schema, "", key); other != path && other != noSection {
		hint = d.placeOf(key, other)
	}
	allowed := allowedKeys(options)
	if allowed == "" {
		allowed = "none"
	}
	d.errs.add(c, join(path, quoteKey(key)), "no such key; %skeys of %s: %s", hint, where, allowed)
}

// placeOf says where a key belongs that was found in another section than its own.
func (d *decoder) placeOf(key, section string) string {
	if section == "" {
		switch o := optionNamed(optionsOf(d.schema), key); {
		case elementIsTable(o.typ):
			return fmt.Sprintf("[[%s]] is a section of its own. ", key)
		case shapeOf(o.typ) == shapeTable:
			return fmt.Sprintf("[%s] is a section of its own. ", key)
		}
	}
	return fmt.Sprintf("it belongs %s. ", placeName(section))
}

func (d *decoder) value(n *node, v reflect.Value, path string, o *option) {
	switch shapeOf(v.Type()) {
	case shapeOptional:
		fresh := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			fresh.Elem().Set(v.Elem())
		}
		d.value(n, fresh.Elem(), path, o)
		v.Set(fresh)
	case shapeText:
		d.text(n, v, path)
	case shapeTable:
		if n.kind != kindTable {
			d.wrongKind(n, v.Type(), path)
			return
		}
		d.table(n, v, path)
	case shapeList:
		d.list(n, v, path, o)
	case shapeMap:
		d.mapping(n, v, path, o)
	default:
		d.scalar(n, v, path, o)
	}
}

func (d *decoder) wrongKind(n *node, t reflect.Type, path string) {
	write := "write " + form(t)
	switch section := shapeOf(t) == shapeTable; {
	case elementIsTable(t) && n.kind == kindTable:
		write += fmt.Sprintf("; write [[%s]] with two brackets", path)
	case section && d.sectionTaking(path, n) != "":
		write = fmt.Sprintf("write %s below [%s], where it belongs", path, d.sectionTaking(path, n))
	case section && n.kind == kindArray && len(n.items) > 0 && n.items[0].kind == kindTable:
		write += fmt.Sprintf("; write [%s] with one bracket", path)
	case section && optionNamed(optionsOf(d.schema), path) != nil:
		write = sectionHint(d.schema, path, n)
	}
	d.errs.add(n, path, "%s is not allowed here; %s", kindWords[n.kind], write)
}

// sectionTaking gives the section with a key of this name that takes the value; "" if there
// is none.
func (d *decoder) sectionTaking(key string, n *node) string {
	for _, section := range optionsOf(d.schema) {
		if shapeOf(section.typ) != shapeTable {
			continue
		}
		if o := optionNamed(optionsOf(section.typ), key); o != nil && o.takes(n) {
			return section.name
		}
	}
	return ""
}

// takes reports whether the value is one that the option can have.
func (o *option) takes(n *node) bool {
	d := decoder{schema: reflect.TypeFor[struct{}]()} // no hints
	v := reflect.New(o.typ).Elem()
	d.value(n, v, "", o)
	d.validateValue(n, v, "", o)
	return len(d.errs.list) == 0
}

func (d *decoder) text(n *node, v reflect.Value, path string) {
	if n.kind != kindString {
		d.wrongKind(n, v.Type(), path)
		return
	}
	fresh := reflect.New(v.Type())
	u, _ := fresh.Interface().(encoding.TextUnmarshaler)
	if err := u.UnmarshalText([]byte(n.text)); err != nil {
		d.errs.add(n, path, "%s", err)
		return
	}
	v.Set(fresh.Elem())
}

func (d *decoder) list(n *node, v reflect.Value, path string, o *option) {
	if n.kind != kindArray {
		d.wrongKind(n, v.Type(), path)
		return
	}
	fresh := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		fresh.Index(i).Set(newElement(v.Type().Elem()))
		d.value(item, fresh.Index(i), fmt.Sprintf("%s[%d]", path, i+1), o)
	}
	v.Set(fresh)
}

func (d *decoder) mapping(n *node, v reflect.Value, path string, o *option) {
	if n.kind != kindTable {
		d.wrongKind(n, v.Type(), path)
		return
	}
	fresh := reflect.MakeMapWithSize(v.Type(), len(n.keys))
	for _, key := range n.keys {
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(n.children[key], value, join(path, quoteKey(key)), o)
		fresh.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
	}
	v.Set(fresh)
}

func (d *decoder) scalar(n *node, v reflect.Value, path string, o *option) {
	want := kindInteger
	switch v.Kind() {
	case reflect.Bool:
		want = kindBool
	case reflect.String:
		want = kindString
	case reflect.Float64:
		want = kindFloat
	}
	if n.kind != want && (want != kindFloat || n.kind != kindInteger) {
		d.errs.add(n, path, "%s is not allowed here; write %s", kindWords[n.kind], o.form(v.Type()))
		return
	}
	switch want {
	case kindBool:
		v.SetBool(n.text == "true")
	case kindString:
		v.SetString(n.text)
	case kindFloat:
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			d.errs.add(n, path, "%s is no number that can be used", n.text)
			return
		}
		v.SetFloat(f)
	default:
		d.integer(n, v, path)
	}
}

func (d *decoder) integer(n *node, v reflect.Value, path string) {
	i, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimPrefix(n.text, "+"), "_", ""), 0, 64)
	switch {
	case err != nil || v.CanInt() && v.OverflowInt(i):
		d.errs.add(n, path, "%s is too large", n.text)
	case v.CanInt():
		v.SetInt(i)
	case i < 0:
		d.errs.add(n, path, "%s is not allowed here; write a whole number, 0 or more", n.text)
	case v.OverflowUint(uint64(i)):
		d.errs.add(n, path, "%s is too large", n.text)
	default:
		v.SetUint(uint64(i))
	}
}

// form says what an option takes, its allowed words included.
func (o *option) form(t reflect.Type) string {
	if len(o.oneof) > 0 && t.Kind() == reflect.String {
		return quoteWords(o.oneof)
	}
	return form(t)
}

func quoteWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}
