// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/table"
)

func TestVirtUserTable(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains, cfg.VirtUserTable = files(t, "hash:/aliases"), []string{"example.org"}, specs(t, "hash:/virtusertable")
	c := newCheck(t, cfg, tables{
		"hash:/aliases": "sales ann@in.test\ninfo-list ann@in.test", "text:/etc/passwd": "ann x",
		"hash:/virtusertable": strings.Join([]string{
			"info@virt.test ann@in.test", "here@virt.test sales", "who@virt.test carl", "user@virt.test ann", "list@virt.test info-%1", "full@virt.test error:nouser 550 5.7.1 gone fishing",
			"@catch.test bob@in.test", "@each.test %1@in.test", "@detail.test %1%3@in.test", "plus++@p.test %2@in.test", "plus+*@p.test %1@in.test", "+*@q.test cat@in.test", "++@q.test dog@in.test",
			"@no.test error:5.1.1:550 not here", "@try.test error:tempfail 451 later", "@odd.test error:go away", "chain@virt.test info@virt.test",
			"percent@virt.test 100%%%9@in.test", "same@in.test same@in.test", "gone@virt.test lost@example.org", "a@virt.test b@virt.test", "b@virt.test a@virt.test", "some@virt.test error:tempfail",
		}, "\n"),
	})
	for _, tc := range [][2]string{
		{"info@virt.test", "ann@in.test"},
		{"INFO@virt.test", "ann@in.test"},
		{"info+x@virt.test", "ann@in.test"},
		{"nobody@virt.test", "continue"},
		{"here@virt.test", "ann@in.test"},
		{"who@virt.test", "550 5.1.1"}, // not a user of this machine
		{"user@virt.test", "=ann"},
		{"chain@virt.test", "ann@in.test"},
		{"full@virt.test", "550 5.7.1"},
		{"any@catch.test", "bob@in.test"},
		{"any+x@catch.test", "bob@in.test"},
		{"eve@each.test", "eve@in.test"},
		{"eve+x@each.test", "eve@in.test"},
		{"eve+x@detail.test", "eve+x@in.test"},
		{"eve@detail.test", "eve@in.test"},
		{"plus+x@p.test", "x@in.test"},
		{"plus+@p.test", "plus@in.test"},
		{"plus@p.test", "continue"},
		{"u+x@q.test", "dog@in.test"},
		{"u+@q.test", "cat@in.test"},
		{"u@q.test", "continue"},
		{"x@no.test", "550 5.1.1"},
		{"x@try.test", "451 4.0.0"},
		{"x@odd.test", "553 5.0.0"},
		{"percent@virt.test", "100%@in.test"},
		{"same@in.test", "continue"},
		{"gone@virt.test", "550 5.1.1"},
		{"a@virt.test", "taken"},
		{"sales@example.org", "ann@in.test"},
		{"list@virt.test", "ann@in.test"},
		{"some@virt.test", "450 4.0.0"},
	} {
		if got, q := ask(t, c, tc[0], rcptgate.NextHop{}); got != tc[1] {
			t.Errorf("%s: %s, want %s; %q", tc[0], got, tc[1], q.Trace.Steps[0].Notes)
		}
	}
}

// Where it is not known in which domains virtusertable applies, a target may be left as it is: Sendmail does not
// rewrite a target in a domain that it only relays.
func TestVirtUserTableInUnknownDomains(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains, cfg.VirtUserTable = files(t, "hash:/aliases"), []string{"example.org"}, specs(t, "hash:/virtusertable")
	for _, tc := range []struct{ name, virtusers, domains, want string }{
		{"rewritten or not", "good@in.test gone@pf.test", "", "gone@pf.test good@in.test"},
		{"refused or not", "good@in.test error:nouser Not here", "", "good@in.test"},
		{"elsewhere or not", "good@far.test gone@pf.test", "", "taken"},
		{"not", "good@in.test gone@pf.test", "virt.test", "good@in.test"},
		{"rewritten", "good@in.test gone@pf.test", "in.test", "gone@pf.test"},
		{"rewritten, as for the recipient", "good@in.test gone@in.test\ngone@in.test fine@pf.test", "", "fine@pf.test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := cfg
			if tc.domains != "" {
				cfg.VirtuserDomains = strings.Fields(tc.domains)
			}
			rcpt, _, _ := strings.Cut(tc.virtusers, " ")
			c := newCheck(t, cfg, tables{"hash:/aliases": "info " + rcpt, "text:/etc/passwd": "ann x", "hash:/virtusertable": tc.virtusers})
			if tc.name != "rewritten, as for the recipient" {
				rcpt = "info@example.org"
			}
			if got, q := ask(t, c, rcpt, rcptgate.NextHop{}); got != tc.want {
				t.Errorf("%s, want %s; %q", got, tc.want, q.Trace.Steps[0].Notes)
			}
		})
	}
}

