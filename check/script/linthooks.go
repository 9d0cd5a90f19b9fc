// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"fmt"
	"strings"

	"go.starlark.net/syntax"

	"rcptgate/check/script/star"
)

// doubtful is a function that looks like a hook by its name, and is none.
type doubtful struct {
	name, hint string
	at         syntax.Position
}

// otherWords are what people call the stages: SMTP's, Sendmail's and Postfix's words.
var otherWords = map[string]string{ //nolint:gochecknoglobals // a table

	"client": "connect", "connection": "connect", "ehlo": "helo", "hello": "helo",
	"mail": "sender", "mail_from": "sender", "envfrom": "sender", "envelope": "sender",
	"rcpt": "recipient", "rcpt_to": "recipient", "envrcpt": "recipient",
	"msg": "message", "data": "message", "body": "message", "eom": "message", "end_of_message": "message",
}

// hookHint says which hook a function's name is close to; "" if none.
func hookHint(name string) string {
	short := name
	for _, before := range []string{"on_", "check_", "handle_"} {
		short = strings.TrimPrefix(short, before)
	}
	if h := otherWords[strings.ToLower(short)]; h != "" {
		return " (did you mean def " + h + "?)"
	}
	names := make([]string, len(hooks))
	for i, h := range hooks {
		names[i] = h.name
		if short == h.name {
			return " (did you mean def " + h.name + "?)"
		}
	}
	return star.Nearest(name, names, "def ")
}

// use notes which function a call calls, and which ones it hands over by keyword.
func (l *lint) use(c *syntax.CallExpr) {
	if id, ok := c.Fn.(*syntax.Ident); ok {
		l.used[id.Name] = true
	}
	for _, a := range c.Args {
		if b, ok := a.(*syntax.BinaryExpr); ok && b.Op == syntax.EQ {
			if id, ok := b.Y.(*syntax.Ident); ok {
				l.used[id.Name] = true
			}
		}
	}
}

// uncalled warns of functions that are hooks by mistake in their names only, and of a script
// of which nothing is ever called. A file named on the command line may be one that scripts
// load: only the configuration's must have something to call.
func (p *Program) uncalled() (list []string) {
	for _, d := range p.lint.doubtful {
		if !p.lint.used[d.name] && !p.ruled[d.name] {
			list = append(list, fmt.Sprintf("%v: %s() is not called by itself%s", d.at, d.name, d.hint))
		}
	}
	if len(p.ruled) > 0 || p.config.named && len(list) == 0 {
		return list
	}
	var each []string
	for _, h := range hooks {
		if p.functions[h.name] != nil {
			return list
		}
		each = append(each, h.name+"("+h.argument+")")
	}
	return append(list, fmt.Sprintf("%s: nothing in it is ever called: the gate calls the functions %s, and rules call others with action = \"call\"",
		p.config.File, strings.Join(each, ", ")))
}
