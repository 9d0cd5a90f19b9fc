// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"rcptgate/config/setting"
)

// validate holds the effective values against the tags' limits and the sections'
// Validate methods. n is the file's node for v, nil when the file has none.
func (d *decoder) validate(n *node, v reflect.Value, path string) {
	for _, o := range optionsOf(v.Type()) {
		key := join(path, o.name)
		d.validateValue(n.child(o.name), v.FieldByIndex(o.index), key, &o)
	}
	d.callValidate(n, v, path)
}

func (d *decoder) validateValue(n *node, v reflect.Value, key string, o *option) {
	switch shapeOf(v.Type()) {
	case shapeTable:
		d.validate(n, v, key)
	case shapeOptional:
		if !v.IsNil() {
			d.validateValue(n, v.Elem(), key, o)
		}
	case shapeList:
		for i := range v.Len() {
			var item *node
			if n != nil && i < len(n.items) {
				item = n.items[i]
			}
			d.validateValue(item, v.Index(i), fmt.Sprintf("%s[%d]", key, i+1), o)
		}
	case shapeMap:
		for it := v.MapRange(); it.Next(); {
			d.validateValue(n.child(it.Key().String()), it.Value(), join(key, quoteKey(it.Key().String())), o)
		}
	default:
		if !d.errs.under(key) {
			d.limits(n, v, key, o)
		}
	}
}

func (d *decoder) limits(n *node, v reflect.Value, key string, o *option) {
	if len(o.oneof) > 0 && v.Kind() == reflect.String && !slices.Contains(o.oneof, v.String()) {
		d.errs.add(n, key, "%q is not allowed; expected %s", v.String(), quoteWords(o.oneof))
		return
	}
	low, hasLow := limitOf(v.Type(), o.min)
	high, hasHigh := limitOf(v.Type(), o.max)
	value, ok := number(v)
	if !ok || !(hasLow && value < low || hasHigh && value > high) {
		return
	}
	shown := formatLeaf(v)
	switch {
	case hasLow && hasHigh:
		d.errs.add(n, key, "%s is out of range; expected %s to %s", shown, o.min, o.max)
	case hasLow:
		d.errs.add(n, key, "%s is too small; expected at least %s", shown, o.min)
	default:
		d.errs.add(n, key, "%s is too large; expected at most %s", shown, o.max)
	}
}

// limitOf reads a limit as the option's own type would.
func limitOf(t reflect.Type, limit string) (float64, bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if limit == "" {
		return 0, false
	}
	if shapeOf(t) == shapeText {
		v := reflect.New(t)
		if u, ok := v.Interface().(encoding.TextUnmarshaler); !ok || u.UnmarshalText([]byte(limit)) != nil {
			return 0, false
		}
		return number(v.Elem())
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(limit, "_", ""), 64)
	return f, err == nil
}

func number(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

type validator interface{ Validate() error }

// callValidate asks the section, and each struct that is inline in it, whether its values
// fit together. An embedded method that is promoted is called twice; the collector
// drops the double.
func (d *decoder) callValidate(n *node, v reflect.Value, path string) {
	p := reflect.New(v.Type()) // a pointer, for methods on pointers; v itself may not be addressable
	p.Elem().Set(v)
	if s, ok := p.Interface().(validator); ok {
		d.placeNew(n, path, s.Validate(), len(d.errs.list))
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if _, inline := tagOf(f); inline && f.IsExported() {
			d.callValidate(n, v.Field(i), path)
		}
	}
}

// placeNew is place for what a section says of its values together. What it says of a key
// that is known to be wrong would repeat that; what it says of no key in particular may
// follow from it.
func (d *decoder) placeNew(n *node, path string, err error, known int) {
	var named *setting.KeyError
	switch many, joined := err.(interface{ Unwrap() []error }); { //nolint:errorlint // it walks the tree itself
	case err == nil:
	case joined:
		for _, one := range many.Unwrap() {
			d.placeNew(n, path, one, known)
		}
	case errors.As(err, &named) && !d.errs.underFirst(known, joinKey(path, named.Key)), named == nil && !d.errs.underFirst(known, path):
		d.place(n, path, err)
	}
}

// place gives each of the joined errors the line of the key it names.
func (d *decoder) place(n *node, path string, err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range many.Unwrap() {
			d.place(n, path, one)
		}
		return
	}
	key, text := "", err.Error()
	var named *setting.KeyError
	if errors.As(err, &named) {
		key, text = named.Key, named.Err.Error()
	}
	at := n
	if n == d.root {
		at = nil // the whole file is no place
	}
	if key != "" && n != nil {
		if found := n.findNearest(key); found != nil {
			at = found
		}
	}
	d.errs.add(at, joinKey(path, key), "%s", text)
}

func joinKey(path, key string) string {
	if key == "" {
		return path
	}
	return join(path, key)
}

// findNearest follows a dotted key as far as the file has it. The root stands for
// the whole file and is no place.
func (n *node) findNearest(key string) *node {
	var last *node
	for _, part := range strings.Split(key, ".") {
		name, index, indexed := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		if n = n.child(name); n == nil {
			return last
		}
		if i, err := strconv.Atoi(index); indexed && err == nil && i >= 1 && i <= len(n.items) {
			n = n.items[i-1]
		}
		last = n
	}
	return last
}