func TestReadError(t *testing.T) {
	for _, tc := range []struct {
		value, enhanced, text string
		code                  int
		reason                rcptgate.Reason
	}{
		{"error:nouser No such user here", "5.1.1", "No such user here", 550, rcptgate.ReasonUnknownUser},
		{"error:nouser 550 5.1.1 Gone", "5.1.1", "Gone", 550, rcptgate.ReasonUnknownUser},
		{"error:5.7.0:550 Address invalid", "5.7.0", "Address invalid", 550, rcptgate.ReasonRefused},
		{"error:4.7.0:Come back", "4.7.0", "Come back", 450, rcptgate.ReasonDeferred},
		{"error:tempfail Come back", "4.0.0", "Come back", 450, rcptgate.ReasonDeferred},
		{`error:"nohost" "no host"`, "5.1.2", "no host", 550, rcptgate.ReasonRefused},
		{"ERROR:nouser", "5.1.1", "Recipient refused", 550, rcptgate.ReasonUnknownUser},
		{"error:", "5.0.0", "Recipient refused", 553, rcptgate.ReasonRefused},
		{"error:nouser 421 closing", "5.1.1", "421 closing", 550, rcptgate.ReasonUnknownUser},
		{"error:nouser 452 4.2.2 full\r\nRSET", "4.2.2", "full", 452, rcptgate.ReasonDeferred},
		{"error:nouser 250 fine", "5.1.1", "250 fine", 550, rcptgate.ReasonUnknownUser},
		{"error:5.x.1:what", "5.0.0", "5.x.1:what", 553, rcptgate.ReasonRefused},
	} {
		v := readError(tc.value)
		text, _, _ := strings.Cut(v.Text, "\n")
		if v.Code != tc.code || v.Enhanced != tc.enhanced || strings.TrimSpace(text) != tc.text || v.Reason != tc.reason || !v.Action.Refuses() || v.Action == rcptgate.Tempfail != (v.Code < 500) {
			t.Errorf("%q: %+v", tc.value, v)
		}
	}
}

func TestVirtualAliasMaps(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains, cfg.VirtualAliasMaps = files(t, "hash:/aliases"), []string{"example.org"}, specs(t, "hash:/virtual")
	c := newCheck(t, cfg, tables{
		"hash:/aliases": "sales ann@in.test\nlocal /dev/null", "text:/etc/passwd": "",
		"hash:/virtual": strings.Join([]string{
			"info@virt.test ann@in.test", "two@virt.test ann@in.test, bob@pf.test", "here@virt.test sales", "bare joe@in.test", "@catch.test bob@in.test", "@move.test @in.test",
			"keep@catch.test keep@catch.test", "keep@pf.test keep@pf.test", "chain@virt.test info@virt.test", "virt.test anything", "ann+vip@virt.test vip@in.test", "a@virt.test b@virt.test", "b@virt.test a@virt.test",
			"also@pf.test also@pf.test, ann@in.test", "sales@example.org eve@in.test", "gone@virt.test gone@example.org", "odd.name@virt.test y@in.test",
		}, "\n"),
	})
	hop := rcptgate.NextHop{Mailer: "error", Host: "5.1.1 User unknown in virtual alias table"}
	for _, tc := range []struct {
		rcpt, want string
		hop        rcptgate.NextHop
	}{
		{"info@virt.test", "ann@in.test", hop},
		{"Info@VIRT.test", "ann@in.test", hop},
		{"info+x@virt.test", "ann+x@in.test", hop},
		{"ann+vip@virt.test", "vip@in.test", hop},
		{"two@virt.test", "ann@in.test bob@pf.test", hop},
		{"here@virt.test", "ann@in.test", hop},
		{"chain@virt.test", "ann@in.test", hop},
		{"a@virt.test", "taken", hop},
		{"nobody@virt.test", "continue", hop},
		{"gone@virt.test", "550 5.1.1", hop},
		{"bare@example.org", "joe@in.test", local},
		{"bare+x@example.org", "joe+x@in.test", local},
		{"bare@other.example", "continue", rcptgate.NextHop{}},
		{"any@catch.test", "bob@in.test", hop},
		{"any+x@catch.test", "bob@in.test", hop},
		{"Any+x@move.test", "Any+x@in.test", hop},
		{"keep@catch.test", "taken", hop}, // itself, elsewhere
		{"keep@pf.test", "continue", rcptgate.NextHop{Mailer: "smtp", Host: "[192.0.2.1]"}},
		{"also@pf.test", "also@pf.test ann@in.test", rcptgate.NextHop{}},
		{"sales@example.org", "eve@in.test", local},
		{`"odd.name"@virt.test`, "y@in.test", hop},
	} {
		if got, q := ask(t, c, tc.rcpt, tc.hop); got != tc.want {
			t.Errorf("%s: %s, want %s; %q", tc.rcpt, got, tc.want, q.Trace.Steps[0].Notes)
		}
	}
	// The same mailbox with the MTA's own next hop is asked about there, not passed over.
	follow := rcptgate.NextHop{Mailer: "smtp", Host: "[192.0.2.1]"}
	cfg.VirtualAliasMaps = specs(t, "hash:/own")
	c = newCheck(t, cfg, tables{"hash:/own": "u@far.test u@far.test\nv@far.test w@far.test", "hash:/aliases": "", "text:/etc/passwd": ""})
	if got, _ := ask(t, c, "u@far.test", follow); got != "continue" {
		t.Errorf("u@far.test: %s", got)
	}
	if got, _ := ask(t, c, "v@far.test", follow); got != "taken" {
		t.Errorf("v@far.test: %s", got) // its next hop is another's
	}
}

