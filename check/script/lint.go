// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"errors"
	"fmt"
	"slices"

	"go.starlark.net/syntax"

	"rcptgate"
	"rcptgate/check/script/star"
)

// hook is a function that is called by itself.
type hook struct {
	name, argument string
	stage          rcptgate.Stage
}

// hooks are the functions that are called by themselves, and their stages.
var hooks = []hook{ //nolint:gochecknoglobals // a table

	{"connect", "client", rcptgate.StageConnect}, {"helo", "client", rcptgate.StageHelo}, {"sender", "mail", rcptgate.StageMail},
	{"recipient", "rcpt", rcptgate.StageRcpt}, {"message", "msg", rcptgate.StageMessage},
}

// verdictWords make what functions return.
var verdictWords = []string{"accept", "reject", "tempfail", "discard", "hold"} //nolint:gochecknoglobals // a table

// lint looks at a script without running it: what it uses, what cannot be right, and what
// is probably a mistake.
type lint struct {
	names    map[string]bool // every name and attribute in it
	used     map[string]bool // functions that the script calls, passes on or loads
	doubtful []doubtful
	errs     []error
	warnings []string
}

func newLint() *lint { return &lint{names: make(map[string]bool), used: make(map[string]bool)} }

func (l *lint) warn(at syntax.Position, format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf("%v: %s", at, fmt.Sprintf(format, args...)))
}

// file looks at one file.
func (l *lint) file(f *syntax.File) {
	syntax.Walk(f, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Ident:
			l.names[n.Name] = true
		case *syntax.ExprStmt:
			l.statement(n)
		case *syntax.ForStmt:
			l.loop(n)
		case *syntax.CallExpr:
			l.call(n)
			l.use(n)
		case *syntax.LoadStmt:
			for _, from := range n.From {
				l.used[from.Name] = true
			}
		}
		return true
	})
	for _, s := range f.Stmts {
		if d, ok := s.(*syntax.DefStmt); ok {
			l.function(d)
		}
	}
	l.calls(f)
}

// statement finds verdicts that are made and not returned.
func (l *lint) statement(s *syntax.ExprStmt) {
	if c, ok := s.X.(*syntax.CallExpr); ok {
		if id, ok := c.Fn.(*syntax.Ident); ok && slices.Contains(verdictWords, id.Name) {
			l.errs = append(l.errs, errAt(id.NamePos, "%s() has no effect by itself: write return %s(...)", id.Name, id.Name))
		}
	}
}

// loop finds strings that grow in loops.
func (l *lint) loop(f *syntax.ForStmt) {
	for _, s := range f.Body {
		syntax.Walk(s, func(n syntax.Node) bool {
			if a, ok := n.(*syntax.AssignStmt); ok && a.Op == syntax.PLUS_EQ {
				if lit, ok := a.RHS.(*syntax.Literal); ok && lit.Token == syntax.STRING {
					l.warn(a.OpPos, "a string that grows in a loop is copied each time: append to a list, and join that")
				}
			}
			return true
		})
	}
}

// call finds ranges whose length depends on something else.
func (l *lint) call(c *syntax.CallExpr) {
	id, ok := c.Fn.(*syntax.Ident)
	if !ok || id.Name != "range" {
		return
	}
	for _, a := range c.Args {
		if inner, ok := a.(*syntax.CallExpr); ok {
			if f, ok := inner.Fn.(*syntax.Ident); ok && f.Name == "int" {
				l.warn(id.NamePos, "range(int(...)): the number may come from a message; bound it with min()")
			}
		}
	}
}

// function looks at a function of the top of a file.
func (l *lint) function(d *syntax.DefStmt) {
	for _, h := range hooks {
		if h.name == d.Name.Name {
			l.hook(d, h.argument)
			return
		}
	}
	if hint := hookHint(d.Name.Name); hint != "" && len(d.Params) == 1 {
		l.doubtful = append(l.doubtful, doubtful{d.Name.Name, hint, d.Name.NamePos})
	}
}

// hook looks at a function that is called by itself: its argument and what it returns.
func (l *lint) hook(d *syntax.DefStmt, argument string) {
	if len(d.Params) != 1 {
		l.errs = append(l.errs, errAt(d.Name.NamePos, "%s() takes one argument, the %s; this one has %d", d.Name.Name, argument, len(d.Params)))
		return
	}
	id, ok := d.Params[0].(*syntax.Ident)
	if !ok {
		l.errs = append(l.errs, errAt(d.Name.NamePos, "%s() takes one argument, the %s, by its name alone", d.Name.Name, argument))
		return
	}
	l.returns(d.Body, d.Name.Name)
	l.attributes(d, id.Name, argument)
}

// returns finds results that cannot be verdicts.
func (l *lint) returns(body []syntax.Stmt, name string) {
	for _, s := range body {
		syntax.Walk(s, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.DefStmt, *syntax.LambdaExpr:
				return false // returns of its own
			case *syntax.ReturnStmt:
				if why := notVerdict(n.Result); why != "" {
					at, _ := n.Result.Span()
					l.errs = append(l.errs, errAt(at, "%s() returns %s: expected None, or accept(), reject(), tempfail(), discard() or hold()", name, why))
				}
			}
			return true
		})
	}
}

