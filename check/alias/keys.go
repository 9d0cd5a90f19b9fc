// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"strings"
	"unicode/utf8"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/table"
)

// source is one table and its spelling, for the trace.
type source struct {
	table.Table
	text      string
	published Published // it is not nil if the table is one
}

// hit is what a look-up found.
type hit struct {
	value, key, file string
	// unasked is why names that other gateways publish could not be looked up: that is
	// absence, and no error.
	unasked error
}

// lookup asks the tables in order for a key: in lower case, which is what newaliases,
// postalias, makemap and postmap make of keys, then as it was written, which is what
// "makemap -f" keeps. Further keys are likely to be looked up next.
func lookup(ctx context.Context, tables []source, key string, further ...string) (h hit, found bool, err error) {
	folded := fold(key)
	var unasked error
	for i := range tables {
		t := &tables[i]
		h := hit{key: folded, file: t.text}
		if t.published != nil {
			h.value, h.key, found, err = t.published.Find(ctx, folded, key, further)
			if err != nil && !found {
				unasked = err
			}
			err = nil
		} else {
			h.value, found, err = t.Lookup(ctx, h.key)
			if !found && err == nil && folded != key {
				h.key = key
				h.value, found, err = t.Lookup(ctx, h.key)
			}
		}
		if found || err != nil {
			return h, found, err
		}
	}
	return hit{unasked: unasked}, false, nil
}

// needQuotes are the letters that a local part cannot have without quotes (RFC 5322 section 3.2.3).
const needQuotes = "()<>[]:;,\\\" \t@"

// quoted is a local part with the quotes that it needs, or "" if it needs none.
func quoted(local string) string {
	if !strings.ContainsAny(local, needQuotes) {
		return ""
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
}

// lookupUser looks up a local part followed by at, "@domain" or nothing. One that needs quotes has them in the keys of
// newaliases, and of postmap, which Postfix asks for so; postalias leaves them out, and so does a reader of aliases(5).
func lookupUser(ctx context.Context, tables []source, local, at string, further ...string) (h hit, found bool, err error) {
	h, found, err = lookup(ctx, tables, local+at, further...)
	if name := quoted(local); name != "" && !found && err == nil {
		return lookup(ctx, tables, name+at)
	}
	return h, found, err
}

// fold turns letters into lower case; octets that are not UTF-8 stay.
func fold(s string) string {
	if utf8.ValidString(s) {
		return strings.ToLower(s) // no allocation when nothing changes
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// split separates a local part from its detail, by the configured delimiters.
func (c *Check) split(local string) (user, sep, detail string) {
	return address.SplitDetail(local, c.delimiter)
}

// findAlias looks a local part up in the alias databases: as it is, then "user+*"
// (Sendmail, ruleset 5 of cf/m4/proto.m4), then without its detail, which is returned.
func (c *Check) findAlias(ctx context.Context, local string) (h hit, detail string, found bool, err error) {
	if len(c.files) == 0 || local == "" {
		return hit{}, "", false, nil
	}
	user, sep, rest := c.split(local)
	if sep == "" {
		h, found, err = lookupUser(ctx, c.files, local, "")
		return h, "", found, err
	}
	if sep != "+" {
		if h, found, err = lookupUser(ctx, c.files, local, "", user); found || err != nil {
			return h, "", found, err
		}
		h, found, err = lookupUser(ctx, c.files, user, "")
		return h, sep + rest, found, err
	}
	star := user + "+*"
	if h, found, err = lookupUser(ctx, c.files, local, "", star, user); found || err != nil {
		return h, "", found, err
	}
	if h, found, err = lookup(ctx, c.files, star, user); found || err != nil {
		return h, "", found, err
	}
	h, found, err = lookupUser(ctx, c.files, user, "")
	return h, sep + rest, found, err
}

// relayListing is what relay_recipient_maps say of an address.
type relayListing uint8

const (
	relaySilent  relayListing = iota // nothing: neither is it listed nor must it be
	relayKnown                       // listed
	relayUnknown                     // not listed, though its domain's recipients are
)

// relayed looks an address up in relay_recipient_maps (postconf(5)): with and without
// its detail. "@domain" stands for a domain without a list, about which nothing is
// said.
func (c *Check) relayed(ctx context.Context, m *rcptgate.Mailbox) (relayListing, error) {
	if len(c.relay) == 0 || m.Domain == "" {
		return relaySilent, nil
	}
	_, found, err := lookupUser(ctx, c.relay, m.Local, "@"+m.Domain)
	if user, sep, _ := c.split(m.Local); !found && err == nil && sep != "" {
		_, found, err = lookupUser(ctx, c.relay, user, "@"+m.Domain)
	}
	if err != nil || found {
		return relayKnown, err
	}
	local, err := c.relayTo.Find(ctx, m.Domain)
	if err != nil || !local.Any() {
		return relaySilent, err
	}
	_, found, err = lookup(ctx, c.relay, "@"+m.Domain)
	if err != nil || found {
		return relaySilent, err
	}
	return relayUnknown, nil
}

// isUser reports whether passwd(5) has a local part, with or without its detail.
func (c *Check) isUser(ctx context.Context, local string) (bool, error) {
	if len(c.users) == 0 {
		return false, nil
	}
	_, found, err := lookup(ctx, c.users, local)
	if user, sep, _ := c.split(local); !found && err == nil && sep != "" {
		_, found, err = lookup(ctx, c.users, user)
	}
	return found, err
}
