// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate"
)

// writeFile writes a file of a test and gives its path.
func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const mainCF = `myhostname = mx.loc.test
mydomain = loc.test
mydestination = $mydomain, localhost, /etc/postfix/more
myorigin = $mydomain
alias_maps = hash:/etc/aliases
virtual_alias_maps = proxy:hash:/etc/postfix/virtual
virtual_alias_domains = virt.test
recipient_canonical_maps = hash:/etc/postfix/canonical
relay_recipient_maps = hash:/etc/postfix/relayed
relay_domains = rela.test
propagate_unmatched_extensions =
recipient_delimiter = -
`

func TestEffectiveOfPostfix(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Postfix = writeFile(t, "main.cf", mainCF)
	e, err := cfg.Effective()
	if err != nil {
		t.Fatal(err)
	}
	domains := append(slices.Clone(e.Domains), e.loose...) // this machine may have users elsewhere
	for got, want := range map[string]string{
		e.Files[0].String():                      "hash:/etc/aliases",
		e.VirtualAliasMaps[0].String():           "hash:/etc/postfix/virtual",
		e.RecipientCanonicalMaps[0].String():     "hash:/etc/postfix/canonical",
		e.RelayRecipientMaps[0].String():         "hash:/etc/postfix/relayed",
		strings.Join(domains, " "):               "loc.test localhost /etc/postfix/more",
		strings.Join(e.VirtualAliasDomains, " "): "virt.test",
		strings.Join(e.RelayDomains, " "):        "rela.test",
		"origin " + e.MyOrigin:                   "origin loc.test",
		"delimiter " + e.delimiter:               "delimiter -",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if e.Propagate == nil || len(e.Propagate) != 0 || e.hub || e.Source.Partial || !e.subdomains {
		t.Errorf("propagate %v, hub %v, partial %v, subdomains %v", e.Propagate, e.hub, e.Source.Partial, e.subdomains)
	}
	said := ""
	for _, o := range e.Source.Origins {
		said += o.String() + "\n"
	}
	for _, want := range []string{
		"virtual_alias_maps = proxy:hash:/etc/postfix/virtual (" + cfg.Postfix + ":6)",
		"relay_subdomains = true (the default, not set in " + cfg.Postfix + ")", "myorigin = loc.test (" + cfg.Postfix + ":4)",
	} {
		if !strings.Contains(said, want+"\n") {
			t.Errorf("the origins do not say %q:\n%s", want, said)
		}
	}
}

// What is set in [aliases] itself counts, whatever main.cf says.
func TestOwnSettingsOverride(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Postfix = writeFile(t, "main.cf", mainCF)
	cfg.Files, cfg.Domains, cfg.MyOrigin, cfg.Propagate = files(t, "hash:/mine"), []string{"mine.test"}, "origin.test", []string{"virtual"}
	cfg.Delimiter, cfg.RelaySubdomains, cfg.VirtualAliasMaps = ptr("="), ptr(false), specs(t, "hash:/v")
	e, err := cfg.Effective()
	if err != nil {
		t.Fatal(err)
	}
	if e.Files[0].String() != "hash:/mine" || len(e.Files) != 1 || e.Domains[0] != "mine.test" || len(e.loose) != 0 || e.MyOrigin != "origin.test" ||
		e.Propagate[0] != "virtual" || e.delimiter != "=" || e.subdomains || e.VirtualAliasMaps[0].String() != "hash:/v" {
		t.Errorf("%+v", e)
	}
}

func TestWhatPostfixCannotShow(t *testing.T) {
	for text, says := range map[string]string{
		"virtual_alias_maps = hash:/v, ldap:/etc/ldap.cf\n": `"ldap:/etc/ldap.cf" is not of a type`,
		"mydestination = a.test !b.test\n":                  `"!b.test" is left out`,
		"alias_maps = pcre:/etc/postfix/aliases.pcre\n":     "pcre",
	} {
		cfg := DefaultConfig()
		cfg.Postfix = writeFile(t, "main.cf", text)
		e, err := cfg.Effective()
		if err != nil || !e.Source.Partial || !strings.Contains(strings.Join(e.Source.Warnings, "\n"), says) {
			t.Errorf("%q: %v, %+v", text, err, e)
		}
	}
	for _, text := range []string{
		"luser_relay = $user@hub.test\n", "local_recipient_maps =\n", "mailbox_transport = lmtp:unix:private/dovecot\n",
		"local_recipient_maps = hash:/etc/users\n", "fallback_transport = smtp:[h]\n",
	} {
		cfg := DefaultConfig()
		cfg.Postfix = writeFile(t, "main.cf", text)
		if e, err := cfg.Effective(); err != nil || !e.hub {
			t.Errorf("%q: passwd(5) counts as all that knows users: %v", text, err)
		}
	}
	for _, text := range []string{"no equals\n", "mydestination = ${x\n", "myorigin = /nonexistent\n"} {
		cfg := DefaultConfig()
		cfg.Postfix = writeFile(t, "main.cf", text)
		if _, err := cfg.Effective(); err == nil || !strings.Contains(err.Error(), "postfix") {
			t.Errorf("%q: %v", text, err)
		}
	}
	cfg := DefaultConfig()
	cfg.Postfix = writeFile(t, "main.cf", "mydestination = x\nmyorigin = "+writeFile(t, "mailname", "name.test\nmore\n")+"\n")
	if e, err := cfg.Effective(); err != nil || e.MyOrigin != "name.test" {
		t.Errorf("Debian's /etc/mailname: %v", err)
	}
}

const sendmailCF = `V10/Berkeley
Cwloc.test
Fw-o /etc/mail/local-host-names
C{VirtHost}virt.test
F{VirtHost}/etc/mail/virtuals
O AliasFile=hash:/etc/mail/aliases, /nonexistent/aliases, cdb:-o /etc/mail/lists
O MaxAliasRecursion=7
Kvirtuser hash -o /etc/mail/virtusertable
Kaccess hash -T<TMPF> /etc/mail/access
Mlocal, P=/bin/mail, F=lsDFMAw5
R<?> $+ < @ $* > $: <> <$1 < @ $2 >> $| <F:$1@$2> <U:$1@> <D:$2>
`

func TestEffectiveOfSendmail(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Sendmail = writeFile(t, "sendmail.cf", sendmailCF)
	e, err := cfg.Effective()
	if err != nil {
		t.Fatal(err)
	}
	domains := append(slices.Clone(e.Domains), e.loose...)
	for _, want := range []string{"loc.test", "localhost", "/etc/mail/local-host-names"} {
		if !slices.Contains(domains, want) {
			t.Errorf("domains lack %s: %q", want, domains)
		}
	}
	if e.Files[0].String() != "hash:/etc/mail/aliases" || e.Files[1].String() != "cdb:/etc/mail/lists" ||
		e.VirtUserTable[0].String() != "hash:/etc/mail/virtusertable" || e.Access[0].String() != "hash:/etc/mail/access" ||
		strings.Join(e.VirtuserDomains, " ") != "virt.test /etc/mail/virtuals" || e.MaxAliasRecursion != 7 || e.hub || e.Source.Partial || e.delimiter != "+" {
		t.Errorf("%+v", e)
	}
	if len(e.Files) != 2 || !strings.Contains(strings.Join(e.Source.Warnings, "\n"), "has not been built") {
		t.Errorf("a file that was not built: %v, %q", e.Files, e.Source.Warnings)
	}
	for line, want := range map[string]func(e *Effective) bool{
		"DHesmtp:[192.0.2.1]\n": func(e *Effective) bool { return e.hub && !e.sticky },
		"DHesmtp:[192.0.2.1]\nR$+ < @ $=w . > $: < $H > $1 < @ $2 . >\n": func(e *Effective) bool { return e.sticky },
		"DLlocal:lost\n":                     func(e *Effective) bool { return e.hub },
		"DH\nDR\n":                           func(e *Effective) bool { return !e.hub },
		"Mlocal, F=lsDFMA5\n":                func(e *Effective) bool { return e.hub },
		"Kldapmra ldap -1 -v\n":              func(e *Effective) bool { return e.Source.Partial },
		"F{w}@LDAP\n":                        func(e *Effective) bool { return e.Source.Partial },
		"Kvirtuser ldap -k x\n":              func(e *Effective) bool { return e.Source.Partial && len(e.VirtUserTable) == 0 },
		"R$* < @ $* $={VirtHost} . > $: x\n": func(e *Effective) bool { return slices.Contains(e.VirtuserDomains, ".virt.test") },
	} {
		cfg.Sendmail = writeFile(t, "sendmail.cf", sendmailCF+line)
		if e, err := cfg.Effective(); err != nil || !want(e) {
			t.Errorf("%q: %v, %+v", line, err, e)
		}
	}
}

// A change is noticed, and one that does not matter rebuilds nothing.
func TestEffectiveFollows(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Postfix = writeFile(t, "main.cf", "mydestination = a.test\n")
	first, err := cfg.Effective()
	if err != nil || first.Source.Changed() {
		t.Fatal(err)
	}
	for text, equal := range map[string]bool{"mydestination = a.test\nmynetworks = x\n": true, "mydestination = a.test, b.test\n": false} {
		if err := os.WriteFile(cfg.Postfix, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if first.Source.Changed() || !first.Source.Changed() {
			t.Errorf("%q: not seen", text)
		}
		if next, err := cfg.Effective(); err != nil || next.Equal(first) != equal {
			t.Errorf("%q: equal is not %v, %v", text, equal, err)
		}
	}
	if err := os.Remove(cfg.Postfix); err != nil || first.Source.Changed() || !first.Source.Changed() {
		t.Error("a file that is gone has not changed")
	}
}

func TestNSSwitch(t *testing.T) {
	for text, complete := range map[string]bool{
		"passwd: files systemd\ngroup: ldap\n": true, "passwd:\tfiles sss # x\n": false, "passwd: compat [NOTFOUND=return] nis": false, "": true,
	} {
		if got := passwdIsComplete(writeFile(t, "nsswitch.conf", text)); got != complete {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestAsTheMTADelivers has targets of many kinds followed as Sendmail or Postfix follow them. What is right was seen at
// the real ones; test/differential compares them.
func TestAsTheMTADelivers(t *testing.T) {
	local := rcptgate.NextHop{Mailer: "local"}
	named := func(name string) rcptgate.NextHop { return rcptgate.NextHop{Mailer: "local", Addr: name} }
	base := func(f func(c *Config)) Config {
		c := DefaultConfig()
		c.Domains = []string{"loc.test"}
		f(&c)
		return c
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		ts   tables
		rcpt string
		hop  rcptgate.NextHop
		want string
	}{
		{"mailertable names a local user", base(func(c *Config) { c.Files, c.VirtUserTable = files(t, "hash:/a"), specs(t, "hash:/v") }),
			tables{"hash:/a": "sales good@in.test", "hash:/v": "x@virt.test ann"}, "help@old.test", named("sales"), "good@in.test"},
		{"the MTA delivers to a name that only it knows", base(func(c *Config) { c.Files = files(t, "hash:/a") }),
			tables{"hash:/a": ""}, "support@in.test", named("rt-support"), "taken"},
		{"a user of a domain that has a section", base(func(c *Config) { c.Files, c.Domains = files(t, "hash:/a"), []string{"loc.test", "in.test"} }),
			tables{"hash:/a": "staff ann@in.test"}, "staff@loc.test", local, "=ann@in.test"},
		{"local(8) asks aliases alone", base(func(c *Config) { c.Files, c.VirtualAliasMaps = files(t, "hash:/a"), specs(t, "hash:/v") }),
			tables{"hash:/a": "staff ann, ann@loc.test", "hash:/v": "ann@loc.test gone@in.test\nann gone@in.test"}, "staff@loc.test", local, "=ann =ann@loc.test"},
		{"virtusertable holds in its own domains", base(func(c *Config) {
			c.Files, c.VirtUserTable, c.VirtuserDomains = files(t, "hash:/a"), specs(t, "hash:/v"), []string{"virt.test"}
		}), tables{"hash:/a": "info good@in.test\nlead x@virt.test", "hash:/v": "good@in.test gone@in.test\nx@virt.test y@pf.test"}, "info@loc.test", local, "good@in.test"},
		{"virtusertable without domains of its own", base(func(c *Config) {
			c.Files, c.VirtUserTable, c.VirtuserDomains = files(t, "hash:/a"), specs(t, "hash:/v"), []string{}
		}), tables{"hash:/a": "info good@in.test", "hash:/v": "good@in.test gone@in.test"}, "info@loc.test", local, "good@in.test"},
		{"a circle back to a virtual user", base(func(c *Config) {
			c.Files, c.VirtUserTable, c.Domains = files(t, "hash:/a"), specs(t, "hash:/v"), []string{"loc.test", "virt.test"}
		}), tables{"hash:/a": "ann good@virt.test\ngood gone@in.test", "hash:/v": "good@virt.test ann"}, "good@virt.test", named("ann"), "=ann"},
		{"canonical maps come first", base(func(c *Config) {
			c.RecipientCanonicalMaps, c.CanonicalMaps, c.VirtualAliasMaps = specs(t, "hash:/r"), specs(t, "hash:/c"), specs(t, "hash:/v")
		}), tables{"hash:/r": "old@in.test mid@in.test", "hash:/c": "mid@in.test new@in.test", "hash:/v": "new@in.test box@pf.test\nold@in.test no@pf.test"}, "old@in.test", rcptgate.NextHop{}, "box@pf.test"},
		{"a canonical address that no other table holds", base(func(c *Config) { c.CanonicalMaps = specs(t, "hash:/c") }),
			tables{"hash:/c": "@in.test @pf.test"}, "u@in.test", rcptgate.NextHop{}, "u@pf.test"},
		{"details are not propagated", base(func(c *Config) { c.VirtualAliasMaps, c.Propagate = specs(t, "hash:/v"), []string{} }),
			tables{"hash:/v": "info@virt.test good@in.test"}, "info+new@virt.test", rcptgate.NextHop{}, "good@in.test"},
		{"bare names belong to myorigin", base(func(c *Config) {
			c.Files, c.VirtualAliasMaps, c.MyOrigin = files(t, "hash:/a"), specs(t, "hash:/v"), "in.test"
		}), tables{"hash:/a": "good gone@in.test\ninfo good", "hash:/v": "info@virt.test good"}, "info@loc.test", local, "good@in.test"},
		{"a transport to local makes no bare names", base(func(c *Config) { c.VirtualAliasMaps = specs(t, "hash:/v") }),
			tables{"hash:/v": "ann gone@in.test"}, "ann@own.test", rcptgate.NextHop{Mailer: "local", Addr: "ann@own.test"}, "exists"},
		{"mailer-daemon", base(func(c *Config) { c.VirtualAliasMaps = specs(t, "hash:/v") }), tables{"hash:/v": ""}, "MAILER-DAEMON@loc.test", local, "taken"},
		{"a quoted detail is one word to Sendmail", base(func(c *Config) { c.VirtUserTable = specs(t, "hash:/v") }),
			tables{"hash:/v": "team@catch.test gone@in.test\n@catch.test good@pf.test"}, `"team+new"@catch.test`, rcptgate.NextHop{}, "good@pf.test"},
		{"a backslash is past the aliases", base(func(c *Config) { c.Files, c.VirtUserTable = files(t, "hash:/a"), specs(t, "hash:/v") }),
			tables{"hash:/a": "ann gone@in.test", "hash:/v": ""}, `"\ann"@loc.test`, named(`\ann`), "=ann"},
		{"quotes around a part of the name", base(func(c *Config) { c.Files, c.VirtUserTable = files(t, "hash:/a"), specs(t, "hash:/v") }),
			tables{"hash:/a": "a gone@in.test", "hash:/v": ""}, `"a"nn@loc.test`, named(`"a"nn`), "exists"},
		{"deeper than MaxAliasRecursion", base(func(c *Config) { c.Files, c.MaxAliasRecursion = files(t, "hash:/a"), 2 }),
			tables{"hash:/a": "a b\nb c\nc d\nd ann"}, "a@loc.test", local, "554 5.4.6"},
		{"as deep as MaxAliasRecursion", base(func(c *Config) { c.Files, c.MaxAliasRecursion = files(t, "hash:/a"), 4 }),
			tables{"hash:/a": "a b\nb c\nc d\nd ann"}, "a@loc.test", local, "=ann"},
		{"a target that nothing knows", base(func(c *Config) { c.Files = files(t, "hash:/a") }), tables{"hash:/a": "old nil"}, "old@loc.test", local, "550 5.1.1"},
		{"the same, with users elsewhere", base(func(c *Config) { c.Files, c.MailHub = files(t, "hash:/a"), ptr(true) }),
			tables{"hash:/a": "old nil"}, "old@loc.test", local, "=nil"},
		{"an absent name, with users elsewhere", base(func(c *Config) { c.Files, c.MailHub = files(t, "hash:/a"), ptr(true) }),
			tables{"hash:/a": ""}, "nil@loc.test", local, "continue"},
		{"the same, with a route", base(func(c *Config) { c.Files, c.Domains = files(t, "hash:/a"), []string{"in.test"} }),
			tables{"hash:/a": "old nil"}, "old@in.test", local, "=nil"},
		{"a virtual domain without the name", base(func(c *Config) { c.VirtUserTable, c.VirtuserDomains = specs(t, "hash:/v"), []string{"virt.test"} }),
			tables{"hash:/v": "x@virt.test ann"}, "absent@virt.test", rcptgate.NextHop{Mailer: "esmtp", Host: "virt.test"}, "550 5.1.1"},
		{"the same of Postfix, as a target", base(func(c *Config) {
			c.Files, c.VirtualAliasMaps, c.VirtualAliasDomains = files(t, "hash:/a"), specs(t, "hash:/v"), []string{"virt.test"}
		}), tables{"hash:/a": "info absent@virt.test", "hash:/v": "x@virt.test ann"}, "info@loc.test", local, "550 5.1.1"},
		{"postmaster of a virtual domain", base(func(c *Config) {
			c.VirtualAliasMaps, c.VirtualAliasDomains = specs(t, "hash:/v"), []string{"virt.test"}
		}),
			tables{"hash:/v": "x@virt.test ann"}, "postmaster@virt.test", rcptgate.NextHop{}, "continue"},
	} {
		tc.ts["text:/etc/passwd"] = "ann x\nbob x"
		if got, q := ask(t, newCheck(t, tc.cfg, tc.ts), tc.rcpt, tc.hop); got != tc.want {
			t.Errorf("%s: %s is %s, want %s\n%s", tc.name, tc.rcpt, got, tc.want, notes(q))
		}
	}
}

// FEATURE(`stickyhost') with a MAIL_HUB: Sendmail hands an address of a local domain to the hub before it looks at aliases,
// and a name without a domain after that.
func TestStickyHost(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/a"), []string{"loc.test"}
	hub := rcptgate.NextHop{Mailer: "esmtp", Host: "[192.0.2.1]", Addr: "good@loc.test"}
	for _, sticky := range []bool{true, false} {
		c := newCheck(t, cfg, tables{"hash:/a": "good gone@in.test"})
		c.sendmail, c.hub, c.sticky = true, true, sticky
		want := map[bool]string{true: "continue", false: "gone@in.test"}[sticky]
		if got, q := ask(t, c, "good@loc.test", hub); got != want {
			t.Errorf("sticky %v: over the hub it is %s, want %s\n%s", sticky, got, want, notes(q))
		}
		if got, q := ask(t, c, "good@loc.test", rcptgate.NextHop{Mailer: "local", Addr: "good"}); got != "gone@in.test" {
			t.Errorf("sticky %v: delivered here it is %s\n%s", sticky, got, notes(q))
		}
	}
}
