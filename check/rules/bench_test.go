// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
)

// siteOf is the configuration of a site with 10,000 pairs, 100 rules of ten kinds, and a
// list of so many entries in a table.
func siteOf(tb testing.TB, entries int) *Check {
	tb.Helper()
	dir := tb.TempDir()
	var pairs, list, rules strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&pairs, "someone%d@sender%d.example user%d@example.com discard\n", i, i%100, i)
	}
	for i := range entries {
		fmt.Fprintf(&list, "member%d@club%d.example x\n", i, i%1000)
	}
	write(tb, filepath.Join(dir, "pairs"), pairs.String())
	write(tb, filepath.Join(dir, "members"), list.String())
	fmt.Fprintf(&rules, "[rules]\nlocal = [\"example.com\"]\npairs = [\"texthash:%s/pairs\"]\n[[list]]\nname = \"members\"\ntable = [\"texthash:%s/members\"]\n", dir, dir)
	for i := range 10 {
		for _, conditions := range []string{
			`recipient = ["list%d@example.com"]` + "\n" + `client = ["!$trusted"]`,
			`recipient = ["@closed%d.example.com"]` + "\n" + `auth = false`,
			`sender = ["leaver%d@example.com"]` + "\n" + `recipient = ["!@$local"]`,
			`sender = ["@spam%d.example"]`,
			`sender = ["*@*.farm%d.example.net"]` + "\n" + `recipient = ["ann@example.com"]`,
			`auth_user = ["kiosk%d"]` + "\n" + `recipient = ["!@$local"]`,
			`client = ["10.%d.0.0/16"]` + "\n" + `recipient = ["!@$local"]`,
			`recipient = ["all%d@example.com"]` + "\n" + `sender = ["!list:members"]`,
			`sender = ["owner%d@$local"]` + "\n" + `recipient = ["!@$local"]`,
			`recipient = ["fax%d@"]`,
		} {
			fmt.Fprintf(&rules, "[[rule]]\nname = \"%d-%d\"\n%s\n", i, strings.Count(rules.String(), "[[rule]]"), fmt.Sprintf(conditions, i))
		}
	}
	fmt.Fprintf(&rules, "[[rule]]\nname = \"members\"\nsender = [\"list:members\"]\n")
	return checkOf(tb, rules.String())
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// questions are those of ordinary mail, with so many recipients a message: no rule matches.
func questions(n, recipients int) []*rcptgate.Query {
	list := make([]*rcptgate.Query, n)
	for i := range list {
		message := i / recipients
		q := &rcptgate.Query{
			Stage: rcptgate.StageRcpt, Sender: fmt.Sprintf("someone%d@host%d.sender.example", message, message%100),
			Recipient: address.Parse(fmt.Sprintf("user%d@example.com", i)),
			Client:    netip.AddrFrom4([4]byte{192, 0, 2, byte(message)}), ClientName: "mx.sender.example", Helo: "mx.sender.example",
		}
		q.Target = q.Recipient
		list[i] = q
	}
	return list
}

// batch is how many questions are timed at a time: the best batch is one that nothing else on
// the machine has disturbed.
const batch = 100

func BenchmarkCheck(b *testing.B) {
	for _, of := range []struct{ entries, recipients int }{{1000, 10}, {1_000_000, 10}, {1000, 1}} {
		b.Run(fmt.Sprintf("list=%d/recipients=%d", of.entries, of.recipients), func(b *testing.B) {
			c, list := siteOf(b, of.entries), questions(1000, of.recipients)
			b.ReportAllocs()
			b.ResetTimer()
			best := time.Hour
			for i := 0; i < b.N; i += batch {
				begun := time.Now()
				for k := range batch {
					if v, err := c.Check(b.Context(), list[(i+k)%len(list)]); err != nil || v.Reason != "" {
						b.Fatal(v, err)
					}
				}
				best = min(best, time.Since(begun))
			}
			b.ReportMetric(float64(best)/batch, "best-ns/op")
		})
	}
}

func TestAQuestionAllocatesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, with which the short tests run, allocates")
	}
	c, list := siteOf(t, 1000), questions(10, 1)
	list[0].Sender = "" // a bounce
	list[1].Sender = "someone+news@host.sender.example"
	list[2].Recipient = address.Parse("user+x@example.com")
	list[2].Target = list[2].Recipient
	if n := testing.AllocsPerRun(1000, func() {
		for _, q := range list {
			if v, err := c.Check(t.Context(), q); err != nil || v.Reason != "" {
				t.Fatal(v, err)
			}
		}
	}); n != 0 {
		t.Errorf("ten questions allocate %v times", n)
	}
}
