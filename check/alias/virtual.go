// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"strconv"
	"strings"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/table/aliases"
)

// findPostfix looks an address up as virtual(5) says: user+detail@domain,
// user@domain, for local domains user+detail and user, then @domain. Detail is what
// was left out of the key and goes on to the targets
// (propagate_unmatched_extensions, whose default has "virtual").
func (c *Check) findPostfix(ctx context.Context, m *rcptgate.Mailbox, local bool) (h hit, detail string, found bool, err error) {
	user, sep, rest := c.split(m.Local)
	try := func(user, at string) bool {
		h, found, err = lookupUser(ctx, c.virtual, user, at)
		return found || err != nil
	}
	if m.Domain != "" {
		if try(m.Local, "@"+m.Domain) {
			return h, "", found, err
		}
		if sep != "" && try(user, "@"+m.Domain) {
			return h, sep + rest, found, err
		}
	}
	if local {
		if try(m.Local, "") {
			return h, "", found, err
		}
		if sep != "" && try(user, "") {
			return h, sep + rest, found, err
		}
	}
	if m.Domain != "" {
		try("", "@"+m.Domain)
	}
	return h, "", found, err
}

// postfixTargets reads what virtual_alias_maps say of an address.
func postfixTargets(m *rcptgate.Mailbox, h hit, detail string) ([]aliases.Target, error) {
	targets, err := aliases.Parse(h.value)
	if err != nil {
		return nil, err
	}
	for i := range targets {
		t := &targets[i]
		switch {
		case t.Kind == aliases.Other && len(t.Value) > 1 && t.Value[0] == '@' && h.key[0] == '@':
			*t = aliases.Target{Kind: aliases.Address, Value: pathOf(m) + t.Value} // the same user there
		case detail == "":
		case t.Kind == aliases.Local:
			t.Value += detail
		case t.Kind == aliases.Address && t.Value[0] != '"':
			if at := strings.LastIndexByte(t.Value, '@'); at > 0 {
				t.Value = t.Value[:at] + detail + t.Value[at:]
			}
		}
	}
	return targets, nil
}

// pathOf is the local part as the client wrote it, quotes included.
func pathOf(m *rcptgate.Mailbox) string {
	if at := strings.LastIndexByte(m.Path, '@'); at > 0 {
		return m.Path[:at]
	}
	return m.Local
}

// sendmailKey is one key of virtusertable and the arguments that its value may use.
type sendmailKey struct {
	key  string
	args [4]string // %0 to %3: key, user, detail, +detail
}

// sendmailKeys are the keys in the order of ruleset ParseLocal (cf/m4/proto.m4).
func sendmailKeys(m *rcptgate.Mailbox) []sendmailKey {
	at := "@" + m.Domain
	key := func(k, user, detail string, plus bool) sendmailKey {
		s := sendmailKey{key: k, args: [4]string{k, user, detail, ""}}
		if plus {
			s.args[3] = "+" + detail
		}
		return s
	}
	user, detail, plus := strings.Cut(m.Local, "+")
	if name := quoted(m.Local); name != "" { // one word to Sendmail, quotes included
		return []sendmailKey{key(name+at, name, "", false), key(at, name, "", false)}
	}
	if !plus || user == "" {
		return []sendmailKey{key(m.Local+at, m.Local, "", false), key(at, m.Local, "", false)}
	}
	list := []sendmailKey{key(m.Local+at, m.Local, "", false)}
	if detail != "" {
		list = append(list, key(user+"++"+at, user, detail, true))
	}
	list = append(list, key(user+"+*"+at, user, detail, true), key(user+at, user, detail, true))
	if detail != "" {
		list = append(list, key("++"+at, user, detail, true))
	}
	return append(list, key("+*"+at, user, detail, true), key(at, user, detail, true))
}

// findSendmail looks an address up in virtusertable. The hit's value has its
// arguments (%1, %2, %3) put in.
func (c *Check) findSendmail(ctx context.Context, m *rcptgate.Mailbox) (h hit, found bool, err error) {
	if m.Domain == "" {
		return hit{}, false, nil
	}
	for _, k := range sendmailKeys(m) {
		h, found, err = lookup(ctx, c.virtusers, k.key)
		if err != nil {
			return hit{}, false, err
		}
		if found {
			h.value = substitute(h.value, k.args)
			return h, true, nil
		}
	}
	return hit{}, false, nil
}

