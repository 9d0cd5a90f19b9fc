// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"rcptgate/kit/term"
)

// parameter is one of a word or a method, as the manual has it.
type parameter struct {
	name     string
	fallback string // as it is written; "" of a parameter that has to be given
}

// parametersOf reads the arguments of what can be called: "(name, top=False) -> x". Those of
// a word that takes any are not known.
func parametersOf(sign string) (list []parameter, known bool) {
	inner, _, ok := strings.Cut(strings.TrimPrefix(sign, "("), ")")
	if !strings.HasPrefix(sign, "(") || !ok || strings.ContainsAny(strings.ReplaceAll(inner, `"`, ""), "*:") || strings.Contains(inner, "...") {
		return nil, false
	}
	quoted := false
	parts := strings.FieldsFunc(inner, func(r rune) bool {
		quoted = quoted != (r == '"')
		return r == ',' && !quoted
	})
	for _, p := range parts {
		if name, fallback, _ := strings.Cut(strings.TrimSpace(p), "="); name != "" {
			list = append(list, parameter{name, fallback})
		}
	}
	return list, true
}

// CheckWord says what is wrong with the arguments of a call of a word, as far as they can be
// seen: "" if nothing is, or if there is no such word.
func CheckWord(name string, args []syntax.Expr) string {
	list := words()
	if module, inner, ok := cutDot(name); ok && module == "dns" {
		name, list = inner, dnsWords()
	}
	i := slices.IndexFunc(list, func(w word) bool { return w.name == name })
	if i < 0 {
		return ""
	}
	why := checkCall(name, list[i].sign, args)
	if why == "" && slices.Contains([]string{"accept", "reject", "tempfail", "discard", "hold"}, name) {
		why = tried(list[i], args)
	}
	return why
}

// CheckMethod is CheckWord for a method of a class.
func CheckMethod(class, name string, args []syntax.Expr) string {
	for _, c := range Classes() {
		for _, m := range c.Members {
			if c.Name == class && m.Name == name && strings.HasPrefix(m.Sign, "(") {
				return checkCall(name, m.Sign, args)
			}
		}
	}
	return ""
}

// checkCall compares arguments with a signature.
func checkCall(name, sign string, args []syntax.Expr) string {
	list, known := parametersOf(sign)
	if !known {
		return ""
	}
	given := make(map[string]bool)
	for i, a := range args {
		p, value, fixed := argument(a)
		switch {
		case !fixed:
			return "" // *args
		case p == "" && i >= len(list):
			return fmt.Sprintf("%s() takes at most %s: %s", name, term.Count(len(list), "argument"), sign)
		case p == "":
			p = list[i].name
		}
		at := slices.IndexFunc(list, func(l parameter) bool { return l.name == p })
		if at < 0 {
			return fmt.Sprintf("%s() has no argument %s: %s", name, p, sign)
		}
		if given[p] {
			return fmt.Sprintf("%s() has the argument %s twice", name, p)
		}
		given[p] = true
		if why := list[at].takes(value); why != "" {
			return fmt.Sprintf("%s(): %s is %s: %s", name, p, why, sign)
		}
	}
	for _, p := range list {
		if p.fallback == "" && !given[p.name] {
			return fmt.Sprintf("%s() lacks the argument %s: %s", name, p.name, sign)
		}
	}
	return ""
}

// argument takes an argument of a call apart; fixed is false for *args and **kwargs.
func argument(a syntax.Expr) (name string, value syntax.Expr, fixed bool) {
	switch a := a.(type) {
	case *syntax.BinaryExpr:
		if a.Op == syntax.EQ {
			return a.X.(*syntax.Ident).Name, a.Y, true
		}
	case *syntax.UnaryExpr:
		if a.Op == syntax.STAR || a.Op == syntax.STARSTAR {
			return "", nil, false
		}
	}
	return "", a, true
}

// takes says what a value is that certainly is not of the fallback's type.
func (p parameter) takes(e syntax.Expr) string {
	l, ok := e.(*syntax.Literal)
	if !ok {
		return ""
	}
	text, number := l.Token == syntax.STRING, l.Token == syntax.INT || l.Token == syntax.FLOAT
	_, err := strconv.Atoi(strings.ReplaceAll(p.fallback, "_", ""))
	switch wantsNumber := err == nil && p.name != "max"; { // max="64KiB"
	case strings.HasPrefix(p.fallback, `"`) && number:
		return "a number"
	case wantsNumber && text:
		return "a string"
	}
	return ""
}

// tried calls a word that only makes a verdict with the arguments that are written out.
func tried(w word, args []syntax.Expr) string {
	list, _ := parametersOf(w.sign)
	var kwargs []starlark.Tuple
	for i, a := range args {
		name, value, fixed := argument(a)
		if !fixed {
			return ""
		}
		if name == "" {
			name = list[i].name
		}
		if l, ok := value.(*syntax.Literal); ok {
			switch v := l.Value.(type) {
			case string:
				kwargs = append(kwargs, starlark.Tuple{starlark.String(name), starlark.String(v)})
			case int64:
				kwargs = append(kwargs, starlark.Tuple{starlark.String(name), starlark.MakeInt64(v)})
			}
		}
	}
	c := &Call{Ctx: context.Background()}
	if _, err := w.call(c, starlark.NewBuiltin(w.name, nil), nil, kwargs); err != nil {
		return w.name + "(): " + strings.TrimPrefix(err.Error(), w.name+": ")
	}
	return ""
}
