// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/notice"
	"rcptgate/test/lab"
)

// people are four mailboxes on two stores, one that only forwards, and two entries that
// claim one address.
func people() (ldif string) {
	for _, e := range []string{
		"uid=ann\nmail: ann@example.org\nmailAlternateAddress: info@example.org\nmailHost: store1.example.org\nmailQuotaSize: 1000000\nmailQuotaCount: 500",
		"uid=bob\nmail: Bob@Example.org\nmailHost: store2.example.org\nmailQuotaSize: 0",
		"uid=carl\nmail: carl@example.org\nmailHost: store1.example.org",
		"uid=dora\nmail: dora@example.org\ndeliveryMode: nolocal",
		"uid=eve\nmail: eve@example.org\nmailAlternateAddress: shared@example.org",
		"uid=fred\nmail: fred@example.org\nmailAlternateAddress: shared@example.org",
	} {
		uid, rest, _ := strings.Cut(strings.TrimPrefix(e, "uid="), "\n")
		ldif += fmt.Sprintf("dn: uid=%s,dc=lab,dc=test\nobjectClass: inetOrgPerson\nobjectClass: qmailUser\ncn: x\nsn: x\nuid: %s\n%s\n\n", uid, uid, rest)
	}
	return ldif
}

// Two real slapds: what is found, one of them killed, both killed, and a day that passes.
func TestSlapd(t *testing.T) {
	one := lab.StartSlapd(t, lab.SlapdOptions{Name: "slapd1", Entries: people()})
	two := lab.StartSlapd(t, lab.SlapdOptions{Name: "slapd2", Entries: people()})
	s := NewState(notice.New(slog.New(slog.DiscardHandler)))
	shift := time.Duration(0)
	s.now = func() time.Time { return time.Now().Add(shift) }
	c := Defaults()
	c.URL, c.Base, c.Schema, c.StartTLS, c.Timeout = []string{one.URL, two.URL}, one.Base, "qmail", "off", 10_000_000_000
	c.Bind, c.PasswordFile = one.Bind, write(t, one.Password)
	d, err := s.Open(&c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s.Adopt(d)
	find := func(local string, want Entry) {
		t.Helper()
		got, err := d.Find(t.Context(), mailbox(local, "example.org"))
		got.DN, got.Age = "", 0
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", local, got, err, want)
		}
	}
	ann := Entry{Found: 1, Host: "store1.example.org", User: "ann", Limit: 1_000_000, Messages: 500}
	bob := Entry{Found: 1, Host: "store2.example.org", User: "bob", Limit: Unlimited, Messages: NotKnown}
	carl := Entry{Found: 1, Host: "store1.example.org", User: "carl", Limit: NotKnown, Messages: NotKnown}
	find("ann", ann)
	find("info", ann)
	find("BOB", bob)
	find("carl", carl)
	find("dora", Entry{Found: 1, User: "dora", Limit: NotKnown, Messages: NotKnown, Flags: NoLocal})
	find("shared", Entry{Found: 2, Limit: NotKnown, Messages: NotKnown})
	for _, nobody := range []string{"nobody", "*", "ann*", "a*)(uid=*", "ann)(uid=ann", "ann\\2a", "ann\\", "("} {
		find(nobody, Entry{Limit: NotKnown, Messages: NotKnown})
	}

	one.Kill()
	find("eve", Entry{Found: 1, User: "eve", Limit: NotKnown, Messages: NotKnown})
	two.Kill()
	find("ann", ann)
	shift = 23 * time.Hour
	ann.Stale, bob.Stale = true, true
	find("ann", ann)
	find("bob", bob)
	start := time.Now()
	find("ann", ann)
	if _, err := d.Find(t.Context(), mailbox("fred", "example.org")); err == nil {
		t.Error("a mailbox that was never looked up is known")
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("servers that rest are waited for: %v", took)
	}
	shift = 25 * time.Hour
	if e, err := d.Find(t.Context(), mailbox("ann", "example.org")); err == nil {
		t.Errorf("after more than a day: %+v", e)
	}
	two.Restart()
	two.Modify("dn: uid=ann,dc=lab,dc=test\nchangetype: modify\nreplace: mailHost\nmailHost: store2.example.org\n")
	shift = 26 * time.Hour
	ann.Stale, ann.Host = false, "store2.example.org"
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := d.Find(t.Context(), mailbox("ann", "example.org")); err == nil {
			break
		}
		shift += rest // a trial is due
	}
	find("ann", ann)
}

// The ways to reach a real slapd: its socket, TLS of both kinds, StartTLS refused, a wrong
// password, a wrong base.
func TestSlapdAccess(t *testing.T) {
	config, ca := certificate(t)
	key, err := x509.MarshalPKCS8PrivateKey(config.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	one := lab.StartSlapd(t, lab.SlapdOptions{Entries: people()})
	secure := lab.StartSlapd(t, lab.SlapdOptions{
		Name: "slapd-tls", Entries: people(), Certificate: ca, Key: write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))),
	})
	for name, c := range map[string]struct {
		change func(c *Config)
		good   bool
	}{
		"socket":           {func(c *Config) { c.URL = []string{one.Local} }, true},
		"StartTLS":         {func(c *Config) { c.URL, c.StartTLS, c.CAFile = []string{secure.URL}, "required", ca }, true},
		"ldaps":            {func(c *Config) { c.URL, c.CAFile = []string{secure.Secure}, ca }, true},
		"ldaps, not ours":  {func(c *Config) { c.URL = []string{secure.Secure} }, false},
		"no TLS there":     {func(c *Config) { c.StartTLS = "required" }, false},
		"wrong password":   {func(c *Config) { c.Bind, c.PasswordFile = one.Bind, write(t, "wrong") }, false},
		"wrong base":       {func(c *Config) { c.Base = "dc=other,dc=test" }, false},
		"wrong, then good": {func(c *Config) { c.URL = []string{"ldapi:///nonexistent", one.URL} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Defaults()
			cfg.URL, cfg.Base, cfg.Schema, cfg.StartTLS, cfg.Timeout = []string{one.URL}, one.Base, "qmail", "off", 10_000_000_000
			c.change(&cfg)
			d, err := NewState(nil).Open(&cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			e, err := d.Find(t.Context(), mailbox("ann", "example.org"))
			if (err == nil) != c.good || c.good && e.Host != "store1.example.org" {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}
