// SPDX-License-Identifier: BSD-2-Clause

package aliases

import "strings"

// parser walks through a list once.
type parser struct {
	s   string
	i   int
	out []Target
}

// item is what was read between two commas.
type item struct {
	text   strings.Builder // outside of comments, quotes taken off
	raw    strings.Builder // the same with its quotes
	inner  string          // the address within angle brackets, quotes kept
	angle  bool
	quoted bool // it began with a quotation mark
	space  bool // white space is pending
	gap    bool // white space between two words
	at     bool // an @ outside quotes was seen
}

func (p *parser) list() error {
	for p.i < len(p.s) {
		if c := p.s[p.i]; isSpace(c) || c == ',' || c == ';' {
			p.i++
			continue
		}
		if len(p.out) >= MaxTargets {
			return ErrMany
		}
		if err := p.one(); err != nil {
			return err
		}
	}
	return nil
}

// one reads one target, or the head of a group.
func (p *parser) one() error {
	rest := p.s[p.i:]
	switch {
	case rest[0] == '|':
		return p.special(Program, 1)
	case rest[0] == '/':
		return p.special(File, 0)
	case len(rest) >= len(":include:") && strings.EqualFold(rest[:len(":include:")], ":include:"):
		return p.special(Include, len(":include:"))
	case rest[0] == ':':
		return p.special(Other, 0)
	}
	if isError(rest) {
		return p.special(Other, 0)
	}
	escaped := rest[0] == '\\'
	if escaped {
		p.i++
	}
	var it item
	group, err := p.address(&it)
	if err != nil || group {
		return err
	}
	return p.add(&it, escaped)
}

// special reads up to the next comma outside quotes; quotes around the whole are
// taken off.
func (p *parser) special(kind Kind, skip int) error {
	start := p.i
	p.i += skip
	begin := p.i
	for p.i < len(p.s) && p.s[p.i] != ',' {
		if p.s[p.i] == '"' {
			if _, err := p.quoted(); err != nil {
				return err
			}
			continue
		}
		if p.s[p.i] == '\\' {
			p.i++
		}
		p.i = min(p.i+1, len(p.s))
	}
	value := strings.TrimFunc(p.s[begin:p.i], func(r rune) bool { return r < 128 && isSpace(byte(r)) })
	if plain, whole := unquote(value); whole {
		value = plain
	}
	if kind == Program {
		value = strings.TrimLeft(value, " \t")
	}
	if value == "" {
		kind, value = Other, strings.TrimSpace(p.s[start:p.i])
	}
	p.out = append(p.out, Target{kind, value})
	return nil
}

// address collects one address up to its comma, or the head of a group, for which
// it reports true.
func (p *parser) address(it *item) (group bool, err error) {
	it.quoted = p.i < len(p.s) && p.s[p.i] == '"'
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == ',' || c == ';':
			return false, nil
		case c == '(':
			if err := p.comment(); err != nil {
				return false, err
			}
			it.space = true
			continue
		case c == '<':
			if err := p.angle(it); err != nil {
				return false, err
			}
			continue
		case c == '"':
			start := p.i
			plain, err := p.quoted()
			if err != nil {
				return false, err
			}
			it.put(plain, p.s[start:p.i], false)
			continue
		case c == ':' && !it.angle && !it.at && it.text.Len() > 0:
			p.i++
			return true, nil
		case isSpace(c):
			it.space = true
		case c == '\\' && p.i+1 < len(p.s):
			p.i++
			it.put(p.s[p.i:p.i+1], p.s[p.i-1:p.i+1], false)
		case c == '\\': // at the very end: it quotes nothing
		default:
			it.put(p.s[p.i:p.i+1], p.s[p.i:p.i+1], c == '@' || c == '.')
			it.at = it.at || c == '@'
		}
		p.i++
	}
	return false, nil
}

// put appends a piece. White space is allowed around @ and dots (RFC 5322 section
// 4.4, obs-local-part), and between the words of a display name.
func (it *item) put(plain, raw string, separator bool) {
	if it.space && it.text.Len() > 0 && !separator {
		if s := it.raw.String(); !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "@") {
			it.gap = true
		}
	}
	it.space = false
	it.text.WriteString(plain)
	it.raw.WriteString(raw)
}

