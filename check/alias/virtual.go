// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/smtpcode"
	"rcptgate/table/aliases"
)

// findPostfix looks an address up as virtual(5) and canonical(5) say: user+detail@domain,
// user@domain, then user+detail and user where the domain is $myorigin or in $mydestination,
// then @domain. Detail is what was left out of the key and goes on to the targets, if
// propagate_unmatched_extensions has the kind of table.
func (c *Check) findPostfix(ctx context.Context, tables []source, m *rcptgate.Mailbox, kind string) (h hit, detail string, found bool, err error) {
	user, sep, rest := c.split(m.Local)
	left := ""
	if slices.Contains(c.propagate, kind) {
		left = sep + rest
	}
	try := func(user, at string) bool {
		h, found, err = lookupUser(ctx, tables, user, at)
		return found || err != nil
	}
	if m.Domain != "" {
		if try(m.Local, "@"+m.Domain) {
			return h, "", found, err
		}
		if sep != "" && try(user, "@"+m.Domain) {
			return h, left, found, err
		}
	}
	bare, err := c.hasBareNames(ctx, m.Domain)
	if err != nil {
		return h, "", false, err
	}
	if bare {
		if try(m.Local, "") {
			return h, "", found, err
		}
		if sep != "" && try(user, "") {
			return h, left, found, err
		}
	}
	if m.Domain != "" {
		try("", "@"+m.Domain)
	}
	return h, "", found, err
}

// hasBareNames reports whether keys without a domain stand for names in a domain: what
// Postfix says of $myorigin, $mydestination and $inet_interfaces. A domain that a transport
// map hands to local(8) is not one.
func (c *Check) hasBareNames(ctx context.Context, domain string) (bool, error) {
	if domain == "" || domain == c.myOrigin {
		return true, nil
	}
	local, err := c.local.Find(ctx, domain)
	return local.Any(), err
}

// postfixTargets reads what a table says of an address.
func (c *Check) postfixTargets(m *rcptgate.Mailbox, h hit, detail string) ([]aliases.Target, error) {
	targets, err := aliases.Parse(h.value)
	if err != nil {
		return nil, err
	}
	for i := range targets {
		if t := &targets[i]; t.Kind == aliases.Other && len(t.Value) > 1 && t.Value[0] == '@' && h.key[0] == '@' {
			*t = aliases.Target{Kind: aliases.Address, Value: pathOf(m) + t.Value} // the same user there
		}
	}
	extend(targets, detail)
	return targets, nil
}

// extend adds a recipient's detail to the targets.
func extend(targets []aliases.Target, detail string) {
	if detail == "" {
		return
	}
	for i := range targets {
		switch t := &targets[i]; {
		case t.Kind == aliases.Local:
			t.Value += detail
		case t.Kind == aliases.Address && t.Value[0] != '"':
			if at := strings.LastIndexByte(t.Value, '@'); at > 0 {
				t.Value = t.Value[:at] + detail + t.Value[at:]
			}
		}
	}
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
	name := quoted(m.Local)
	if written := pathOf(m); name == "" && written != "" && written[0] == '"' {
		name = written
	}
	if name != "" { // one word to Sendmail, quotes included
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
	case isFailure(word):
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
			if first, rest, _ = strings.Cut(text, " "); isFailure(first) {
				v.Enhanced, text = first, strings.TrimSpace(rest)
			}
		}
	}
	if text = strings.Trim(text, `"`); text == "" {
		text = rcptgate.TextRefused
	}
	return rcptgate.CleanText(text)
}

// isFailure recognises an enhanced status code of a failure (RFC 3463 section 2).
func isFailure(s string) bool { return s != "" && s[0] != '2' && smtpcode.Is(s) }

// isErrorValue recognises what virtusertable refuses with.
func isErrorValue(value string) bool {
	return len(value) >= 6 && strings.EqualFold(value[:6], "error:")
}

// mailbox makes a mailbox of an address in a table.
func mailbox(path string) rcptgate.Mailbox { return address.Parse(path) }