// substitute puts arguments in as Sendmail's map_rewrite does: %0 to %9, %% is %.
func substitute(value string, args [4]string) string {
	if !strings.Contains(value, "%") {
		return value
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' || i+1 == len(value) {
			b.WriteByte(value[i])
			continue
		}
		i++
		switch c := value[i]; {
		case c == '%':
			b.WriteByte('%')
		case c >= '0' && c <= '9':
			if n := int(c - '0'); n < len(args) {
				b.WriteString(args[n])
			}
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
	}
	return b.String()
}

// keywords are the words that may stand after "error:" in place of a status code
// (Sendmail, parse.c), with code and enhanced status code of what they mean.
var keywords = [...]struct {
	word     string
	code     int
	enhanced string
}{
	{"usage", 500, "5.5.4"},
	{"nouser", 550, "5.1.1"},
	{"nohost", 550, "5.1.2"},
	{"unavailable", 550, "5.5.0"},
	{"software", 554, "5.3.0"},
	{"tempfail", 450, "4.0.0"},
	{"protocol", 554, "5.5.0"},
	{"config", 554, "5.3.5"},
}

// readError reads "error:nouser 550 5.1.1 text", "error:5.7.0:550 text" and the like
// (cf/README, virtusertable). The value is known to begin with "error:".
func readError(value string) rcptgate.Verdict {
	rest := strings.TrimSpace(value[len("error:"):])
	word, text := rest, ""
	if at := strings.IndexAny(rest, ": \t"); at >= 0 {
		word, text = rest[:at], rest[at+1:]
	}
	v := rcptgate.Verdict{Action: rcptgate.Reject, Code: 553, Enhanced: "5.0.0", Reason: rcptgate.ReasonRefused, Source: rcptgate.SourceAlias}
	known := false
	for _, k := range keywords {
		if strings.EqualFold(strings.Trim(word, `"`), k.word) {
			v.Code, v.Enhanced, known = k.code, k.enhanced, true
		}
	}
	switch {
	case isEnhanced(word):
		v.Enhanced = word
		if v.Code = 550; word[0] == '4' {
			v.Code = 450
		}
	case !known:
		text = rest
	}
	v.Text = readReply(strings.TrimSpace(text), &v)
	settleReply(&v)
	return v
}

// settleReply makes action, reason and the class of the enhanced status code those of the reply code.
func settleReply(v *rcptgate.Verdict) {
	if v.Code/100 == 4 {
		v.Action = rcptgate.Tempfail
	}
	v.Fit(v.Code, v.Enhanced, rcptgate.TextRefused)
	switch {
	case v.Action == rcptgate.Tempfail:
		v.Reason = rcptgate.ReasonDeferred
	case v.Enhanced == "5.1.1":
		v.Reason = rcptgate.ReasonUnknownUser
	}
}

// readReply takes a reply code and an enhanced status code from the beginning of a
// text, and returns the text.
func readReply(text string, v *rcptgate.Verdict) string {
	if first, rest, _ := strings.Cut(text, " "); len(first) == 3 {
		if code, err := strconv.Atoi(first); err == nil && code >= 400 && code < 600 && code != 421 && code != 521 {
			v.Code, text = code, strings.TrimSpace(rest)
			if first, rest, _ = strings.Cut(text, " "); isEnhanced(first) {
				v.Enhanced, text = first, strings.TrimSpace(rest)
			}
		}
	}
	if text = strings.Trim(text, `"`); text == "" {
		text = rcptgate.TextRefused
	}
	return rcptgate.CleanText(text)
}

// isEnhanced recognises an enhanced status code of a failure (RFC 3463 section 2).
func isEnhanced(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || (parts[0] != "4" && parts[0] != "5") {
		return false
	}
	for _, p := range parts[1:] {
		if n, err := strconv.ParseUint(p, 10, 10); err != nil || n > 999 {
			return false
		}
	}
	return true
}

// isErrorValue recognises what virtusertable refuses with.
func isErrorValue(value string) bool {
	return len(value) >= 6 && strings.EqualFold(value[:6], "error:")
}

// mailbox makes a mailbox of an address in a table.
func mailbox(path string) rcptgate.Mailbox { return address.Parse(path) }
