// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"go.starlark.net/starlark"
)

// Msg is a message at its end: the argument of message.
type Msg struct {
	object
	c *Call
}

var msgClass = newClass("msg", "the whole message: the argument of message(). It has everything that a mail has, and:",
	with(mailClass, func(x *Msg) *Mail { return &x.c.mail })...)

// String and the rest make Msg a value.
func (x *Msg) String() string                           { return "message " + x.c.query().QueueID }
func (*Msg) Type() string                               { return msgClass.name }
func (*Msg) Hash() (uint32, error)                      { return unhashable("a message") }
func (x *Msg) AttrNames() []string                      { return msgClass.names }
func (x *Msg) Attr(name string) (starlark.Value, error) { return msgClass.attr(x, name) }

func (x *Msg) begin() {}
func (x *Msg) end()   {}
