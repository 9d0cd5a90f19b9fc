// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"strings"
	"testing"

	"rcptgate"
)

// Keys as newaliases, postalias, makemap and postmap write them: "newaliases" and "postmap" keep the quotes of a name
// that needs them, postalias does not.
func TestQuotedNames(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/newaliases", "hash:/postalias"), []string{"example.org"}
	cfg.VirtualAliasMaps, cfg.VirtUserTable = specs(t, "hash:/virtual"), specs(t, "hash:/virtusertable")
	cfg.RelayRecipientMaps, cfg.RelayDomains = specs(t, "hash:/relay_recipients"), []string{"relay.test"}
	quotedKeys := tables{"text:/etc/passwd": ""}
	for name, entries := range map[string][][2]string{
		"hash:/newaliases":       {{`"up case"`, "ann@in.test"}, {`"a,b"`, "bob@in.test"}, {`"quo\"te"`, "eve@in.test"}},
		"hash:/postalias":        {{"o p", "ann@in.test"}},
		"hash:/virtual":          {{`"q q"@virt.test`, "ann@in.test"}},
		"hash:/virtusertable":    {{`"a,b"@virtuser.test`, "bob@in.test"}, {"@each.test", "%1@in.test"}},
		"hash:/relay_recipients": {{`"q q"@relay.test`, "x"}, {`"a,b"@relay.test`, "x"}},
	} {
		quotedKeys[name] = ""
		for _, e := range entries {
			quotedKeys[name] += strings.ReplaceAll(e[0], " ", "\u00a0") + " " + e[1] + "\n"
		}
	}
	c := newCheck(t, cfg, quotedKeys)
	for _, list := range [][]source{c.files, c.virtual, c.relay} {
		for _, s := range list {
			blanks(s.Table.(fake)) //nolint:forcetypeassert // what open gave
		}
	}
	for rcpt, want := range map[string]string{
		`"o p"@example.org`:       "ann@in.test",
		`"O P+x"@example.org`:     "ann@in.test",
		`"Up Case"@example.org`:   "ann@in.test",
		`"up case+x"@example.org`: "ann@in.test",
		`"a,b"@example.org`:       "bob@in.test",
		`"quo\"te"@example.org`:   "eve@in.test",
		`"not here"@example.org`:  "550 5.1.1",
		`"q q"@virt.test`:         "ann@in.test",
		`"a,b"@virtuser.test`:     "bob@in.test",
		`"c,d"@each.test`:         `"c,d"@in.test`,
		`"q q"@relay.test`:        "exists",
		`"a,b+x"@relay.test`:      "exists",
		`"q r"@relay.test`:        "550 5.1.1",
	} {
		if got, q := ask(t, c, rcpt, rcptgate.NextHop{}); got != want {
			t.Errorf("%s: %s, want %s; %q", rcpt, got, want, q.Trace.Steps[0].Notes)
		}
	}
}

// blanks puts back the blanks of keys, at which a test's table would part a line.
func blanks(f fake) {
	for key, value := range f {
		if k := strings.ReplaceAll(key, "\u00a0", " "); k != key {
			delete(f, key)
			f[k] = value
		}
	}
}

// What cannot be written into an SMTP command is a mistake in the table, and no reason to refuse.
func TestTargetsThatNobodyCanBeAskedAbout(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/aliases"), []string{"example.org"}
	c := newCheck(t, cfg, tables{"text:/etc/passwd": "", "hash:/aliases": strings.Join([]string{
		"long " + strings.Repeat("x", 600) + "@in.test", "control \"a\x01b\"@in.test", "line \"a\rb\"@in.test", "good ann@in.test",
		"percent ann%in.test@example.org", "bang in.test!ann@example.org", "gone ann@example.org",
	}, "\n")})
	for rcpt, want := range map[string]string{"long": "taken", "control": "taken", "line": "taken", "good": "ann@in.test", "percent": "taken", "bang": "taken", "gone": "550 5.1.1"} {
		if got, q := ask(t, c, rcpt+"@example.org", rcptgate.NextHop{}); got != want {
			t.Errorf("%s: %s, want %s; %q", rcpt, got, want, q.Trace.Steps[0].Notes)
		}
	}
}

// Sendmail follows virtusertable in its virtual domains only. Where it says what became of the address, entries for
// any other domain are not active, and those of virtual domains have been followed.
func TestVirtUserTableThatTheMTADoesNotFollow(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains, cfg.VirtUserTable = files(t, "hash:/aliases"), []string{"example.org"}, specs(t, "hash:/virtusertable")
	c := newCheck(t, cfg, tables{
		"text:/etc/passwd": "", "hash:/aliases": "sales ann@in.test\nback bob@in.test",
		"hash:/virtusertable": "old@in.test error:nouser gone\nmoved@in.test lost@example.org\n@virt.test error:nouser no such one\nback@in.test back",
	})
	esmtp := func(addr string) rcptgate.NextHop {
		return rcptgate.NextHop{Mailer: "esmtp", Host: "[192.0.2.1]", Addr: addr}
	}
	for _, tc := range []struct {
		rcpt, want string
		hop        rcptgate.NextHop
	}{
		{"old@in.test", "continue", esmtp("old@in.test")},
		{"moved@in.test", "continue", esmtp("moved@in.test")},
		{"info@virt.test", "continue", esmtp("ann@in.test")},
		{"old@in.test", "550 5.1.1", rcptgate.NextHop{}},
		{"moved@in.test", "550 5.1.1", rcptgate.NextHop{}},
		{"any@virt.test", "550 5.1.1", rcptgate.NextHop{Mailer: "esmtp", Host: "[192.0.2.1]"}}, // it has not named the address
		{"back@in.test", "bob@in.test", rcptgate.NextHop{Mailer: "local", Addr: "back"}},
	} {
		if got, q := ask(t, c, tc.rcpt, tc.hop); got != tc.want {
			t.Errorf("%s by %+v: %s, want %s; %q", tc.rcpt, tc.hop, got, tc.want, q.Trace.Steps[0].Notes)
		}
	}
}

// Sendmail delivers to the user whatever the alias says; so the alias of that name must not decide.
func TestABackslashIsPastTheAliases(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "text:/aliases"), []string{"example.org"}
	c := newCheck(t, cfg, tables{"text:/aliases": "ann gone@in.test\n", "text:/etc/passwd": "ann x\n"})
	for _, rcpt := range []string{`\ann@example.org`, `"\ann"@example.org`} {
		if got, q := ask(t, c, rcpt, rcptgate.NextHop{Mailer: "local", Addr: `\ann`}); got != "=ann" {
			t.Errorf("%s: %s; %q", rcpt, got, q.Trace.Steps[0].Notes)
		}
	}
}
