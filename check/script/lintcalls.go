// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"slices"
	"strings"

	"go.starlark.net/syntax"

	"rcptgate/check/script/star"
)

// calls finds wrong arguments of words, and functions that call themselves. A file that gives
// a word another meaning anywhere is left alone as far as that word goes.
func (l *lint) calls(f *syntax.File) {
	bound := make(map[string]bool)
	for _, s := range f.Stmts {
		syntax.Walk(s, func(n syntax.Node) bool { bind(n, bound); return true })
	}
	syntax.Walk(f, func(n syntax.Node) bool {
		c, ok := n.(*syntax.CallExpr)
		if !ok {
			return true
		}
		name, at := called(c)
		if root, _, _ := strings.Cut(name, "."); name == "" || bound[root] {
			return true
		}
		if why := star.CheckWord(name, c.Args); why != "" {
			l.errs = append(l.errs, errAt(at, "%s", why))
		}
		return true
	})
	l.recursion(f)
}

// called is the name of what a call calls, "reject" or "dns.a"; "" if it is something else.
func called(c *syntax.CallExpr) (string, syntax.Position) {
	switch f := c.Fn.(type) {
	case *syntax.Ident:
		return f.Name, f.NamePos
	case *syntax.DotExpr:
		if id, ok := f.X.(*syntax.Ident); ok {
			return id.Name + "." + f.Name.Name, id.NamePos
		}
	}
	return "", syntax.Position{}
}

// bind notes the names that a node gives a value.
func bind(n syntax.Node, bound map[string]bool) {
	each := func(e syntax.Node) {
		syntax.Walk(e, func(n syntax.Node) bool {
			if id, ok := n.(*syntax.Ident); ok {
				bound[id.Name] = true
			}
			return true
		})
	}
	switch n := n.(type) {
	case *syntax.AssignStmt:
		switch n.LHS.(type) {
		case *syntax.DotExpr, *syntax.IndexExpr: // no name
		default:
			each(n.LHS)
		}
	case *syntax.ForStmt:
		each(n.Vars)
	case *syntax.ForClause:
		each(n.Vars)
	case *syntax.DefStmt:
		bound[n.Name.Name] = true
		parameterNames(n.Params, bound)
	case *syntax.LambdaExpr:
		parameterNames(n.Params, bound)
	case *syntax.LoadStmt:
		for _, to := range n.To {
			bound[to.Name] = true
		}
	}
}

func parameterNames(list []syntax.Expr, bound map[string]bool) {
	for _, p := range list {
		switch p := p.(type) {
		case *syntax.Ident:
			bound[p.Name] = true
		case *syntax.BinaryExpr:
			if id, ok := p.X.(*syntax.Ident); ok {
				bound[id.Name] = true
			}
		case *syntax.UnaryExpr:
			if id, ok := p.X.(*syntax.Ident); ok {
				bound[id.Name] = true
			}
		}
	}
}

// recursion finds functions of the top of a file that call themselves, at once or by way of
// others: there is no recursion in Starlark.
func (l *lint) recursion(f *syntax.File) {
	type call struct {
		to string
		at syntax.Position
	}
	calls := make(map[string][]call)
	var names []string
	for _, s := range f.Stmts {
		d, ok := s.(*syntax.DefStmt)
		if !ok {
			continue
		}
		own := make(map[string]bool)
		parameterNames(d.Params, own)
		for _, s := range d.Body {
			syntax.Walk(s, func(n syntax.Node) bool { bind(n, own); return true })
		}
		names = append(names, d.Name.Name)
		for _, s := range d.Body {
			syntax.Walk(s, func(n syntax.Node) bool {
				switch n := n.(type) {
				case *syntax.DefStmt, *syntax.LambdaExpr:
					return false // may be called elsewhere
				case *syntax.CallExpr:
					if id, ok := n.Fn.(*syntax.Ident); ok && !own[id.Name] {
						calls[d.Name.Name] = append(calls[d.Name.Name], call{id.Name, id.NamePos})
					}
				}
				return true
			})
		}
	}
	done := make(map[string]bool)
	var visit func(name string, above []string)
	visit = func(name string, above []string) {
		above = append(above, name)
		for _, c := range calls[name] {
			switch i := slices.Index(above, c.to); {
			case i == len(above)-1:
				l.errs = append(l.errs, errAt(c.at, "%s() calls itself: there is no recursion", c.to))
			case i >= 0:
				l.errs = append(l.errs, errAt(c.at, "%s() calls %s(), which calls it: there is no recursion", name, c.to))
			case !done[c.to]:
				visit(c.to, above)
			}
		}
		done[name] = true
	}
	for _, name := range names {
		if !done[name] {
			visit(name, nil)
		}
	}
}
