// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// coverage counts which lines of functions have run. Files of tests are not counted.
type coverage struct {
	ran map[string]map[int32]bool // by file: the lines with statements, and whether each ran
}

func newCoverage() *coverage { return &coverage{ran: make(map[string]map[int32]bool)} }

// ranName is the word that files are given to say that a line has run.
const ranName = "$ran"

// instrument puts a call of $ran before every statement of functions.
func (c *coverage) instrument(m *module) {
	if strings.HasSuffix(m.name, testSuffix) {
		return
	}
	if c.ran[m.path] == nil {
		c.ran[m.path] = make(map[int32]bool)
	}
	syntax.Walk(m.tree, func(n syntax.Node) bool {
		if d, ok := n.(*syntax.DefStmt); ok {
			d.Body = c.body(m.path, d.Body)
			return false
		}
		return true
	})
}

func (c *coverage) body(path string, body []syntax.Stmt) (out []syntax.Stmt) {
	for _, s := range body {
		at, _ := s.Span()
		c.ran[path][at.Line] = c.ran[path][at.Line]
		switch s := s.(type) {
		case *syntax.IfStmt:
			s.True, s.False = c.body(path, s.True), c.body(path, s.False)
		case *syntax.ForStmt:
			s.Body = c.body(path, s.Body)
		case *syntax.DefStmt:
			s.Body = c.body(path, s.Body)
		}
		args := []syntax.Expr{
			&syntax.Literal{Token: syntax.STRING, TokenPos: at, Raw: "x", Value: path},
			&syntax.Literal{Token: syntax.INT, TokenPos: at, Raw: "0", Value: int64(at.Line)},
		}
		out = append(out, &syntax.ExprStmt{X: &syntax.CallExpr{Fn: &syntax.Ident{NamePos: at, Name: ranName}, Lparen: at, Args: args, Rparen: at}}, s)
	}
	return out
}

// word is $ran.
func (c *coverage) word() starlark.Value {
	return starlark.NewBuiltin("ran", func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		path, _ := starlark.AsString(args[0])
		line, err := starlark.AsInt32(args[1])
		c.ran[path][int32(line)] = true // #nosec G115 -- of a file
		return starlark.None, err
	})
}

// print writes how much of each file has run, and which lines have not.
func (c *coverage) print(w io.Writer) error {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(c.ran)) {
		var missed []string
		for _, line := range slices.Sorted(maps.Keys(c.ran[path])) {
			if !c.ran[path][line] {
				missed = append(missed, fmt.Sprint(line))
			}
		}
		all := len(c.ran[path])
		fmt.Fprintf(&b, "# %s: %d of %d lines", path, all-len(missed), all)
		if len(missed) > 0 {
			b.WriteString(", not " + strings.Join(missed, ", "))
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
