// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rcptgate"
	mail "rcptgate/address"
	"rcptgate/backend"
	"rcptgate/check/alias"
	"rcptgate/route"
	"rcptgate/table"
	"rcptgate/table/live"
	tables "rcptgate/table/open"
	"rcptgate/test/lab"
)

// accessEntries are an access map with every kind of key and value.
func accessEntries() map[string]string {
	entries := map[string]string{
		"To:ann@in.test": "OK", "To:in.test": `ERROR:5.1.1:"550 nobody else"`, "To:sub.in.test": "SKIP", "To:bob+*@in.test": "REJECT", "bob+x@in.test": "RELAY",
		"To:carl@": "REJECT", "dora@": `550 no mail for dora`, "To:eve+*@": "ERROR:550 eve has no details", "eve@": "OK", "To:eve+z@": "REJECT",
		"relay.test": "REJECT", "To:good@relay.test": "RELAY", "To:deep.relay.test": "RELAY", "To:a.deep.relay.test": "REJECT", "To:ann@loc.test": "DISCARD", "loc.test": "OK",
		"To:+x@in.test": "OK", "To:[203.0.113]": "REJECT", "To:[203.0.113.7]": "OK", "To:both@in.test": "OK", "both@in.test": "REJECT",
		`To:"quo ted"@in.test`: "OK", "To:q+x@in.test": "OK", "To:r+*@in.test": "OK", "From:fay@in.test": "REJECT", "Spam:gil@in.test": "FRIEND",
	}
	for i, value := range accessValues {
		entries[fmt.Sprintf("To:value%d@values.test", i)] = value
	}
	return entries
}

var accessValues = []string{
	"OK", "RELAY", "SKIP", "REJECT", "ok", "Reject", "ERROR:5.7.1:550 Not here", `ERROR:5.7.1:"550 Not here"`, `ERROR:"550 Not here"`, "ERROR:550 Not here", "ERROR:550 5.7.9 Not here",
	"ERROR:4.7.1:450 Later", "ERROR:4.2.1:Later", "ERROR:5.2.1:No code", "ERROR:No code", "No code either", "550 Plain", "450 Plain later", `"550 5.1.1 Plain, quoted"`, "553 5.1.3 Plain",
	"error:550 in lower case", "error:5.1.6:550 in lower case", "ERROR:5.7.1:450 Code and class differ", "ERROR:4.7.1:550 Code and class differ", "ERROR:nouser Gone", "ERROR:tempfail Gone",
	"ERROR:421 Closing", "ERROR:4.7.0:421 Closing", "452 4.2.2 Full", "554 Other", "QUARANTINE:reason", "OK trailing", "ERROR:", "ERROR:5.1:550 Short", "ERROR:5.1.1.1:550 Long", "99999 odd",
}

// fate is a verdict or a reply in one word and the codes.
func fate(v rcptgate.Verdict) string {
	switch {
	case v.Action == rcptgate.Discard:
		return "discard"
	case v.Action.Refuses():
		return fmt.Sprintf("%d %s", v.Code, v.Enhanced)
	}
	return "pass"
}

// fateOf is what Sendmail made of a recipient. Names that it does not know, or does not relay for, have passed the access map. A 421
// ends the session, and an enhanced code may be of another class than the reply code: neither leaves the gate.
func fateOf(r lab.Reply) string {
	switch {
	case r.Code/100 == 2, strings.Contains(r.Text(), "User unknown"), strings.Contains(r.Text(), "Relaying denied"):
		return "pass"
	case r.Code == 421:
		r.Code = 451
	}
	return fmt.Sprintf("%d %d%s", r.Code, r.Code/100, r.Enhanced[1:])
}

