// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/report/maillog"
	"rcptgate/test/lab"
)

// TestSendersForgeNoLogFields has a real Sendmail log what senders write: addresses that look like the
// fields behind them, that are cut at 200 octets in the log, and message ids like both. What is read
// from its log is what was sent.
func TestSendersForgeNoLogFields(t *testing.T) {
	const fields = ", size=9, class=0, nrcpts=9, relay=x [203.0.113.9], "
	s := lab.StartSendmail(t, lab.SendmailOptions{Relay: map[string]string{"pf.test": "esmtp:[127.0.0.1]"}})
	d := lab.MustDial(t, s.Addr())
	pad := func(text string, length int) string { return text + strings.Repeat("x", length-len(text)) }
	ids := []string{"1@x", `x"` + fields, `x")>` + fields, "\xe4\xe4" + fields, strings.Repeat("\xe4", 90), strings.Repeat("x", 100) + ">, relay=[203.0.113.9]"}
	var want []string
	for n, sender := range []string{
		"<a@example.net>", "<>", `<"` + strings.Repeat("\xe4", 230) + `"@example.net>`, `<"` + strings.Repeat("\t", 100) + `"@example.net>`,
		`<"a>` + fields + `"@example.net>`, `<"a\">` + fields + `"@example.net>`, `<"a\\\">` + fields + `"@example.net>`, `"a\"` + fields + `"@example.net`,
		`<a(>` + fields + `)@example.net>`, `<a(()>` + fields + `)@example.net>`, `<(\)>` + fields + `)a@example.net>`, `<(">` + fields + `")a@example.net>`,
		`<<a>` + fields + `b@example.net>`, `(>` + fields + `)<a@example.net>`, `"` + fields + `"<a@example.net>`, `<(>` + fields + `)>`,
		pad(`<"a>`+fields, 220) + `"@example.net>`, pad(`<"`, 198-len(fields)) + fields + pad("", 20) + `"@example.net>`,
		pad("<x", 188) + "@example.net>", pad("<x", 187) + "@example.net>", pad("<x", 186) + "@example.net>", pad(`<a(`, 220) + `)@example.net>`,
	} {
		for i, id := range ids {
			if n > 2 && i != 1 && i != 2 {
				continue
			}
			r, err := d.Cmd("MAIL FROM:" + sender)
			if err != nil {
				t.Fatal(err)
			}
			if r.Code != 250 {
				t.Logf("Sendmail does not take %q: %v", sender, r)
				break
			}
			d.Must(t, 250, d.Rcpt(t, "good@pf.test"))
			d.Must(t, 354, d.Do(t, "DATA"))
			d.Must(t, 250, d.Do(t, fmt.Sprintf("Message-Id: <%s>\r\n\r\n%s\r\n.", id, strings.Repeat("x", 100+i))))
			want = append(want, sender)
		}
	}
	var got []maillog.Entry
	testkit.Eventually(t, "Sendmail to log all messages", func() bool {
		got = nil
		err := maillog.Walk(context.Background(), []string{"-"}, strings.NewReader(s.Log()), func(_ string, err error) { t.Error(err) }, func(e *maillog.Entry) error {
			got = append(got, *e)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(s.Log(), ": from=") >= len(want)
	})
	if len(got) != len(want) || len(want) < 50 {
		t.Fatalf("%d of %d messages", len(got), len(want))
	}
	for i, e := range got {
		sender := want[i]
		if inner, ok := strings.CutPrefix(sender, "<"); ok {
			sender = strings.TrimSuffix(inner, ">")
		}
		if e.Sender != sender && !(e.Unsure && len(e.Sender) > 190 && strings.HasPrefix(sender, e.Sender)) {
			t.Errorf("sender %q, want %q", e.Sender, sender)
		}
		pieces := strings.Contains(s.Log(), e.QueueID+"[1]: ") // the client is in another one
		if e.Rcpts != 1 || e.Size < 100 || e.Client != netip.MustParseAddr("127.0.0.9") && (!pieces || e.Client.IsValid()) {
			t.Errorf("%+v", e)
		}
	}
}
