// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"slices"

	"go.starlark.net/syntax"
)

// addressParts are the attributes of strings that are addresses.
var addressParts = []string{"local", "domain", "user", "detail", "null", "is6"} //nolint:gochecknoglobals // a table

// checked are the methods of strings, lists, dictionaries and sets whose result can be much
// larger than what they are given, or that compare values, take them as keys, or look for each
// of many.
var checked = []string{ //nolint:gochecknoglobals // a table
	"join", "format", "replace", "extend", "split", "rsplit", "splitlines", "index", "remove",
	"strip", "lstrip", "rstrip", "startswith", "endswith",
	"get", "setdefault", "pop", "update", "add", "discard",
	"union", "intersection", "difference", "symmetric_difference", "issubset", "issuperset",
	"intersection_update", "difference_update", "symmetric_difference_update",
}

// Rewrite changes a parsed file, before it is resolved:
//
//	x.domain             becomes  $part(x, "domain")
//	x + y, x * y, x % y  become   $op+(x, y) ..., unless the result is hardly larger
//	x += y               becomes  x += $grow+(x, y)
//	x.join(y)            becomes  $call(x, "join", y)
//	x.join               becomes  $method(x, "join")
//	x == y, x in y       becomes  $op==(x, y) ..., unless one side is written out
//	x[y], {x: y}         becomes  x[$key(y)], {$key(x): y}, likewise
//
// Names with "$" are those of [Words]. Positions stay.
func Rewrite(f *syntax.File) {
	for _, s := range f.Stmts {
		statement(s)
	}
}

func statements(list []syntax.Stmt) {
	for _, s := range list {
		statement(s)
	}
}

func statement(s syntax.Stmt) {
	switch s := s.(type) {
	case *syntax.AssignStmt:
		s.RHS = rewritten(s.RHS)
		s.LHS = target(s.LHS)
		assignment(s)
	case *syntax.DefStmt:
		parameters(s.Params)
		statements(s.Body)
	case *syntax.ExprStmt:
		s.X = rewritten(s.X)
	case *syntax.ForStmt:
		s.Vars, s.X = target(s.Vars), rewritten(s.X)
		statements(s.Body)
	case *syntax.WhileStmt:
		s.Cond = rewritten(s.Cond)
		statements(s.Body)
	case *syntax.IfStmt:
		s.Cond = rewritten(s.Cond)
		statements(s.True)
		statements(s.False)
	case *syntax.ReturnStmt:
		s.Result = rewritten(s.Result)
	}
}

// augmented are the operators of x += y that are checked.
var augmented = map[syntax.Token]syntax.Token{syntax.PLUS_EQ: syntax.PLUS, syntax.STAR_EQ: syntax.STAR, syntax.PERCENT_EQ: syntax.PERCENT} //nolint:gochecknoglobals // a table

// assignment checks what x += y makes. A left side that calls something is left alone: it
// would call it twice.
func assignment(s *syntax.AssignStmt) {
	op, checked := augmented[s.Op]
	if checked && !harmless(op, s.LHS, s.RHS) && repeats(s.LHS) {
		s.RHS = call(growPrefix+op.String(), s.OpPos, s.LHS, s.RHS)
	}
}

// repeats reports whether an expression may be evaluated twice.
func repeats(e syntax.Expr) bool {
	switch e := e.(type) {
	case *syntax.Ident, *syntax.Literal:
		return true
	case *syntax.DotExpr:
		return repeats(e.X)
	case *syntax.IndexExpr:
		return repeats(e.X) && repeats(e.Y)
	case *syntax.ParenExpr:
		return repeats(e.X)
	case *syntax.CallExpr:
		f, ok := e.Fn.(*syntax.Ident)
		return ok && f.Name == keyName && repeats(e.Args[0])
	}
	return false
}

// target rewrites what is inside a left side, and not itself.
func target(e syntax.Expr) syntax.Expr {
	switch e := e.(type) {
	case *syntax.IndexExpr:
		e.X, e.Y = rewritten(e.X), key(e.Y, e.Lbrack)
	case *syntax.DotExpr:
		e.X = rewritten(e.X)
	case *syntax.ParenExpr:
		e.X = target(e.X)
	case *syntax.TupleExpr:
		for i := range e.List {
			e.List[i] = target(e.List[i])
		}
	case *syntax.ListExpr:
		for i := range e.List {
			e.List[i] = target(e.List[i])
		}
	}
	return e
}

// parameters rewrites defaults.
func parameters(list []syntax.Expr) {
	for _, p := range list {
		if b, ok := p.(*syntax.BinaryExpr); ok && b.Op == syntax.EQ {
			b.Y = rewritten(b.Y)
		}
	}
}

// arguments rewrites what a call is given; names of arguments stay.
func arguments(list []syntax.Expr) {
	for i, a := range list {
		switch a := a.(type) {
		case *syntax.BinaryExpr:
			if a.Op == syntax.EQ {
				a.Y = rewritten(a.Y)
				continue
			}
		case *syntax.UnaryExpr:
			if a.Op == syntax.STAR || a.Op == syntax.STARSTAR {
				a.X = rewritten(a.X)
				continue
			}
		}
		list[i] = rewritten(a)
	}
}

func all(list []syntax.Expr) {
	for i := range list {
		list[i] = rewritten(list[i])
	}
}

