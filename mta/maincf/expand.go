// SPDX-License-Identifier: BSD-2-Clause

package maincf

import (
	"errors"
	"strconv"
	"strings"
)

// expansion is one value being expanded (mac_parse(3), mac_expand(3) of Postfix).
type expansion struct {
	c    *Config
	work int // expansions left
	room int // octets that they may still write
}

var (
	errDepth   = errors.New("parameters refer to each other in a circle")
	errLong    = errors.New("the expanded value is too long")
	errBrace   = errors.New("a closing brace is missing")
	errParen   = errors.New("a closing parenthesis is missing")
	errName    = errors.New("a parameter name is missing after \"$\"")
	errTernary = errors.New("an expression is not written ${{a} == {b} ? {then} : {else}}")
)

// parameter gives the value of a parameter.
func (e *expansion) parameter(name string, depth int) (string, error) {
	if s, ok := e.c.settings[name]; ok {
		return e.text(s.Value, depth)
	}
	switch name {
	case "mydomain":
		return e.domain(depth)
	case "myhostname":
		host := e.c.builtin[name]
		if host == "" || strings.Contains(host, ".") {
			return host, nil
		}
		domain := localDomain
		if s, ok := e.c.settings["mydomain"]; ok {
			var err error
			if domain, err = e.text(s.Value, depth+1); err != nil {
				return "", err
			}
		}
		return host + "." + domain, nil
	}
	return e.text(e.c.builtin[name], depth)
}

// localDomain is the domain of a machine without one (DEF_MYDOMAIN).
const localDomain = "localdomain"

// domain gives $mydomain where main.cf does not set it: $myhostname without its first part.
func (e *expansion) domain(depth int) (string, error) {
	if depth > maxDepth {
		return "", errDepth
	}
	host, err := e.parameter("myhostname", depth+1)
	if err != nil {
		return "", err
	}
	if _, domain, ok := strings.Cut(host, "."); ok {
		return domain, nil
	}
	return localDomain, nil
}

// text expands a text.
func (e *expansion) text(s string, depth int) (string, error) {
	if depth > maxDepth {
		return "", errDepth
	}
	if e.work--; e.work < 0 {
		return "", errLong
	}
	if strings.IndexByte(s, '$') < 0 {
		return s, nil
	}
	var b strings.Builder
	for s != "" {
		at := strings.IndexByte(s, '$')
		if at < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:at])
		value, rest, err := e.reference(s[at+1:], depth)
		if err != nil {
			return "", err
		}
		if b.Len()+len(value)+len(rest) > maxValue {
			return "", errLong
		}
		b.WriteString(value)
		s = rest
	}
	if e.room -= b.Len(); e.room < 0 {
		return "", errLong
	}
	return b.String(), nil
}

// reference expands what stands after a "$".
func (e *expansion) reference(s string, depth int) (value, rest string, err error) {
	switch {
	case s != "" && s[0] == '$':
		return "$", s[1:], nil
	case s != "" && (s[0] == '{' || s[0] == '('):
		open, missing := s[0], errBrace
		end := matching(s, open, '}')
		if open == '(' {
			end, missing = matching(s, open, ')'), errParen
		}
		if end < 0 {
			return "", "", missing
		}
		value, err = e.inner(s[1:end], depth)
		return value, s[end+1:], err
	}
	n := nameLength(s)
	if n == 0 {
		return "", "", errName
	}
	value, err = e.parameter(s[:n], depth+1)
	return value, s[n:], err
}

// matching finds what closes the bracket at the beginning of s; -1 if nothing does.
func matching(s string, open, shut byte) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func nameLength(s string) (n int) {
	for n < len(s) && (s[n] == '_' || '0' <= s[n] && s[n] <= '9' || 'a' <= s[n] && s[n] <= 'z' || 'A' <= s[n] && s[n] <= 'Z') {
		n++
	}
	return n
}

// inner expands what stands between the braces: a name, alone or with what to put in its
// place when it has a value or has none.
func (e *expansion) inner(s string, depth int) (string, error) {
	s = strings.TrimLeft(s, spaces)
	if strings.HasPrefix(s, "{") {
		holds, rest, err := e.relation(s, depth)
		if err != nil {
			return "", err
		}
		if strings.TrimSpace(rest) == "" { // alone it is "bool", or nothing
			if holds {
				return "bool", nil
			}
			return "", nil
		}
		return e.choose(holds, rest, depth)
	}
	n := nameLength(s)
	if n == 0 {
		return "", errName
	}
	value, err := e.parameter(s[:n], depth+1)
	if err != nil {
		return "", err
	}
	rest := strings.TrimLeft(s[n:], spaces)
	if rest == "" {
		return value, nil
	}
	return e.choose(value != "", rest, depth)
}