func TestIncludes(t *testing.T) { synctest.Test(t, testIncludes) }

func testIncludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x := newIncludes()
	get := func() string {
		targets, err := x.get(context.Background(), path)
		if err != nil {
			return "error"
		}
		var s []string
		for _, target := range targets {
			s = append(s, target.Value)
		}
		return strings.Join(s, " ")
	}
	write("ann@in.test\n# no\nbob, carl")
	if got := get(); got != "ann@in.test bob carl" {
		t.Error(got)
	}
	write("eve")
	if got := get(); got != "ann@in.test bob carl" {
		t.Errorf("not kept for a second: %s", got)
	}
	time.Sleep(includeFresh)
	if got := get(); got != "eve" {
		t.Errorf("not read again: %s", got)
	}
	for _, bad := range []string{strings.Repeat("x", includeMax+1), "\"no end"} {
		time.Sleep(includeFresh)
		write(bad)
		if got := get(); got != "error" {
			t.Errorf("%.10q: %s", bad, got)
		}
	}
	for i := range 3 * includeKept {
		_, _ = x.get(context.Background(), path+string(rune('0'+i%10))+strings.Repeat("x", i/10))
	}
	if n := x.read.Len(); n > includeKept {
		t.Errorf("%d files kept", n)
	}
}

func TestValidate(t *testing.T) {
	text := table.Spec{Type: table.Text, Name: "/etc/postfix/virtual"}
	for _, tc := range []struct {
		cfg  Config
		says string
	}{
		{DefaultConfig(), ""},
		{Config{Domains: []string{"example.org", "/etc/mail/local-host-names", "bücher.example", "localhost"}}, ""},
		{Config{Domains: []string{"*"}}, "domains"},
		{Config{Domains: []string{""}}, "domains"},
		{Config{Domains: []string{".example.org"}}, "domains"},
		{Config{Domains: []string{"ann@example.org"}}, "domains"},
		{Config{Domains: []string{"/etc/mail/"}}, "directory"},
		{Config{Domains: []string{"hash:etc/x"}}, "domains"},
		{Config{Domains: []string{"hash:/etc/x"}}, ""},
		{Config{Domains: []string{"ldap:/etc/x"}}, "unknown type"},
		{Config{Domains: []string{"text:/etc/x"}}, "is written /etc/x"},
		{Config{Domains: []string{"!example.org"}}, "domains"},
		{Config{RelayDomains: []string{".", "x"}, RelayRecipientMaps: []table.Spec{{Type: table.Hash, Name: "/x"}}}, "relay_domains"},
		{Config{RelayDomains: []string{".example.org", "hash:/x"}, RelayRecipientMaps: []table.Spec{{Type: table.Hash, Name: "/x"}}}, ""},
		{Config{RelayDomains: []string{"example.com"}}, "relay_recipient_maps is empty"},
		{Config{RelayDomains: []string{"*"}, RelayRecipientMaps: []table.Spec{{Type: table.Hash, Name: "/x"}}}, "relay_domains"},
		{Config{Delimiter: ptr("@")}, "recipient_delimiter"},
		{Config{Passwd: "etc/passwd"}, "passwd"},
		{Config{VirtUserTable: []table.Spec{text}}, "texthash:/etc/postfix/virtual"},
		{Config{VirtualAliasMaps: []table.Spec{text}}, "virtual_alias_maps"},
	} {
		err := tc.cfg.Validate()
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v", tc.cfg, err)
		}
	}
}

