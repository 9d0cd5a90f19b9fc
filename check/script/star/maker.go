// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"context"
	"io"

	"go.starlark.net/starlark"

	"rcptgate"
)

// Make gives what a function is called with for a question, for tests of scripts: an object
// that lives as long as it is held.
func Make(env *Env, q *rcptgate.Query) starlark.Value {
	c := &Call{Env: env}
	return c.Begin(context.Background(), q)
}

// Proposed are the changes that were asked for on a message, for tests of scripts, and its
// body if that was changed. Not a message: ok is false.
func Proposed(v starlark.Value) (edits []string, body string, ok bool, err error) {
	m, ok := v.(*Msg)
	if !ok {
		return nil, "", false, nil
	}
	if err := m.c.Apply(); err != nil {
		return nil, "", true, err
	}
	m.view = nil // changes are proposed once
	list := m.message().Proposed()
	for i := range list {
		edits = append(edits, list[i].String())
		if list[i].Kind == rcptgate.EditReplaceBody {
			raw, err := io.ReadAll(io.NewSectionReader(list[i].Body, 0, list[i].Size))
			if err != nil {
				return nil, "", true, err
			}
			body = string(raw)
		}
	}
	return edits, body, true, nil
}