// TestAccess puts the same recipients to a real Sendmail with an access map, and to the check that reads the same
// file.
func TestAccess(t *testing.T) {
	s := lab.StartSendmail(t, lab.SendmailOptions{
		Access: accessEntries(), LocalDomains: []string{"loc.test", "in.test"},
		Relay: map[string]string{"relay.test": "esmtp:[127.80.0.1]", "values.test": "esmtp:[127.80.0.1]", "other.test": "esmtp:[127.80.0.1]"},
		Extra: "RELAY_DOMAIN(`[203.0.113.7]')\nRELAY_DOMAIN(`[203.0.113.8]')",
	})
	check := accessCheck(t, s.Table("hash", "access"))
	var d *lab.Dialogue
	for i, rcpt := range accessRecipients() {
		if d == nil {
			d = lab.MustDial(t, s.Addr())
			d.Must(t, 250, d.Mail(t, "x@client.test"))
		}
		q := &rcptgate.Query{Recipient: mail.Parse(rcpt), Trace: rcptgate.Trace{Explain: true}}
		q.Target = q.Recipient
		v, err := check.Check(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		reply := d.Rcpt(t, rcpt)
		want, got := fateOf(reply), fate(v)
		if got == "discard" { // a Sendmail that throws the message away takes every recipient from then on
			want = discarded(t, s, rcpt)
		}
		if got != want {
			t.Errorf("%s: %s (%s), Sendmail says %s", rcpt, got, v.Text, reply)
		}
		if got == "discard" || reply.Code == 421 || i%100 == 99 {
			d.Close()
			d = nil
		}
	}
}

// discarded puts one recipient, and another one that would be refused: in a message that is thrown away it is not.
func discarded(t *testing.T, s *lab.Sendmail, rcpt string) string {
	d := lab.MustDial(t, s.Addr())
	defer d.Close()
	d.Must(t, 250, d.Mail(t, "x@client.test"))
	d.Must(t, 250, d.Rcpt(t, rcpt))
	r := d.Data(t, "Subject: gone\n\n")
	if strings.Contains(s.Log(), "discard") {
		return "discard"
	}
	return r.String()
}

// accessCheck is the aliases step with an access map alone.
func accessCheck(t *testing.T, spec string) *alias.Check {
	var access table.Spec
	if err := access.UnmarshalText([]byte(spec)); err != nil {
		t.Fatal(err)
	}
	set := backend.NewSet(backend.DefaultConfig(), "mx.gate.test", nil)
	t.Cleanup(set.Close)
	router, err := route.New(route.Options{Set: set, Servers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(router.Close)
	cfg := alias.DefaultConfig()
	cfg.Access, cfg.Domains, cfg.Passwd = []table.Spec{access}, []string{"/loc"}, ""
	check, err := alias.New(alias.Options{Config: cfg, Router: router, Open: func(use alias.Use, spec table.Spec) (table.Table, error) {
		if use == alias.UseClass {
			return class{"loc.test": true, "in.test": true}, nil
		}
		l, err := tables.Live(live.Config{Spec: spec})
		if err != nil {
			return nil, err
		}
		return l, l.Load(t.Context())
	}})
	if err != nil {
		t.Fatal(err)
	}
	return check
}

// class is Sendmail's class w.
type class map[string]bool

func (c class) Lookup(_ context.Context, key string) (string, bool, error) { return "", c[key], nil }

// accessRecipients are one for each value, and what names, details and domains make together.
func accessRecipients() []string {
	var list []string
	for i := range accessValues {
		list = append(list, fmt.Sprintf("value%d@values.test", i))
	}
	names := []string{"ann", "bob", "carl", "dora", "eve", "fay", "gil", "good", "both", "ANN", `"quo ted"`, `"q+x"`, `"r+x"`, `"ann"`}
	for _, name := range names {
		for _, detail := range []string{"", "+", "+x", "+z", "+x+z"} {
			if name[0] == '"' && detail != "" {
				continue
			}
			for _, domain := range []string{
				"in.test", "IN.test", "sub.in.test", "x.sub.in.test", "y.in.test", "loc.test", "relay.test", "deep.relay.test", "a.deep.relay.test", "z.a.deep.relay.test", "b.deep.relay.test", "other.test",
			} {
				list = append(list, name+detail+"@"+domain)
			}
			list = append(list, name+detail)
		}
	}
	return append(list, "+x@in.test", "+x+y@in.test", "+@in.test", "ann@[203.0.113.7]", "ann@[203.0.113.8]")
}
