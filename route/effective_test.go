// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate/table"
	"rcptgate/table/lists"
	"rcptgate/test/lab"
)

func TestTablesConfig(t *testing.T) {
	at := "@"
	hop, name := "relay:[10.0.0.5]", "relay:mx.example"
	for key, cfg := range map[string]TablesConfig{
		"mailertable":         {Mailertable: []table.Spec{{Type: table.Text, Name: "/etc/mail/mailertable"}}},
		"recipient_delimiter": {Delimiter: &at},
		"transport_maps":      {TransportMaps: []table.Spec{{Type: table.Text, Name: "/etc/postfix/transport"}}},
		"postfix":             {Postfix: "etc/postfix"},
		"sendmail":            {Sendmail: "sendmail.cf"},
		"relay_to":            {RelayTo: &name, RelayDomains: []string{"a.test"}},
		"relay_domains":       {RelayDomains: []string{"!a.test"}, RelayTo: &hop},
		"own_domains":         {OwnDomains: []string{"u@a.test"}},
		"without each other":  {RelayTo: &hop},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(fmt.Sprint(err), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, cfg := range []TablesConfig{
		{Mailertable: []table.Spec{{Type: table.Hash, Name: "/etc/mail/mailertable"}}},
		{RelayTo: &hop, RelayDomains: []string{"a.test", ".b.test", "hash:/r"}}, {RelayTo: &hop, Postfix: "/etc/postfix"},
	} {
		if err := cfg.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const transports = "transport_maps = proxy:hash:/t, cdb:/u\nrecipient_delimiter = -\nrelay_domains = r.test, hash:/r\nmydestination = l.test\nvirtual_mailbox_domains = m.test\ncompatibility_level = 3.6\n"

// TestEffectiveOfPostfix: which next hop relay_domains have is trivial-rewrite(8)'s: that of
// relay_transport, or else relayhost.
func TestEffectiveOfPostfix(t *testing.T) {
	const rest = `mailertable [], transport_maps [hash:/t cdb:/u], delimiter "-", relay to `
	const domains = ` for ["r.test" "hash:/r"] (subdomains true) but ["l.test" "m.test"]`
	for text, want := range map[string]string{
		transports: rest + `"" for [] (subdomains true) but []`,
		transports + "relayhost = [10.0.0.5]:2525\n":                                    rest + `"relay:[10.0.0.5]:2525"` + domains,
		transports + "relayhost = [10.0.0.5], [10.0.0.6]":                               rest + `"relay:[10.0.0.5], [10.0.0.6]"` + domains,
		transports + "relayhost = hub.test\n":                                           rest + `"" for [] (subdomains true) but []`,
		transports + "relayhost = [10.0.0.5]\nrelay_transport = slow-smtp:[10.0.0.7]\n": rest + `"slow-smtp:[10.0.0.7]"` + domains,
		transports + "relayhost = [10.0.0.5]\nrelay_transport = error:no\n":             rest + `"" for [] (subdomains true) but []`,
		transports + "relay_transport = lmtp:inet:in.test\nparent_domain_matches_subdomains =\n": rest +
			`"lmtp:inet:in.test"` + strings.Replace(domains, "true", "false", 1),
		transports + "relayhost = [10.0.0.5]\nsender_dependent_relayhost_maps = hash:/s\n":    rest + `"" for [] (subdomains true) but []`,
		"relayhost = [10.0.0.5]\ntransport_maps = hash:/t, pcre:/p\nmydestination = l.test\n": `mailertable [], transport_maps [], delimiter "", relay to "" for [] (subdomains true) but []`,
	} {
		e, err := TablesConfig{Postfix: writeFile(t, "main.cf", text)}.Effective()
		if err != nil {
			t.Fatal(err)
		}
		if got := e.String(); got != want {
			t.Errorf("%s\n%s, want\n%s", text, got, want)
		}
		if noted := strings.Contains(fmt.Sprint(e.Source.Origins), "transport_maps"); noted != (len(e.TransportMaps) > 0) {
			t.Errorf("%s\norigins %v", text, e.Source.Origins)
		}
		if e.Source.Partial != strings.Contains(text, "pcre") || (len(e.Source.Warnings) > 0) != (e.Source.Partial || strings.Contains(text, "dependent")) {
			t.Errorf("%s\nwarnings %q", text, e.Source.Warnings)
		}
	}
	for _, text := range []string{"no equals\n", "relayhost = ${x\n", "transport_maps = ${x\n"} {
		if _, err := (TablesConfig{Postfix: writeFile(t, "main.cf", text)}).Effective(); err == nil || !strings.Contains(err.Error(), "routes.postfix") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOwnSettingsOverride(t *testing.T) {
	none, delimiter := "", "="
	cfg := TablesConfig{
		Postfix:       writeFile(t, "main.cf", transports+"relayhost = [10.0.0.5]\n"),
		TransportMaps: []table.Spec{{Type: table.Hash, Name: "/mine"}}, Delimiter: &delimiter, RelayDomains: []string{"mine.test"}, OwnDomains: []string{},
	}
	e, err := cfg.Effective()
	if err != nil || e.String() != `mailertable [], transport_maps [hash:/mine], delimiter "=", relay to "relay:[10.0.0.5]" for ["mine.test"] (subdomains true) but []` {
		t.Errorf("%v, %v", e, err)
	}
	if len(e.Source.Origins) != 1 || !strings.HasPrefix(e.Source.Origins[0].String(), "relay_to = relay:[10.0.0.5] ("+cfg.Postfix+":7)") {
		t.Errorf("origins %v", e.Source.Origins)
	}
	cfg.RelayTo = &none
	if e, err = cfg.Effective(); err != nil || e.RelayTo != "" {
		t.Errorf("%v, %v", e, err)
	}
}

func TestEffectiveFollows(t *testing.T) {
	cfg := TablesConfig{Postfix: writeFile(t, "main.cf", "relayhost = [10.0.0.5]\n")}
	e, err := cfg.Effective()
	if err != nil || e.Source.Changed() {
		t.Fatal(err)
	}
	for text, same := range map[string]bool{"relayhost = [10.0.0.5]\nmynetworks = x\n": true, "relayhost = [10.0.0.6]:26\n": false} {
		if err := os.WriteFile(cfg.Postfix, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if e.Source.Changed() || !e.Source.Changed() {
			t.Errorf("%q: not seen", text)
		}
		if _, got, err := e.Again(); got != same || err != nil {
			t.Errorf("%q: the same is %v, %v", text, got, err)
		}
	}
}

// TestRelayed: a domain that the MTA relays has its next hop for all of them, unless a map
// names another, the MTA says something itself, or the domain is its own.
func TestRelayed(t *testing.T) {
	relay := Relay{To: "relay:[10.0.0.5]", Domains: lists.ReadDomains([]string{"r.test", "section.test"}, lists.WrittenOut), Own: lists.ReadDomains([]string{"own.r.test"}, lists.WrittenOut)}
	relay.Domains.Below = true
	opt := Options{
		FollowMTA: true, Relay: relay, Maps: []Map{mapOf(true, "map.r.test smtp:[10.0.0.6]\nnone.r.test :")},
		Domains: []DomainConfig{{Name: "section.test"}},
	}
	for _, tt := range []struct{ to, mailer, host, want string }{
		{"u@r.test", "", "", "mta smtp:[10.0.0.5]:25"},
		{"u@a.r.test", "", "", "mta smtp:[10.0.0.5]:25"},
		{"u@section.test", "", "", "configured smtp:[10.0.0.5]:25"},
		{"u@map.r.test", "", "", "mta smtp:[10.0.0.6]:25"},
		{"u@own.r.test", "", "", "none"},
		{"u@stranger.test", "", "", "none"},
		{"u@[192.0.2.1]", "", "", "none"},
		{"u", "", "", "none"},
		{"u@r.test", "relay", "[10.0.0.7]", "mta smtp:[10.0.0.7]:25"}, // it knows better
		{"u@r.test", "relay", "r.test", "none"},
		{"u@r.test", "local", "", "none"},
	} {
		for _, follow := range []bool{true, false} {
			opt.FollowMTA = follow
			want := tt.want
			if tt.mailer != "" && !follow {
				want = "none"
			}
			if got := text(newRouter(t, opt).Route(query(tt.to, tt.mailer, tt.host))); got != want {
				t.Errorf("%s via %s:%s, follow_mta %v: %s, want %s", tt.to, tt.mailer, tt.host, follow, got, want)
			}
		}
	}
	r := newRouter(t, opt)
	q := query("u@a.r.test", "", "")
	if n := testing.AllocsPerRun(100, func() { r.Route(q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	unread := func(table.Spec) (table.Table, error) { return lines(nil), nil }
	opt.Relay.Domains = lists.ReadDomains([]string{"hash:/r"}, lists.WrittenOut)
	if err := opt.Relay.Domains.Open(unread, unread); err != nil {
		t.Fatal(err)
	}
	rt := newRouter(t, opt).Route(query("u@x.test", "", ""))
	if rt == nil {
		t.Fatal("a table that could not be read is absence")
	}
	if _, err := rt.Backends(context.Background(), "x.test"); !errors.Is(err, errUnread) {
		t.Error(err)
	}
}

// TestAsSendmailRoutes compares the routes that sendmail.cf means here with what the real
// Sendmail's rules say in address test mode.
func TestAsSendmailRoutes(t *testing.T) {
	lab.Need(t, lab.SendmailKit)
	s := lab.StartSendmail(t, lab.SendmailOptions{
		LocalDomains: []string{"loc.test", "own.rela.test"}, VirtualUsers: map[string]string{"info@virt.test": "ann"},
		Relay: map[string]string{"mapped.test": "esmtp:[192.0.2.2]"}, RelayDomains: []string{"rela.test"},
		Extra: "define(`SMART_HOST', `[192.0.2.1]')",
	})
	e, err := TablesConfig{Sendmail: s.Conf()}.Effective()
	if err != nil || e.Source.Partial {
		t.Fatal(err, e.Source.Warnings)
	}
	if len(e.Mailertable) != 1 || e.RelayTo != "relay:[192.0.2.1]" || !slices.Contains(e.RelayDomains, "rela.test") || !slices.Contains(e.OwnDomains, "virt.test") {
		t.Errorf("%v", e)
	}
	relay, err := e.Relay(func(table.Spec) (table.Table, error) { return lines{}, nil }, func(table.Spec) (table.Table, error) { return lines{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	r := newRouter(t, Options{Relay: relay, Maps: []Map{mapOf(false, "mapped.test esmtp:[192.0.2.2]")}})
	for to, want := range map[string][2]string{
		"u@rela.test":     {"mta smtp:[192.0.2.1]:25", "$# relay $@ [ 192 . 0 . 2 . 1 ]"},
		"u@sub.rela.test": {"mta smtp:[192.0.2.1]:25", "$# relay $@ [ 192 . 0 . 2 . 1 ]"},
		"u@mapped.test":   {"mta smtp:[192.0.2.2]:25", "$# esmtp $@ [ 192 . 0 . 2 . 2 ]"},
		"u@own.rela.test": {"none", "$# local"},
		"u@loc.test":      {"none", "$# local"},
	} {
		if got := text(r.Route(query(to, "", ""))); got != want[0] {
			t.Errorf("%s: %s, want %s", to, got, want[0])
		}
		if says := s.AddressTest("3,0 " + to); !strings.Contains(says, "returns: "+want[1]) {
			t.Errorf("%s: Sendmail says otherwise:\n%s", to, says)
		}
	}
}
