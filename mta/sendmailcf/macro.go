// SPDX-License-Identifier: BSD-2-Clause

package sendmailcf

import "strings"

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
	var b strings.Builder
	// Conditions: for each one open, whether its text counts.
	var conditions []bool
	skipping := func() bool {
		for _, holds := range conditions {
			if !holds {
				return true
			}
		}
		return false
	}
	for s != "" && b.Len() < maxValue && x.done < maxValue {
		at := strings.IndexByte(s, '$')
		if at < 0 || at+1 == len(s) {
			if !skipping() {
				b.WriteString(s)
			}
			break
		}
		if !skipping() {
			b.WriteString(s[:at])
		}
		s = s[at+1:]
		switch s[0] {
		case '?':
			name, rest, err := macroName(s[1:])
			if err != nil {
				return b.String()
			}
			conditions, s = append(conditions, x.c.macros[name].Text != ""), rest
		case '|':
			if n := len(conditions); n > 0 {
				conditions[n-1] = !conditions[n-1]
			}
			s = s[1:]
		case '.':
			if n := len(conditions); n > 0 {
				conditions = conditions[:n-1]
			}
			s = s[1:]
		case '$':
			if !skipping() {
				b.WriteByte('$')
			}
			s = s[1:]
		default:
			if s[0] == '&' { // expanded when used, which is now
				s = s[1:]
			}
			name, rest, err := macroName(s)
			if err != nil {
				return b.String()
			}
			if !skipping() {
				value := x.text(x.c.macros[name].Text, depth+1)
				x.done += len(value)
				b.WriteString(value)
			}
			s = rest
		}
	}
	return b.String()
}