func TestRelayRecipientMaps(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/aliases"), []string{"example.org"}
	cfg.RelayRecipientMaps, cfg.RelayDomains = specs(t, "hash:/relay"), []string{"in.test", "relay.test", "open.test", "/class"}
	ts := tables{
		"hash:/aliases": "good ann@in.test\nbad bob@in.test\nmixed bob@in.test, x@pf.test\nroot postmaster@in.test\nopen u@open.test", "text:/etc/passwd": "", "text:/class": "class.test\n",
		"hash:/relay": "ann@in.test x\n@open.test x\nann@class.test x\nany@other.test x",
	}
	c := newCheck(t, cfg, ts)
	for _, tc := range [][2]string{
		{"ann@in.test", "exists"},
		{"Ann+x@in.test", "exists"},
		{"bob@in.test", "550 5.1.1"},
		{"ann@class.test", "exists"},
		{"bob@class.test", "550 5.1.1"},
		{"u@relay.test", "550 5.1.1"},
		{"u@open.test", "continue"},
		{"any@other.test", "exists"},
		{"u@other.test", "continue"},
		{"x@pf.test", "continue"},
		{"postmaster@in.test", "continue"},
		{"good@example.org", "=ann@in.test"},
		{"bad@example.org", "bob@in.test"}, // the list is for recipients, not for targets
		{"mixed@example.org", "bob@in.test x@pf.test"},
		{"root@example.org", "postmaster@in.test"},
		{"open@example.org", "taken"},
	} {
		if got, q := ask(t, c, tc[0], rcptgate.NextHop{}); got != tc[1] {
			t.Errorf("%s: %s, want %s; %q", tc[0], got, tc[1], q.Trace.Steps[0].Notes)
		}
	}
	delete(ts, "hash:/relay")
	if got, _ := ask(t, newCheck(t, cfg, ts), "u@elsewhere.test", rcptgate.NextHop{}); got != "error" {
		t.Errorf("without the table: %s", got)
	}
	delete(ts, "text:/class")
	ts["hash:/relay"] = "ann@in.test x"
	if got, _ := ask(t, newCheck(t, cfg, ts), "u@elsewhere.test", rcptgate.NextHop{}); got != "error" {
		t.Errorf("without the class file: %s", got)
	}
}

func TestRelayDomains(t *testing.T) {
	for _, tc := range []struct {
		subdomains bool
		unlisted   string // domains whose recipients must be listed
		silent     string
	}{
		{true, "pat.test sub.pat.test a.sub.pat.test tab.test x.tab.test class.test y.class.test x.below.test x.keyed.test", "below.test xpat.test test [192.0.2.1] other.test"},
		{false, "pat.test tab.test class.test x.below.test x.y.below.test keyed.test x.dot.test", "below.test sub.pat.test x.tab.test y.class.test dot.test xdot.test"},
	} {
		cfg := DefaultConfig()
		cfg.RelayRecipientMaps, cfg.RelaySubdomains = specs(t, "hash:/relay"), &tc.subdomains
		cfg.RelayDomains = []string{"Pat.test", ".below.test", "hash:/domains", "/class"}
		c := newCheck(t, cfg, tables{"hash:/relay": "ann@pat.test x", "hash:/domains": "tab.test x\nkeyed.test x\n.dot.test x", "text:/class": "class.test", "text:/etc/passwd": ""})
		for domains, want := range map[string]string{tc.unlisted: "550 5.1.1", tc.silent: "continue"} {
			for _, d := range strings.Fields(domains) {
				if got, _ := ask(t, c, "u@"+d, rcptgate.NextHop{}); got != want {
					t.Errorf("relay_subdomains = %v, %s: %s, want %s", tc.subdomains, d, got, want)
				}
			}
		}
	}
}

func TestLocalDomainsOfATable(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/aliases"), []string{"hash:/local"}
	c := newCheck(t, cfg, tables{"hash:/local": "tab.test x", "hash:/aliases": "ann bob@in.test", "text:/etc/passwd": ""})
	for rcpt, want := range map[string]string{"ann@tab.test": "bob@in.test", "eve@tab.test": "continue", "ann@sub.tab.test": "continue"} {
		if got, _ := ask(t, c, rcpt, rcptgate.NextHop{}); got != want {
			t.Errorf("%s: %s, want %s", rcpt, got, want)
		}
	}
}

func ptr[T any](v T) *T { return &v }
