// SPDX-License-Identifier: BSD-2-Clause

package config

import "reflect"

// Defaulter is a part of a repeated section whose options have defaults other than zero.
// Each time that the section stands in a file, the part begins with them.
type Defaulter interface{ SetDefaults() }

// newElement makes an element of a list, a zero one unless it has defaults.
func newElement(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	setDefaults(p)
	return p.Elem()
}

func setDefaults(p reflect.Value) {
	if d, ok := p.Interface().(Defaulter); ok {
		d.SetDefaults()
		return
	}
	if v := p.Elem(); shapeOf(v.Type()) == shapeTable { // parts of one section
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Field(i).Kind() == reflect.Struct {
				setDefaults(v.Field(i).Addr())
			}
		}
	}
}
