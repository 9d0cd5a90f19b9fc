// SPDX-License-Identifier: BSD-2-Clause

package sendmailcf

import (
	"slices"
	"strings"
)

// Macro gives the value of a macro (D line), expanded; "" if it is not defined.
func (c *Config) Macro(name string) string {
	x := expander{c: c}
	return x.text(c.macros[name].Text, 1)
}

// Set gives a macro as a D line has it, and whether one does.
func (c *Config) Set(name string) (Value, bool) {
	v, ok := c.macros[name]
	return v, ok && v.Line > 0
}

// Expand puts the values of macros into a text: $j, ${name}, and $?x then $| else $.
func (c *Config) Expand(s string) string {
	x := expander{c: c}
	return x.text(s, 0)
}

// expander expands one text. What is too deep or too long is cut.
type expander struct {
	c    *Config
	done int // octets written
	work int // macros expanded: those that come to nothing write none
}

func (x *expander) text(s string, depth int) string {
	if x.work++; depth > maxDepth || x.work > maxWork {
		return ""
	}
	if strings.IndexByte(s, '$') < 0 {
		return s
	}
	e := expanding{expander: x, depth: depth}
	for s != "" && e.b.Len() < maxValue && x.done < maxValue {
		at := strings.IndexByte(s, '$')
		if at < 0 || at+1 == len(s) {
			e.write(s)
			break
		}
		e.write(s[:at])
		rest, err := e.reference(s[at+1:])
		if err != nil {
			break
		}
		s = rest
	}
	return e.b.String()
}

// expanding is one text on its way.
type expanding struct {
	*expander
	depth      int
	b          strings.Builder
	conditions []bool // of those that are open, whether their text counts
}

// write appends a text, unless it stands under a condition that does not hold.
func (e *expanding) write(s string) {
	if !slices.Contains(e.conditions, false) {
		e.b.WriteString(s)
	}
}

// reference expands what stands after a "$", and gives the text behind it. An error is a name
// that is none.
func (e *expanding) reference(s string) (rest string, err error) {
	n := len(e.conditions)
	switch s[0] {
	case '?':
		name, rest, err := macroName(s[1:])
		e.conditions = append(e.conditions, e.c.macros[name].Text != "")
		return rest, err
	case '|':
		if n > 0 {
			e.conditions[n-1] = !e.conditions[n-1]
		}
		return s[1:], nil
	case '.':
		e.conditions = e.conditions[:max(n-1, 0)]
		return s[1:], nil
	case '$':
		e.write("$")
		return s[1:], nil
	case '&': // expanded when used, which is now
		s = s[1:]
	}
	name, rest, err := macroName(s)
	if err == nil && !slices.Contains(e.conditions, false) {
		value := e.text(e.c.macros[name].Text, e.depth+1)
		e.done += len(value)
		e.b.WriteString(value)
	}
	return rest, err
}
