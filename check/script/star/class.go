// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"fmt"
	"slices"

	"go.starlark.net/starlark"
)

// method is a method's code: c is the call that is running.
type method[T any] func(c *Call, self T, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

// member is an attribute or a method of a class.
type member[T any] struct {
	name string
	sign string // the type of an attribute, the arguments and result of a method
	doc  string
	get  func(self T) starlark.Value          // an attribute
	try  func(self T) (starlark.Value, error) // one that has to be read
	call method[T]                            // a method
}

// class is the members of a type of object.
type class[T any] struct {
	name, doc string
	members   []member[T]
	byName    map[string]*member[T]
	names     []string
}

func newClass[T any](name, doc string, members ...member[T]) *class[T] {
	c := &class[T]{name: name, doc: doc, byName: make(map[string]*member[T])}
	for i := range members { // a later one takes the place of one of a class above
		if !slices.ContainsFunc(members[i+1:], func(m member[T]) bool { return m.name == members[i].name }) {
			c.members = append(c.members, members[i])
		}
	}
	for i := range c.members {
		c.byName[c.members[i].name] = &c.members[i]
		c.names = append(c.names, c.members[i].name)
	}
	slices.Sort(c.names)
	return c
}

// with gives the members of a class under another that has all of them: of "mail" for
// "rcpt".
func with[T, U any](base *class[U], of func(T) U) (list []member[T]) {
	for i := range base.members {
		m := &base.members[i]
		w := member[T]{name: m.name, sign: m.sign, doc: m.doc}
		switch {
		case m.get != nil:
			w.get = func(self T) starlark.Value { return m.get(of(self)) }
		case m.try != nil:
			w.try = func(self T) (starlark.Value, error) { return m.try(of(self)) }
		default:
			w.call = func(c *Call, self T, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
				return m.call(c, of(self), b, args, kwargs)
			}
		}
		list = append(list, w)
	}
	return list
}

// attr gives a member of an object; nil, nil if there is none.
func (cl *class[T]) attr(self T, name string) (starlark.Value, error) {
	m := cl.byName[name]
	if m == nil {
		return nil, nil //nolint:nilnil // as starlark.HasAttrs wants it
	}
	switch {
	case m.get != nil:
		return m.get(self), nil
	case m.try != nil:
		return m.try(self)
	}
	return starlark.NewBuiltin(name, func(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		c := callOf(t)
		v, err := m.call(c, self, b, args, kwargs)
		c.charge(v)
		return v, err
	}), nil
}

// ClassDoc describes a type of object for the manual.
type ClassDoc struct {
	Name, Doc string
	Members   []MemberDoc
}

// MemberDoc describes an attribute, a method or a word.
type MemberDoc struct {
	Name string
	Sign string // the type of an attribute; "(arguments) -> result" of what can be called
	Doc  string
}

func (cl *class[T]) describe() ClassDoc {
	d := ClassDoc{Name: cl.name, Doc: cl.doc}
	for i := range cl.members {
		m := &cl.members[i]
		d.Members = append(d.Members, MemberDoc{m.name, m.sign, m.doc})
	}
	return d
}

// object is what all objects have in common: they are not data.
type object struct{}

func (object) Freeze()              {}
func (object) Truth() starlark.Bool { return true }

// unhashable says that an object cannot be a key.
func unhashable(name string) (uint32, error) { return 0, fmt.Errorf("%s cannot be a key", name) }
