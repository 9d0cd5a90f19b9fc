// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"strings"

	"rcptgate"
)

// accessTag marks the entries of an access map that speak of recipients.
const accessTag = "To:"

// access says what Sendmail's access map has against a recipient, as ruleset Rcpt_ok does with
// FEATURE(`blocklist_recipients') (cf/m4/proto.m4): the address as the client gave it, before anything rewrites
// it. The zero Verdict is nothing.
func (c *Check) access(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	m := &q.Recipient
	local, err := c.isLocal(ctx, m.Domain)
	if err != nil {
		return rcptgate.Verdict{}, err
	}
	h, found, err := c.findAccess(ctx, m, local.Any())
	if !found || err != nil {
		return rcptgate.Verdict{}, err
	}
	if q.Trace.Explain {
		w := walk{q: q}
		w.found(&h, m.Path)
	}
	return readAccess(h.value), nil
}

// findAccess looks a recipient up under its address (ruleset F), in a local domain under its name (U), then under
// its domain and those above it (D); each key with its tag, then without.
func (c *Check) findAccess(ctx context.Context, m *rcptgate.Mailbox, local bool) (h hit, found bool, err error) {
	try := func(key string) bool {
		if h, found, err = lookup(ctx, c.accessMaps, accessTag+key); !found && err == nil {
			h, found, err = lookup(ctx, c.accessMaps, key)
		}
		return found || err != nil
	}
	names := accessNames(m)
	if m.Domain != "" {
		for _, name := range names {
			if try(name + "@" + m.Domain) {
				return h, found, err
			}
		}
	}
	if local {
		for _, name := range names {
			if try(name + "@") {
				return h, found, err
			}
		}
	}
	for domain := m.Domain; domain != ""; domain = above(domain) {
		if try(domain) {
			return h, found, err
		}
	}
	return hit{}, false, nil
}

// accessNames are a local part's spellings in keys. A name that needs its quotes is one word to Sendmail, and has
// them in keys too.
func accessNames(m *rcptgate.Mailbox) []string {
	name := m.Local
	if strings.ContainsAny(name, needQuotes) {
		name = pathOf(m)
	}
	names := []string{name}
	if name == "" || name[0] == '"' {
		return names
	}
	if plus := strings.IndexByte(name[1:], '+') + 1; plus > 0 {
		names = append(names, name[:plus]+"+*", name[:plus])
	}
	return names
}

// above is the domain over a domain, or the net around an address literal; "" if there is none.
func above(domain string) string {
	if domain[0] != '[' {
		_, rest, _ := strings.Cut(domain, ".")
		return rest
	}
	if at := strings.LastIndexByte(domain, '.'); at > 0 {
		return domain[:at] + "]"
	}
	return ""
}

// readAccess makes a verdict of a value of an access map. What only speaks of relaying (OK, RELAY, SKIP) lets the
// recipient pass.
func readAccess(value string) rcptgate.Verdict {
	word, rest, tagged := strings.Cut(value, ":")
	switch is := func(s string) bool { return strings.EqualFold(word, s) }; {
	case tagged && is("QUARANTINE"): // the MTA accepts the message and holds it
		return accepted()
	case value == "", !tagged && (is("OK") || is("RELAY") || is("SKIP")):
		return rcptgate.Verdict{}
	case !tagged && is("DISCARD"):
		return rcptgate.Verdict{Action: rcptgate.Discard, Reason: rcptgate.ReasonRefused, Source: rcptgate.SourceAlias}
	case !tagged && is("REJECT"):
		return rcptgate.Verdict{
			Action: rcptgate.Reject, Code: 550, Enhanced: "5.2.1", Text: "Mailbox disabled for this recipient",
			Reason: rcptgate.ReasonRefused, Source: rcptgate.SourceAlias,
		}
	case tagged && is("ERROR"):
		return readAccessError(rest)
	}
	return readAccessError(value)
}

// readAccessError reads "D.S.N:550 text", "550 D.S.N text", each with or without quotes around it. As in Sendmail's
// buildaddr, a text without a reply code is 553 5.3.0, whatever stands before it.
func readAccessError(text string) rcptgate.Verdict {
	text = strings.TrimSpace(strings.ReplaceAll(text, `"`, ""))
	v := rcptgate.Verdict{Action: rcptgate.Reject, Reason: rcptgate.ReasonRefused, Source: rcptgate.SourceAlias}
	said, rest, ok := strings.Cut(text, ":")
	if ok = ok && isFailure(said); ok {
		text = strings.TrimSpace(rest)
	}
	if code, rest, _ := strings.Cut(text, " "); code == "421" || code == "521" { // would end the session
		text = map[string]string{"421": "451 ", "521": "550 "}[code] + rest
	}
	v.Text = readReply(text, &v)
	switch {
	case v.Code == 0:
		v.Code, v.Enhanced = 553, "5.3.0"
	case v.Enhanced == "" && ok:
		v.Enhanced = said
	case v.Enhanced == "":
		v.Enhanced = string(byte('0'+v.Code/100)) + ".0.0"
	}
	settleReply(&v)
	return v
}