// notVerdict says what an expression is that is certainly not a verdict.
func notVerdict(e syntax.Expr) string {
	switch e := e.(type) {
	case *syntax.Literal:
		return map[syntax.Token]string{syntax.STRING: "a string", syntax.BYTES: "bytes", syntax.INT: "a number", syntax.FLOAT: "a number"}[e.Token]
	case *syntax.ListExpr, *syntax.Comprehension:
		return "a list"
	case *syntax.TupleExpr:
		return "a tuple"
	case *syntax.DictExpr:
		return "a dictionary"
	case *syntax.LambdaExpr:
		return "a function"
	case *syntax.UnaryExpr:
		if e.Op == syntax.NOT {
			return "True or False"
		}
	case *syntax.Ident:
		switch {
		case e.Name == "True" || e.Name == "False":
			return e.Name
		case slices.Contains(verdictWords, e.Name):
			return e.Name + " itself, which needs ()"
		}
	case *syntax.BinaryExpr:
		if e.Op != syntax.AND && e.Op != syntax.OR {
			return "the result of " + e.Op.String()
		}
	case *syntax.ParenExpr:
		return notVerdict(e.X)
	case *syntax.CondExpr:
		if why := notVerdict(e.True); why != "" {
			return why
		}
		return notVerdict(e.False)
	}
	return ""
}

// attributes finds attributes that the argument does not have. A function that gives the
// name another value is left alone.
func (l *lint) attributes(d *syntax.DefStmt, argument, class string) {
	if assigns(d.Body, argument) {
		return
	}
	for _, s := range d.Body {
		syntax.Walk(s, func(n syntax.Node) bool {
			if c, ok := n.(*syntax.CallExpr); ok {
				l.method(c, argument, class)
			}
			dot, ok := n.(*syntax.DotExpr)
			if !ok {
				return true
			}
			if of := classOf(dot.X, argument, class); of != "" && !star.HasMember(of, dot.Name.Name) {
				l.errs = append(l.errs, errAt(dot.Name.NamePos, "%s has no .%s%s", of, dot.Name.Name, star.Nearest(dot.Name.Name, star.Members(of), ".")))
			}
			return true
		})
	}
}

// method finds wrong arguments of a method of the argument.
func (l *lint) method(c *syntax.CallExpr, argument, class string) {
	dot, ok := c.Fn.(*syntax.DotExpr)
	if !ok {
		return
	}
	if of := classOf(dot.X, argument, class); of != "" {
		if why := star.CheckMethod(of, dot.Name.Name, c.Args); why != "" {
			l.errs = append(l.errs, errAt(dot.Name.NamePos, "%s", why))
		}
	}
}

// classOf is the class of an expression: the argument itself, or its client.
func classOf(e syntax.Expr, argument, class string) string {
	switch e := e.(type) {
	case *syntax.Ident:
		if e.Name == argument {
			return class
		}
	case *syntax.DotExpr:
		if id, ok := e.X.(*syntax.Ident); ok && id.Name == argument && e.Name.Name == "client" {
			return "client"
		}
	}
	return ""
}

// assigns reports whether a name gets another value anywhere in a function, inner functions
// included.
func assigns(body []syntax.Stmt, name string) (found bool) {
	bound := func(e syntax.Node) {
		syntax.Walk(e, func(n syntax.Node) bool {
			if id, ok := n.(*syntax.Ident); ok && id.Name == name {
				found = true
			}
			return true
		})
	}
	for _, s := range body {
		syntax.Walk(s, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.AssignStmt:
				if id, ok := n.LHS.(*syntax.Ident); ok {
					bound(id)
				} else if t, ok := n.LHS.(*syntax.TupleExpr); ok {
					bound(t)
				}
			case *syntax.ForStmt:
				bound(n.Vars)
			case *syntax.ForClause:
				bound(n.Vars)
			case *syntax.DefStmt:
				for _, p := range n.Params {
					bound(p)
				}
			case *syntax.LambdaExpr:
				for _, p := range n.Params {
					bound(p)
				}
			}
			return true
		})
	}
	return found
}

func (l *lint) err() error { return errors.Join(l.errs...) }

// uses reports whether one of the names is anywhere in the script.
func (l *lint) uses(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return l.names[n] })
}

// wants is what the script needs from the MTA. What is named decides: a method that is
// written nowhere cannot be called, except by getattr, which then means all of them. So
// nobody pays for a body that is not looked at, and Sendmail, which delays aliases where a
// filter may remove recipients, does so only for scripts that may.
func (l *lint) wants(message bool) (w rcptgate.Wants) {
	uses := func(names ...string) bool { return l.uses(names...) || l.uses("getattr") }
	if uses("tls", "tls_cipher", "mta") {
		w |= rcptgate.WantSession
	}
	if uses("hold") {
		w |= rcptgate.Quarantine
	}
	if uses("discard", "delete_recipient", "add_recipient") {
		w |= rcptgate.EditRecipients
	}
	if !message {
		return w
	}
	w |= rcptgate.WantHeader
	if uses("parts", "text", "size", "scan", "append_text", "remove", "replace", "malformed", "cut") {
		w |= rcptgate.WantBody
	}
	if uses("add_header", "change_header", "delete_header", "tag_subject") {
		w |= rcptgate.EditHeader
	}
	if uses("append_text", "remove", "replace") {
		w |= rcptgate.EditBody | rcptgate.EditHeader
	}
	if uses("change_sender") {
		w |= rcptgate.EditSender
	}
	return w
}