// choose reads "?then", ":else" or "?{then}:{else}".
func (e *expansion) choose(holds bool, s string, depth int) (string, error) {
	s = strings.TrimLeft(s, spaces)
	var then, other string
	hasThen := false
	switch {
	case strings.HasPrefix(s, "?"):
		hasThen = true
		rest := ""
		if then, rest = operand(s[1:]); strings.TrimSpace(rest) != "" {
			rest = strings.TrimLeft(rest, spaces)
			if rest[0] != ':' {
				return "", errTernary
			}
			if other, rest = operand(rest[1:]); strings.TrimSpace(rest) != "" {
				return "", errTernary
			}
		}
	case strings.HasPrefix(s, ":"):
		rest := ""
		if other, rest = operand(s[1:]); strings.TrimSpace(rest) != "" {
			return "", errTernary
		}
	default:
		return "", errTernary
	}
	switch {
	case holds && hasThen:
		return e.text(then, depth+1)
	case holds:
		return "", nil
	}
	return e.text(other, depth+1)
}

// operand is a text in braces, without white space around it, or all that follows.
func operand(s string) (text, rest string) {
	if trimmed := strings.TrimLeft(s, spaces); strings.HasPrefix(trimmed, "{") {
		if end := matching(trimmed, '{', '}'); end > 0 {
			return strings.Trim(trimmed[1:end], spaces), trimmed[end+1:]
		}
	}
	return s, ""
}

// relation reads "{a} == {b}".
func (e *expansion) relation(s string, depth int) (holds bool, rest string, err error) {
	left, s := operand(s)
	s = strings.TrimLeft(s, spaces)
	end := strings.IndexAny(s, spaces+"{")
	if end <= 0 {
		return false, "", errTernary
	}
	operator := s[:end]
	s = strings.TrimLeft(s[end:], spaces)
	if operator == "<" || operator == "<=" || operator == "==" || operator == ">" || operator == ">=" || operator == "!=" ||
		strings.HasSuffix(operator, "level") {
		if strings.HasPrefix(s, "level") { // "< level"
			operator, s = operator+"level", strings.TrimLeft(s[len("level"):], spaces)
		}
	}
	if !strings.HasPrefix(s, "{") {
		return false, "", errTernary
	}
	right, rest := operand(s)
	if left, err = e.text(left, depth+1); err != nil {
		return false, "", err
	}
	if right, err = e.text(right, depth+1); err != nil {
		return false, "", err
	}
	holds, err = compare(left, operator, right)
	return holds, rest, err
}

// compare compares numbers as such, compatibility levels ("3.6") by their parts, and
// anything else as text (mac_expand(3), MAC_EXP_OP_*).
func compare(left, operator, right string) (bool, error) {
	operator, levels := strings.CutSuffix(operator, "level")
	order := strings.Compare(left, right)
	if levels {
		var err error
		if order, err = compareLevels(left, right); err != nil {
			return false, err
		}
	} else if l, lerr := strconv.ParseInt(left, 10, 64); lerr == nil {
		if r, rerr := strconv.ParseInt(right, 10, 64); rerr == nil {
			order = 0
			if l != r {
				order = 1
				if l < r {
					order = -1
				}
			}
		}
	}
	switch operator {
	case "==":
		return order == 0, nil
	case "!=":
		return order != 0, nil
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	case ">=":
		return order >= 0, nil
	}
	return false, errTernary
}

// compareLevels compares major.minor.patch.
func compareLevels(left, right string) (int, error) {
	var parts [2][3]int
	for i, s := range []string{left, right} {
		fields := strings.Split(strings.TrimSpace(s), ".")
		if len(fields) > 3 {
			return 0, errors.New("a compatibility level has more than three parts")
		}
		for j, f := range fields {
			n, err := strconv.Atoi(f)
			if err != nil || n < 0 {
				return 0, errors.New("a compatibility level is not a number such as 3.6")
			}
			parts[i][j] = n
		}
	}
	for j := range parts[0] {
		if d := parts[0][j] - parts[1][j]; d != 0 {
			return d, nil
		}
	}
	return 0, nil
}
