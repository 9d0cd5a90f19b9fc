// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"pgregory.net/rapid"
)

func planOf(t interface{ Fatal(...any) }, change func(c *Config)) *plan {
	c := Defaults()
	change(&c)
	p, err := newPlan(&c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What each schema's own words mean: units, zero, negative numbers, inheritance, hosts, flags.
func TestPresets(t *testing.T) {
	const full, none = OverQuota, NoLocal
	for _, c := range []struct {
		schema string
		entry  string // attribute=value, separated by ";"
		want   Entry
	}{
		{"qmail", "mailQuotaSize=1000;mailQuotaCount=10;mailHost=Store1.Example.ORG.;uid=ann", Entry{Limit: 1000, Messages: 10, Host: "store1.example.org", User: "ann"}},
		{"qmail", "mailquotasize=0;mailQuotaCount=0", Entry{Limit: Unlimited, Messages: Unlimited}},
		{"qmail", "deliveryMode=forwardonly;deliveryMode=NoLocal", Entry{Limit: NotKnown, Messages: NotKnown, Flags: none}},
		{"qmail", "mailQuotaSize=none", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"qmail", "mailQuotaSize=10;mailQuotaSize=20", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"qmail", "mailHost=a;mailHost=b", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"iredmail", "mailQuota=104857600;mail=ann@example.org", Entry{Limit: 100 << 20, Messages: NotKnown, User: "ann@example.org"}},
		{"iredmail", "mailQuota=0", Entry{Limit: Unlimited, Messages: NotKnown}},
		{"netscape", "mailQuota=0", Entry{Limit: Unlimited, Messages: NotKnown}},
		{"netscape", "mailQuota=5000", Entry{Limit: 5000, Messages: NotKnown}},
		{"sun", "mailQuota=0", Entry{Limit: NotKnown, Messages: NotKnown, Flags: full}},
		{"sun", "mailQuota=-1;mailMsgQuota=-1", Entry{Limit: Unlimited, Messages: Unlimited}},
		{"sun", "mailQuota=-2;mailMsgQuota=-2", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"sun", "mailQuota=20M;mailMsgQuota=100", Entry{Limit: 20 << 20, Messages: 100}},
		{"sun", "mailQuota=5k", Entry{Limit: 5 << 10, Messages: NotKnown}},
		{"sun", "mailQuota=1G;mailUserStatus=overquota", Entry{Limit: 1 << 30, Messages: NotKnown, Flags: full}},
		{"sun", "mailQuota=1000;mailUserStatus=active", Entry{Limit: 1000, Messages: NotKnown}},
		{"zimbra", "zimbraMailHost=mb1.example.org", Entry{Limit: NotKnown, Messages: NotKnown, Host: "mb1.example.org"}}, // inherited
		{"zimbra", "zimbraMailQuota=0", Entry{Limit: Unlimited, Messages: NotKnown}},
		{"postfix-book", "mailQuota=10240", Entry{Limit: 10 << 20, Messages: NotKnown}},
		{"postfix-book", "mailQuota=500M", Entry{Limit: NotKnown, Messages: NotKnown}}, // Dovecot's spelling, not the schema's
		{"postfix-book", "mailQuota=0", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"univention", "univentionMailUserQuota=200;univentionMailHomeServer=ucs1.example.org", Entry{Limit: 200 << 20, Messages: NotKnown, Host: "ucs1.example.org"}},
		{"kopano", "kopanoQuotaHard=1000;kopanoQuotaOverride=1;uid=ann", Entry{Limit: 1000 << 20, Messages: NotKnown, User: "ann"}},
		{"kopano", "kopanoQuotaHard=1000;kopanoQuotaOverride=0", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"kopano", "kopanoQuotaHard=1000", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"ad", "mDBOverHardQuotaLimit=1048576;mDBUseDefaults=FALSE", Entry{Limit: 1 << 30, Messages: NotKnown}},
		{"ad", "mDBOverHardQuotaLimit=1048576;mDBUseDefaults=TRUE", Entry{Limit: NotKnown, Messages: NotKnown}},
		{"ad", "msExchHomeServerName=/o=Org/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers/cn=EX1", Entry{Limit: NotKnown, Messages: NotKnown, Host: "ex1"}},
		{"ad", "msExchHomeServerName=ex1", Entry{Limit: NotKnown, Messages: NotKnown}},
	} {
		p := planOf(t, func(cfg *Config) { cfg.Schema = c.schema })
		values := map[string][]string{}
		for pair := range strings.SplitSeq(c.entry, ";") {
			name, value, _ := strings.Cut(pair, "=")
			values[name] = append(values[name], value)
		}
		got, _ := p.read(ldap.NewEntry("", values))
		if c.want.Found = 1; got != c.want {
			t.Errorf("%s, %s: %+v, want %+v", c.schema, c.entry, got, c.want)
		}
	}
}

// Every preset can be used as it is, and no name of an attribute is misspelt as another's.
func TestPresetsAreComplete(t *testing.T) {
	for name, pre := range presets() {
		p := planOf(t, func(c *Config) { c.Schema = name })
		if p.limit == "" || pre.unit == "" || pre.zero == "" || len(p.wanted) == 0 {
			t.Errorf("%s: %+v", name, pre)
		}
		if text, ok := p.filter.For(mailbox("ann", "example.org")); !ok || !strings.Contains(text, "ann@example.org") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// For every schema: a positive number is that many units; what is not a number, or too
// large to be one, is not known; no value makes a mailbox full but Sun's zero.
func TestPresetNumbers(t *testing.T) {
	units := map[string]int64{
		"qmail": 1, "iredmail": 1, "sun": 1, "netscape": 1, "zimbra": 1,
		"postfix-book": 1 << 10, "ad": 1 << 10, "univention": 1 << 20, "kopano": 1 << 20,
	}
	zeros := map[string]int64{
		"qmail": Unlimited, "iredmail": Unlimited, "netscape": Unlimited, "zimbra": Unlimited,
		"sun": NotKnown, "postfix-book": NotKnown, "ad": NotKnown, "univention": NotKnown, "kopano": NotKnown,
	}
	if len(units) != len(presets()) || len(zeros) != len(presets()) {
		t.Fatal("a preset has no unit here")
	}
	for name, unit := range units {
		p := planOf(t, func(c *Config) { c.Schema = name })
		read := func(value string) Entry {
			values := map[string][]string{p.limit: {value}}
			if name == "kopano" {
				values[p.inherited.attribute] = []string{"1"}
			}
			e, _ := p.read(ldap.NewEntry("", values))
			return e
		}
		rapid.Check(t, func(t *rapid.T) {
			n := rapid.Int64().Draw(t, "n")
			want, full := int64(NotKnown), false
			switch {
			case n == 0:
				want, full = zeros[name], name == "sun"
			case n < 0 && (name != "sun" || n != -2):
				want = Unlimited
			case n > 0 && n <= math.MaxInt64/unit:
				want = n * unit
			}
			if got := read(strconv.FormatInt(n, 10)); got.Limit != want || (got.Flags&OverQuota != 0) != full {
				t.Errorf("%s, %d: %+v, want %d, full %v", name, n, got, want, full)
			}
			text := rapid.StringMatching(`[0-9]{0,3}[ a-zA-Z.,+_]{1,3}[0-9]{0,2}`).Draw(t, "text")
			if _, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err != nil && name != "sun" {
				if got := read(text); got.Limit != NotKnown || got.Flags != 0 {
					t.Errorf("%s, %q: %+v", name, text, got)
				}
			}
		})
		if got := read("0"); got.Limit != zeros[name] {
			t.Errorf("%s, 0: %+v", name, got)
		}
		if got := read("99999999999999999999"); got.Limit != NotKnown {
			t.Errorf("%s, too large: %+v", name, got)
		}
	}
}

// What a file says goes before the preset.
func TestOverrides(t *testing.T) {
	p := planOf(t, func(c *Config) {
		c.Schema, c.Filter, c.Unit, c.Zero, c.DefaultLimit = "sun", "(uid={local})", "1MiB", "unlimited", "2GiB"
		c.Attributes = AttributesConfig{Limit: "quota", Host: "store"}
	})
	e, odd := p.read(ldap.NewEntry("", map[string][]string{"quota": {"5"}, "mailQuota": {"7"}, "store": {"[2001:DB8::1]"}}))
	if e.Limit != 5<<20 || e.Host != "2001:db8::1" || len(odd) > 0 {
		t.Errorf("%+v, %v", e, odd)
	}
	if e, _ = p.read(ldap.NewEntry("", map[string][]string{"quota": {"0"}})); e.Limit != 2<<30 && e.Limit != Unlimited {
		t.Errorf("zero: %+v", e)
	}
	if e, _ = p.read(ldap.NewEntry("", nil)); e.Limit != 2<<30 {
		t.Errorf("absent: %+v", e)
	}
	if text, _ := p.filter.For(mailbox("ann", "example.org")); text != "(uid=ann)" {
		t.Error(text)
	}
}

// A host or a user that is not one is left out, and said to be odd.
func TestOddNames(t *testing.T) {
	p := planOf(t, func(c *Config) { c.Schema = "qmail" })
	for _, host := range []string{"", " ", "a b", "store:25", "ldap://x", "a..b", "-x", ".x", strings.Repeat("x", 300), "st\x00re", "b\r\nc", "[::1%eth0]", "stör"} {
		if e, odd := p.read(ldap.NewEntry("", map[string][]string{"mailHost": {host}})); e.Host != "" || len(odd) != 1 {
			t.Errorf("host %q: %+v, %v", host, e, odd)
		}
	}
	for _, user := range []string{"", "a b", "a\nb", strings.Repeat("x", 600), "\xff"} {
		if e, odd := p.read(ldap.NewEntry("", map[string][]string{"uid": {user}})); e.User != "" || len(odd) != 1 {
			t.Errorf("user %q: %+v, %v", user, e, odd)
		}
	}
}

// Settings that cannot work are errors that name their key.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		key    string
		change func(c *Config)
	}{
		{"", func(*Config) {}},
		{"", func(c *Config) {
			c.URL = []string{"ldapi:///run/slapd/ldapi", "ldapi://%2Frun%2Fldapi", "ldap://[::1]:1389/"}
		}},
		{"url[1]", func(c *Config) { c.URL = []string{"http://x"} }},
		{"url[1]", func(c *Config) { c.URL = []string{"ldap1.example.org"} }},
		{"url[2]", func(c *Config) { c.URL = []string{"ldap://a", "ldap://a/dc=x?sub"} }},
		{"url[1]", func(c *Config) { c.URL = []string{"ldap://user@a"} }},
		{"url[1]", func(c *Config) { c.URL = []string{"ldap://a:0"} }},
		{"url[1]", func(c *Config) { c.URL = []string{"ldapi://"} }},
		{"base", func(c *Config) { c.Base = "" }},
		{"password_file", func(c *Config) { c.Bind = "cn=x" }},
		{"password_file", func(c *Config) { c.PasswordFile = "/x" }},
		{"ca_file", func(c *Config) { c.CAFile = "x.pem" }},
		{"schema", func(c *Config) { c.Schema = "kolab" }},
		{"filter", func(c *Config) { c.Schema = "" }},
		{"filter", func(c *Config) { c.Filter = "(mail={adress})" }},
		{"filter", func(c *Config) { c.Filter = "(mail={address}" }},
		{"filter", func(c *Config) { c.Filter = "(objectClass=*)" }},
		{"filter", func(c *Config) { c.Filter = "({local}=x)" }},
		{"filter", func(c *Config) { c.Filter = "(cn:{local}:=x)" }},
		{"filter", func(c *Config) { c.Filter = "(mail={domain})" }},
		{"attributes", func(c *Config) { c.Schema, c.Filter = "", "(mail={address})" }},
		{"attributes.limit", func(c *Config) { c.Attributes.Limit = "mail quota" }},
		{"unit", func(c *Config) { c.Unit = "1KB" }},
		{"unit", func(c *Config) { c.Unit = "0B" }},
		{"default_limit", func(c *Config) { c.DefaultLimit = "9999999999TiB" }},
	} {
		cfg := Defaults()
		cfg.URL, cfg.Base, cfg.Schema = []string{"ldaps://a"}, "dc=test", "qmail"
		c.change(&cfg)
		err := cfg.Validate()
		if (err == nil) != (c.key == "") || err != nil && !strings.HasPrefix(err.Error(), c.key+": ") {
			t.Errorf("%+v: %v, want an error about %q", cfg, err, c.key)
		}
	}
}

// Whatever a mailbox is called, the filter has the same shape, and the values are the
// mailbox's own.
func FuzzFilter(f *testing.F) {
	for _, s := range [][2]string{
		{"ann", "example.org"}, {"a*)(uid=*", "x"}, {`a\2a`, "x"}, {"*", "*"}, {"a)(|(b=c", "x"}, {"\x00", "x"}, {"ö", "ü"}, {"{local}", "{domain}"}, {"", ""}, {"a", ""}, {" a ", "b "}, {"(&)", "!"},
	} {
		f.Add(s[0], s[1])
	}
	templates := []string{
		"(|(mail={address})(mailAlternateAddress={address}))", "(&(uid={local})(!(host=*{domain}))(cn:dn:2.5.13.5:={local}))",
		"(mail=smtp:{address})", "(&(mail={local}*{domain})(a>={local})(b<={domain})(c~={local}))", "(mail=*{local}*)",
	}
	var filters []*filter
	for _, text := range templates {
		one, err := newFilter(text)
		if err != nil {
			f.Fatal(err)
		}
		filters = append(filters, one)
	}
	f.Fuzz(func(t *testing.T, local, domain string) {
		for i, one := range filters {
			m := mailbox(local, domain)
			text, ok := one.For(m)
			if !ok {
				continue
			}
			p, err := ldap.CompileFilter(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			plain, _ := one.For(mailbox("l", "d"))
			q, _ := ldap.CompileFilter(plain)
			if a, b := shape(p), shape(q); a != b {
				t.Errorf("%s has the shape %s, want %s", text, a, b)
			}
			want := one.fill(func(name string) string { return "\x01" + part(m, name) })
			if n, _ := count(p, part(m, "local"), false); n == 0 {
				t.Errorf("%d: %q is not a value of %q (%q)", i, local, text, want)
			}
		}
	})
}

// shape is a compiled filter without its values.
func shape(p *ber.Packet) string {
	if len(p.Children) == 0 {
		return fmt.Sprint(p.ClassType, p.TagType, p.Tag)
	}
	var b strings.Builder
	fmt.Fprint(&b, p.ClassType, p.TagType, p.Tag, "(")
	for _, c := range p.Children {
		b.WriteString(shape(c) + " ")
	}
	return b.String() + ")"
}