// rewritten is an expression and all that is in it, rewritten.
func rewritten(e syntax.Expr) syntax.Expr {
	switch e := e.(type) {
	case *syntax.BinaryExpr:
		e.X, e.Y = rewritten(e.X), rewritten(e.Y)
		if sign, checked := operators[e.Op]; checked && !harmless(e.Op, e.X, e.Y) {
			return call(opPrefix+sign, e.OpPos, e.X, e.Y)
		}
		if sign, compares := comparisons[e.Op]; compares && !plainly(e) {
			return call(opPrefix+sign, e.OpPos, e.X, e.Y)
		}
	case *syntax.UnaryExpr:
		e.X = rewritten(e.X)
	case *syntax.ParenExpr:
		e.X = rewritten(e.X)
	case *syntax.DotExpr:
		e.X = rewritten(e.X)
		if slices.Contains(addressParts, e.Name.Name) {
			return call(partName, e.Dot, e.X, literal(e.Name))
		}
		if slices.Contains(checked, e.Name.Name) {
			return call(methodName, e.Dot, e.X, literal(e.Name))
		}
	case *syntax.CallExpr:
		return callOfMethod(e)
	case *syntax.IndexExpr:
		e.X, e.Y = rewritten(e.X), key(e.Y, e.Lbrack)
	case *syntax.SliceExpr:
		e.X, e.Lo, e.Hi, e.Step = rewritten(e.X), rewritten(e.Lo), rewritten(e.Hi), rewritten(e.Step)
	case *syntax.CondExpr:
		e.Cond, e.True, e.False = rewritten(e.Cond), rewritten(e.True), rewritten(e.False)
	case *syntax.ListExpr:
		all(e.List)
	case *syntax.TupleExpr:
		all(e.List)
	case *syntax.DictExpr:
		all(e.List)
	case *syntax.DictEntry:
		e.Key, e.Value = key(e.Key, e.Colon), rewritten(e.Value)
	case *syntax.LambdaExpr:
		parameters(e.Params)
		e.Body = rewritten(e.Body)
	case *syntax.Comprehension:
		e.Body = rewritten(e.Body)
		for _, c := range e.Clauses {
			switch c := c.(type) {
			case *syntax.ForClause:
				c.Vars, c.X = target(c.Vars), rewritten(c.X)
			case *syntax.IfClause:
				c.Cond = rewritten(c.Cond)
			}
		}
	}
	return e
}

func callOfMethod(e *syntax.CallExpr) syntax.Expr {
	arguments(e.Args)
	dot, ok := e.Fn.(*syntax.DotExpr)
	if !ok || !slices.Contains(checked, dot.Name.Name) {
		e.Fn = rewritten(e.Fn)
		return e
	}
	e.Args = append([]syntax.Expr{rewritten(dot.X), literal(dot.Name)}, e.Args...)
	e.Fn = &syntax.Ident{NamePos: dot.NamePos, Name: callName}
	return e
}

func call(name string, at syntax.Position, args ...syntax.Expr) syntax.Expr {
	return &syntax.CallExpr{Fn: &syntax.Ident{NamePos: at, Name: name}, Lparen: at, Args: args, Rparen: at}
}

// key is what a value of a dictionary is found by, rewritten.
func key(e syntax.Expr, at syntax.Position) syntax.Expr {
	if e = rewritten(e); isScalarLiteral(e) {
		return e
	}
	return call(keyName, at, e)
}

func literal(name *syntax.Ident) syntax.Expr {
	return &syntax.Literal{Token: syntax.STRING, TokenPos: name.NamePos, Raw: `"` + name.Name + `"`, Value: name.Name}
}

// harmless reports whether an operation makes something hardly larger than one of its
// operands, as can be seen: x + "suffix", i * 2 with a number on both sides, n % 60.
func harmless(op syntax.Token, x, y syntax.Expr) bool {
	switch op {
	case syntax.PLUS:
		return isPlain(x) || isPlain(y)
	case syntax.STAR:
		return isNumber(x) && isNumber(y)
	case syntax.PERCENT:
		return isNumber(y)
	}
	return false
}

// isPlain reports whether an expression is written out and small.
func isPlain(e syntax.Expr) bool {
	switch e := e.(type) {
	case *syntax.Literal:
		return true
	case *syntax.ParenExpr:
		return isPlain(e.X)
	case *syntax.ListExpr:
		return true
	case *syntax.TupleExpr:
		return true
	}
	return false
}

// plainly reports whether a comparison takes no time, as can be seen.
func plainly(e *syntax.BinaryExpr) bool {
	if isScalarLiteral(e.X) || e.Op != syntax.IN && e.Op != syntax.NOT_IN {
		return isScalarLiteral(e.X) || isScalarLiteral(e.Y)
	}
	switch y := e.Y.(type) {
	case *syntax.ListExpr:
		return !slices.ContainsFunc(y.List, func(e syntax.Expr) bool { return !isScalarLiteral(e) })
	case *syntax.ParenExpr:
		t, ok := y.X.(*syntax.TupleExpr)
		return ok && !slices.ContainsFunc(t.List, func(e syntax.Expr) bool { return !isScalarLiteral(e) })
	}
	return isScalarLiteral(e.Y)
}

// isScalarLiteral reports whether an expression is a string, a number, None, True or False.
func isScalarLiteral(e syntax.Expr) bool {
	switch e := e.(type) {
	case *syntax.Literal:
		return true
	case *syntax.Ident:
		return e.Name == "None" || e.Name == "True" || e.Name == "False"
	case *syntax.UnaryExpr:
		return e.Op == syntax.MINUS && isScalarLiteral(e.X)
	}
	return false
}

func isNumber(e syntax.Expr) bool {
	l, ok := e.(*syntax.Literal)
	return ok && (l.Token == syntax.INT || l.Token == syntax.FLOAT)
}