// quoted reads a quoted string from its first quotation mark on.
func (p *parser) quoted() (plain string, err error) {
	var b strings.Builder
	for i := p.i + 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.i = i + 1
			return b.String(), nil
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", ErrQuote
}

func (p *parser) comment() error {
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '\\':
			p.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.i++
				return nil
			}
		}
	}
	return ErrComment
}

// angle reads <address> or <@route:address>; what stands before it was a name.
func (p *parser) angle(it *item) error {
	p.i++
	inner := item{}
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '>':
			p.i++
			it.angle, it.inner = true, inner.raw.String()
			if inner.gap {
				return ErrSpace
			}
			return nil
		case c == '"':
			start := p.i
			plain, err := p.quoted()
			if err != nil {
				return err
			}
			inner.put(plain, p.s[start:p.i], false)
			continue
		case c == '(':
			if err := p.comment(); err != nil {
				return err
			}
			continue
		case c == ':' && strings.HasPrefix(inner.raw.String(), "@"):
			inner = item{} // the route
		case isSpace(c):
			inner.space = true
		case c == '\\' && p.i+1 < len(p.s):
			p.i++
			inner.put(p.s[p.i:p.i+1], p.s[p.i-1:p.i+1], false)
		case c == '\\': // at the very end: it quotes nothing
		default:
			inner.put(p.s[p.i:p.i+1], p.s[p.i:p.i+1], c == '@' || c == '.')
		}
		p.i++
	}
	return ErrAngle
}

// add makes a target of an item.
func (p *parser) add(it *item, escaped bool) error {
	raw := it.raw.String()
	if it.angle {
		raw = it.inner
	} else if it.gap {
		return ErrSpace
	}
	if raw == "" {
		return nil
	}
	plain, whole := unquote(raw)
	if whole && !escaped {
		if t, ok := wholeQuoted(plain); ok {
			p.out = append(p.out, t)
			return nil
		}
	}
	t := mailbox(raw)
	if escaped && t.Kind == Local {
		t.Kind = Escaped
	}
	p.out = append(p.out, t)
	return nil
}

// wholeQuoted judges a target that stands in quotes as a whole: the quotes then are
// those of aliases(5), so that programs may have commas and files blanks.
func wholeQuoted(s string) (Target, bool) {
	command, program := strings.CutPrefix(s, "|")
	switch {
	case program && strings.Trim(command, " \t") != "":
		return Target{Program, strings.TrimLeft(command, " \t")}, true
	case s != "" && s[0] == '/':
		return Target{File, s}, true
	case len(s) > 1 && s[0] == '\\':
		return Target{Escaped, s[1:]}, true
	case len(s) > len(":include:") && strings.EqualFold(s[:len(":include:")], ":include:"):
		return Target{Include, s[len(":include:"):]}, true
	case s != "" && (s[0] == ':' || s[0] == '|' || s[0] == '\\'), isError(s):
		return Target{Other, s}, true
	}
	return Target{}, false
}

// mailbox is a name or an address, parted at the last @ outside quotes.
func mailbox(raw string) Target {
	at := -1
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '\\':
			i++
		case '@':
			at = i
		case '>', '<', '(', ',', ';':
			return Target{Other, raw}
		}
	}
	switch {
	case at >= 0 && at < len(raw)-1 && raw[0] != '@':
		return Target{Address, raw}
	case at >= 0:
		return Target{Other, raw}
	}
	name := dequote(raw)
	if name == "" || strings.ContainsAny(name[:1], `|/:\\`) || strings.Contains(name, "@") || isError(name) {
		return Target{Other, name} // the MTAs do not agree on what it is
	}
	return Target{Local, name}
}

// isError knows the mailer that refuses (Sendmail).
func isError(s string) bool { return len(s) >= 6 && strings.EqualFold(s[:6], "error:") }

// dequote takes off all quotes and backslashes.
func dequote(raw string) string {
	if !strings.ContainsAny(raw, `"\`) {
		return raw
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] == '"':
			continue
		case raw[i] == '\\' && i+1 < len(raw):
			i++
		}
		b.WriteByte(raw[i])
	}
	return b.String()
}

// unquote takes the quotes off a text that is one quoted string.
func unquote(s string) (plain string, whole bool) {
	if len(s) < 2 || s[0] != '"' {
		return s, false
	}
	p := parser{s: s}
	plain, err := p.quoted()
	return plain, err == nil && p.i == len(s)
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'
}
