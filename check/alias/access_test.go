// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/address"
)

// The verdicts are those of a real Sendmail over the same map: test/e2e, TestAccess.
func TestAccess(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Access, cfg.Domains = specs(t, "hash:/access"), []string{"/class"}
	c := newCheck(t, cfg, tables{"text:/class": "here.test", "text:/etc/passwd": "", "hash:/access": strings.Join([]string{
		"to:ann@in.test OK", "to:in.test REJECT", "carl@ ERROR:4.2.1:450 later", "to:dora+*@ ERROR:550 no details", "to:out.test ERROR:421 away", "to:gone.test DISCARD", "To:Case@out.test OK", "empty.test ",
	}, "\n")})
	for rcpt, want := range map[string]string{
		"ann@in.test": "continue", "ann+x@in.test": "continue", "ANN@IN.test": "continue", "bob@in.test": "550 5.2.1", "bob@sub.in.test": "550 5.2.1", "bob@xin.test": "continue",
		"carl@here.test": "450 4.2.1", "carl@away.test": "continue", "carl": "450 4.2.1", "dora@here.test": "continue", "dora+x@here.test": "550 5.0.0", "postmaster@in.test": "550 5.2.1",
		"x@out.test": "451 4.0.0", "case@out.test": "451 4.0.0", "Case@out.test": "continue", "x@empty.test": "continue", "": "continue",
	} {
		if got, q := ask(t, c, rcpt, rcptgate.NextHop{}); got != want {
			t.Errorf("%s: %s, want %s; %q", rcpt, got, want, q.Trace.Steps[0].Notes)
		}
	}
	q := &rcptgate.Query{Recipient: address.Parse("x@gone.test"), Trace: rcptgate.Trace{Explain: true}}
	if v, err := c.Check(t.Context(), q); err != nil || v.Action != rcptgate.Discard {
		t.Errorf("%+v, %v", v, err)
	}
	_, q = ask(t, c, "bob@in.test", rcptgate.NextHop{})
	if want, got := `tables: bob@in.test is in hash:/access, key "to:in.test": REJECT`, q.Trace.Steps[0].Notes; len(got) == 0 || got[0] != want {
		t.Errorf("notes %q, want %q", got, want)
	}
}

// The map speaks of the address that the client gave, not of what the MTA made of it.
func TestAccessOfRewritten(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Access = specs(t, "hash:/access")
	c := newCheck(t, cfg, tables{"hash:/access": "to:dead@virt.test REJECT\nto:left@in.test REJECT"})
	for rcpt, want := range map[string]string{"dead@virt.test": "550 5.2.1", "live@virt.test": "continue"} {
		if got, _ := ask(t, c, rcpt, rcptgate.NextHop{Mailer: "esmtp", Addr: "left@in.test"}); got != want {
			t.Errorf("%s: %s, want %s", rcpt, got, want)
		}
	}
}

func TestAccessUnread(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Access = specs(t, "hash:/gone")
	c := newCheck(t, cfg, tables{})
	if _, err := c.Check(context.Background(), &rcptgate.Query{Recipient: address.Parse("x@in.test")}); err == nil {
		t.Error("no error")
	}
}

func TestReadAccess(t *testing.T) {
	for _, tc := range []struct {
		value, want, text string
		reason            rcptgate.Reason
	}{
		{value: "RELAY"},
		{value: "ok"},
		{value: "Skip"},
		{value: "QUARANTINE:why", want: "0 ", reason: rcptgate.ReasonLocal}, // accepted, and held
		{"REJECT", "550 5.2.1", "Mailbox disabled for this recipient", rcptgate.ReasonRefused},
		{`ERROR:5.1.1:"550 Gone, as ""they"" say"`, "550 5.1.1", "Gone, as they say", rcptgate.ReasonUnknownUser},
		{"ERROR:4.7.1:Later", "553 5.3.0", "Later", rcptgate.ReasonRefused},
		{"ERROR:4.7.1:450 Later", "450 4.7.1", "Later", rcptgate.ReasonDeferred},
		{"ERROR:4.7.1:550 Never", "550 5.7.1", "Never", rcptgate.ReasonRefused},
		{"ERROR:521 Closing", "550 5.0.0", "Closing", rcptgate.ReasonRefused},
		{"ERROR:", "553 5.3.0", "Recipient refused", rcptgate.ReasonRefused},
		{"450 4.2.2 Full\r\n250 OK", "450 4.2.2", "Full", rcptgate.ReasonDeferred},
		{"250 OK", "553 5.3.0", "250 OK", rcptgate.ReasonRefused},
	} {
		v := readAccess(tc.value)
		got := ""
		if v.Action != rcptgate.Continue {
			got = fmt.Sprintf("%d %s", v.Code, v.Enhanced)
		}
		if first, _, _ := strings.Cut(v.Text, "\n"); got != tc.want || strings.TrimSpace(first) != tc.text || v.Reason != tc.reason {
			t.Errorf("%q: %s %q %s", tc.value, got, v.Text, v.Reason)
		}
	}
}

// FuzzAccess reads a map of any content for any recipient: what refuses is a reply that can be sent.
func FuzzAccess(f *testing.F) {
	f.Add("to:in.test ERROR:5.7.1:550 no\nann@in.test OK\nbob@ REJECT", "ann+x@a.in.test")
	f.Add("to:in.test ERROR:\n[203.0.113] 421 x\nto:+x@ DISCARD", "u@[203.0.113.7]")
	f.Add("\"q+x\"@in.test 250 ok\nto:q+*@in.test \"\"", "\"q x\"@in.test")
	f.Fuzz(func(t *testing.T, text, rcpt string) {
		cfg := DefaultConfig()
		cfg.Access, cfg.Domains = specs(t, "hash:/access"), []string{"/class"}
		c := newCheck(t, cfg, tables{"hash:/access": text, "text:/class": "in.test", "text:/etc/passwd": ""})
		q := &rcptgate.Query{Recipient: address.Parse(rcpt), Trace: rcptgate.Trace{Explain: true}}
		v, err := c.access(t.Context(), q)
		switch {
		case err != nil:
			t.Errorf("error = %v", err)
		case v.Action.Refuses() && (v.Code < 400 || v.Code > 599 || v.Code == 421 || v.Code == 521 || v.Enhanced == "" || v.Enhanced[0] != byte('0'+v.Code/100) || v.Text != rcptgate.CleanText(v.Text)):
			t.Errorf("verdict %+v", v)
		case v.Action.Refuses() && (v.Action == rcptgate.Tempfail) != (v.Code < 500):
			t.Errorf("verdict %+v", v)
		}
	})
}
