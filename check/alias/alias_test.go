// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/route"
	"rcptgate/table"
)

// tables are what a test's files hold: "spelling" to lines "key value".
type tables map[string]string

type fake map[string]string

var errUnread = errors.New("the table could not be read yet")

func (f fake) Lookup(_ context.Context, key string) (string, bool, error) {
	if f == nil {
		return "", false, errUnread
	}
	v, ok := f[key]
	return v, ok, nil
}

func (ts tables) open(_ Use, spec table.Spec) (table.Table, error) {
	text, ok := ts[spec.String()]
	if !ok {
		return fake(nil), nil
	}
	f := fake{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		f[key] = value
	}
	return f, nil
}

// newCheck makes a check over in.test and pf.test, which have backends, and
// left.test, which is not checked.
func newCheck(t testing.TB, cfg Config, ts tables) *Check {
	t.Helper()
	return newCheckWith(t, cfg, ts, nil)
}

func newCheckWith(t testing.TB, cfg Config, ts tables, published Published) *Check {
	t.Helper()
	set := backend.NewSet(backend.DefaultConfig(), "mx.gate.test", nil)
	t.Cleanup(set.Close)
	no := false
	router, err := route.New(route.Options{
		FollowMTA: true, Enforce: true, Hostname: "mx.gate.test", Set: set, Servers: []string{"127.0.0.1:1"},
		Domains: []route.DomainConfig{
			{Name: "in.test", Backend: []string{"smtp:[127.0.0.1]:1"}},
			{Name: "pf.test", Backend: []string{"smtp:[127.0.0.1]:2"}},
			{Name: "left.test", Check: &no},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(router.Close)
	c, err := New(Options{Config: cfg, Router: router, Open: ts.open, Published: published})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func specs(t testing.TB, texts ...string) (list []table.Spec) {
	t.Helper()
	for _, s := range texts {
		spec, err := table.ParseSpec(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, spec)
	}
	return list
}

func files(t testing.TB, texts ...string) (list []File) {
	t.Helper()
	for _, s := range texts {
		var f File
		if err := f.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

// ask gives what the check says in short: "taken", "continue", "550 5.1.1", "error",
// "exists", or the targets, with "=" before those that exist.
func ask(t testing.TB, c *Check, rcpt string, hop rcptgate.NextHop) (string, *rcptgate.Query) {
	t.Helper()
	q := &rcptgate.Query{Recipient: address.Parse(rcpt), NextHop: hop, Trace: rcptgate.Trace{Explain: true}}
	q.Target = address.Target(q.Recipient, hop.Addr)
	steps := &rcptgate.Chain{Steps: []rcptgate.Step{{Name: "aliases", Check: c}}}
	// A chain with this step alone would follow the targets into nothing: the check is
	// asked itself, then the chain for the notes.
	v, err := c.Check(context.Background(), q)
	var targets []rcptgate.Mailbox
	known := 0
	if f := v.Follow; f != nil {
		targets, known = append(slices.Clone(f.Known), f.Others...), len(f.Known)
	}
	isKnown := q.Known
	_, _ = steps.Check(context.Background(), q)
	switch {
	case err != nil:
		return "error", q
	case v.Action == rcptgate.Accept:
		return "taken", q
	case v.Action.Refuses():
		return strings.TrimSpace(fmt.Sprintf("%d %s", v.Code, v.Enhanced)), q
	case len(targets) == 0 && isKnown:
		return "exists", q
	case len(targets) == 0:
		return "continue", q
	}
	var names []string
	for i, m := range targets {
		if i < known {
			m.Path = "=" + m.Path
		}
		names = append(names, m.Path)
	}
	return strings.Join(names, " "), q
}

var local = rcptgate.NextHop{Mailer: "local"}

// standardTables is a check over one alias database with every kind of target.
func standardTables(t *testing.T) *Check {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := write("list", "# the staff\nann@in.test\nbob@in.test, carl\n")
	away := write("away", "ann@in.test, dora@pf.test\n")
	none := write("none", "# nobody\n")
	many := strings.TrimSuffix(strings.Repeat("x@in.test, y", 1), ", y")
	for i := range 17 {
		many += fmt.Sprintf(", u%d@in.test", i)
	}
	cfg := DefaultConfig()
	cfg.Files = files(t, "hash:/etc/mail/aliases", "hash:/etc/more")
	cfg.Domains = []string{"Example.ORG", "in.test", "/etc/mail/local-host-names"}
	return newCheck(t, cfg, tables{
		"text:/etc/mail/local-host-names": "host.example.org\nalso.test\n",
		"text:/etc/passwd":                "root\ncarl\n",
		"hash:/etc/more":                  "second ann@in.test\nsales nobody@example.org\n",
		"hash:/etc/mail/aliases": strings.Join([]string{
			"sales ann@in.test", "staff ann@in.test, bob@pf.test", "root carl", "chain sales2", "sales2 sales3", "sales3 ann@in.test",
			"prog \"|/bin/vacation ann\"", "file /var/mail/archive", "back \\carl", "self self", "eva eva, bob@in.test", "mixed dead@example.org, ann@in.test",
			"dead gone@example.org", "deader gone@example.org, lost@example.org", "deadly dead", "far someone@elsewhere.example", "farther ann@in.test, someone@elsewhere.example",
			"incl :include:" + list, "away :include:" + away, "empty :include:" + none, "lost :include:/no/such/file", "dir :include:" + dir,
			"loop1 loop2", "loop2 loop1", "many " + many, "twice ann@in.test, ANN@IN.test, staff", "plus+* ann@in.test", "plus bob@in.test", "plus+vip carl@in.test",
			"unchecked x@left.test", "broken \"no end", "postmaster dead", "Upper ann@in.test", "user@host.example ann@in.test", "inlocal ann@in.test", "user gone@example.org, root", "listed gone@also.test",
		}, "\n"),
	})
}

func TestAliases(t *testing.T) {
	c := standardTables(t)
	for _, tc := range []struct {
		rcpt, want string
		hop        rcptgate.NextHop
	}{
		{rcpt: "sales@example.org", want: "ann@in.test"},
		{rcpt: "SALES@EXAMPLE.org", want: "ann@in.test"},
		{rcpt: `"sales"@example.org.`, want: "ann@in.test"},
		{rcpt: "second@example.org", want: "ann@in.test"},
		{rcpt: "sales@host.example.org", want: "ann@in.test"},
		{rcpt: "sales", want: "ann@in.test"},
		{rcpt: "sales@other.example", want: "continue"},
		{rcpt: "sales@other.example", hop: local, want: "ann@in.test"},
		{rcpt: "staff@example.org", want: "ann@in.test bob@pf.test"},
		{rcpt: "twice@example.org", want: "ann@in.test bob@pf.test"},
		{rcpt: "chain@example.org", want: "ann@in.test"},
		{rcpt: "upper@example.org", want: "550 5.1.1"}, // a key that makemap -f kept, another spelling
		{rcpt: "Upper@example.org", want: "ann@in.test"},
		// Taken here.
		{rcpt: "root@example.org", want: "=carl"},
		{rcpt: "prog@example.org", want: "taken"},
		{rcpt: "file@example.org", want: "taken"},
		{rcpt: "back@example.org", want: "=carl"},
		{rcpt: "self@example.org", want: "=self"},
		{rcpt: "eva@example.org", want: "=eva bob@in.test"},
		{rcpt: "far@example.org", want: "taken"},
		{rcpt: "farther@example.org", want: "taken"},
		{rcpt: "unchecked@example.org", want: "taken"},
		{rcpt: "broken@example.org", want: "taken"},
		{rcpt: "listed@example.org", want: "taken"},
		{rcpt: "loop1@example.org", want: "taken"},
		{rcpt: "many@example.org", want: "taken"},
		{rcpt: "user@example.org", want: "=carl"},
		// Includes.
		{rcpt: "incl@example.org", want: "=carl ann@in.test bob@in.test"},
		{rcpt: "away@example.org", want: "ann@in.test dora@pf.test"},
		{rcpt: "empty@example.org", want: "taken"},
		{rcpt: "lost@example.org", want: "taken"},
		{rcpt: "dir@example.org", want: "taken"},
		// Refused.
		{rcpt: "nobody@example.org", want: "550 5.1.1"},
		{rcpt: "dead@example.org", want: "550 5.1.1"},
		{rcpt: "deader@example.org", want: "taken"}, // lost is an include that cannot be read
		{rcpt: "deadly@example.org", want: "550 5.1.1"},
		{rcpt: "mixed@example.org", want: "ann@in.test"},
		// Not refused.
		{rcpt: "nobody@host.example.org", want: "continue"},
		{rcpt: "nobody@also.test", hop: local, want: "continue"},
		{rcpt: "nobody@in.test", want: "continue"}, // a route
		{rcpt: "inlocal@in.test", want: "ann@in.test"},
		{rcpt: "nobody@example.org", hop: rcptgate.NextHop{Mailer: "smtp", Host: "[192.0.2.1]"}, want: "continue"},
		{rcpt: "carl@example.org", want: "continue"},
		{rcpt: "carl@example.org", hop: local, want: "exists"},
		{rcpt: "carl+x@example.org", hop: local, want: "exists"},
		{rcpt: "carl@also.test", hop: local, want: "exists"},
		{rcpt: "carl@in.test", hop: local, want: "exists"}, // and no server is asked
		{rcpt: "carl@in.test", hop: rcptgate.NextHop{Mailer: "smtp"}, want: "continue"},
		{rcpt: "carl@other.example", hop: local, want: "exists"},
		{rcpt: "carl@example.org", hop: rcptgate.NextHop{Mailer: "virtual", Host: "example.org"}, want: "550 5.1.1"},
		{rcpt: "postmaster@example.org", want: "taken"}, // though its target is dead
		{rcpt: "Abuse@example.org", want: "continue"},
		{rcpt: "nobody", want: "continue"},
		// Details.
		{rcpt: "plus+vip@example.org", want: "=carl@in.test"},
		{rcpt: "plus+news@example.org", want: "ann@in.test"},
		{rcpt: "plus@example.org", want: "bob@in.test"},
		{rcpt: "sales+news@example.org", want: "ann@in.test"},
		{rcpt: "nobody+news@example.org", want: "550 5.1.1"},
		{rcpt: "+news@example.org", want: "550 5.1.1"},
	} {
		t.Run(tc.rcpt+" "+tc.hop.Mailer, func(t *testing.T) {
			if got, q := ask(t, c, tc.rcpt, tc.hop); got != tc.want {
				t.Errorf("%s, want %s; notes %q", got, tc.want, q.Trace.Steps[0].Notes)
			}
		})
	}
}

func TestUnreadTables(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/gone"), []string{"example.org"}
	c := newCheck(t, cfg, tables{})
	for rcpt, want := range map[string]string{"x@example.org": "error", "postmaster@example.org": "error", "x@other.test": "continue", "x": "error"} {
		if got, _ := ask(t, c, rcpt, rcptgate.NextHop{}); got != want {
			t.Errorf("%s: %s, want %s", rcpt, got, want)
		}
	}
	cfg.Files = nil
	if got, _ := ask(t, newCheck(t, cfg, tables{}), "x@example.org", local); got != "error" {
		t.Errorf("without passwd: %s", got)
	}
	cfg.Domains = []string{"/gone"}
	if got, _ := ask(t, newCheck(t, cfg, tables{}), "x@example.org", rcptgate.NextHop{}); got != "error" {
		t.Errorf("without the class file: %s", got)
	}
	cfg = DefaultConfig()
	cfg.VirtualAliasMaps = specs(t, "hash:/gone")
	if got, _ := ask(t, newCheck(t, cfg, tables{}), "x@example.org", rcptgate.NextHop{}); got != "error" {
		t.Errorf("without virtual aliases: %s", got)
	}
}

func TestSplit(t *testing.T) {
	for _, tc := range []struct{ delimiter, local, want string }{
		{"+", "ann+news", "ann|+|news"},
		{"+", "ann+a+b", "ann|+|a+b"},
		{"+", "ann+", "ann|+|"},
		{"+", "+x", "+x||"},
		{"+", "ann-x", "ann-x||"},
		{"", "ann+news", "ann+news||"},
		{"+-", "ann-a+b", "ann|-|a+b"},
		{"-", "owner-list", "owner-list||"},
		{"-", "list-request", "list-request||"},
		{"-", "mailer-daemon", "mailer-daemon||"},
		{"-", "owner-", "owner|-|"},
		{"+", "", "||"},
	} {
		user, sep, detail := (&Check{delimiter: tc.delimiter}).split(tc.local)
		if got := user + "|" + sep + "|" + detail; got != tc.want {
			t.Errorf("%q, %q: %s, want %s", tc.delimiter, tc.local, got, tc.want)
		}
	}
}

func TestNotes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/etc/mail/aliases"), []string{"example.org"}
	c := newCheck(t, cfg, tables{"hash:/etc/mail/aliases": "sales ann@in.test, gone@example.org", "text:/etc/passwd": ""})
	_, q := ask(t, c, "sales@example.org", rcptgate.NextHop{})
	want := `tables: sales is in hash:/etc/mail/aliases, key "sales": ann@in.test, gone@example.org|tables: target ann@in.test: the following steps decide|tables: gone@example.org: no table holds it`
	if got := strings.Join(q.Trace.Steps[0].Notes[:3], "|"); got != want {
		t.Errorf("notes %s\nwant  %s", got, want)
	}
}

// TestBounds holds that no table makes the walk long.
func TestBounds(t *testing.T) {
	var deep, wide, tree []string
	for i := range 40 {
		deep = append(deep, fmt.Sprintf("deep%d deep%d", i, i+1))
	}
	for i := range 12 {
		tree = append(tree, fmt.Sprintf("tree%d tree%d, tree%d, gone%d@example.org", i, i+1, i+1, i))
	}
	wide = append(wide, "wide w0")
	for i := range 1000 {
		wide[0] += fmt.Sprintf(", w%d", i)
		wide = append(wide, fmt.Sprintf("w%d gone@example.org", i))
	}
	for i := range 100 { // all of the same
		tree = append(tree, fmt.Sprintf("same%d gone@example.org%s", i, strings.Repeat(fmt.Sprintf(", same%d", i+1), 1000)))
	}
	tree = append(tree, "same100 gone@example.org", "deep40 gone@example.org")
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/a"), []string{"example.org"}
	c := newCheck(t, cfg, tables{"hash:/a": strings.Join(append(append(deep, wide...), tree...), "\n") + "\ntree12 gone@example.org", "text:/etc/passwd": ""})
	for rcpt, want := range map[string]string{"deep0@example.org": "taken", "deep30@example.org": "550 5.1.1", "wide@example.org": "taken", "tree0@example.org": "550 5.1.1", "same90@example.org": "taken", "same99@example.org": "550 5.1.1"} {
		if got, _ := ask(t, c, rcpt, rcptgate.NextHop{}); got != want {
			t.Errorf("%s: %s, want %s", rcpt, got, want)
		}
	}
}

func TestForeignNamesCostNothing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/a"), []string{"example.org"}
	c := newCheck(t, cfg, tables{"hash:/a": "", "text:/etc/passwd": ""})
	q := &rcptgate.Query{Target: address.Parse("ann@elsewhere.example")}
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Check(context.Background(), q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLocalNameOfTheMTA(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(t, "hash:/a"), []string{"virt.test"}
	c := newCheck(t, cfg, tables{"hash:/a": "info wrong@in.test\nann right@in.test", "text:/etc/passwd": "carl"})
	if got, _ := ask(t, c, "info@virt.test", rcptgate.NextHop{Mailer: "local", Addr: "ann"}); got != "right@in.test" {
		t.Error(got)
	}
	if got, _ := ask(t, c, "info@virt.test", rcptgate.NextHop{Mailer: "local", Addr: "eve"}); got != "taken" {
		t.Error(got)
	}
	if got, _ := ask(t, c, "info@virt.test", rcptgate.NextHop{Mailer: "local", Addr: "carl"}); got != "exists" {
		t.Error(got)
	}
}

func BenchmarkAlias(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Files, cfg.Domains = files(b, "hash:/a"), []string{"example.org"}
	c := newCheck(b, cfg, tables{"hash:/a": "sales ann@in.test", "text:/etc/passwd": ""})
	q := &rcptgate.Query{Target: address.Parse("sales@example.org")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Check(context.Background(), q); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzCheck follows recipients through tables of any content: it ends, and says
// something that makes sense.
func FuzzCheck(f *testing.F) {
	f.Add("a b, c@in.test\nb :include:/nowhere\n@x.test %1@in.test\nu@x.test error:nouser 550 5.1.1 no", "a+b@example.org")
	f.Add("a a\nb a,b\n@in.test @x.test\n@x.test @in.test", "u@x.test")
	f.Add("x@y.test \"q\"@in.test, \\\\z, |/p, /f\n+*@y.test %3%2%1%0%%%", "\"x\"@y.test")
	f.Fuzz(func(t *testing.T, text, rcpt string) {
		cfg := DefaultConfig()
		cfg.Files, cfg.VirtUserTable, cfg.VirtualAliasMaps = files(t, "hash:/t"), specs(t, "hash:/t"), specs(t, "hash:/t")
		cfg.Domains = []string{"example.org", "in.test"}
		text = strings.ReplaceAll(text, ":include:/", ":include:/no/such/") // no file of this machine
		c := newCheck(t, cfg, tables{"hash:/t": text, "text:/etc/passwd": "root"})
		q := &rcptgate.Query{Recipient: address.Parse(rcpt), Trace: rcptgate.Trace{Explain: true}}
		q.Target = q.Recipient
		v, err := c.Check(context.Background(), q)
		var targets []rcptgate.Mailbox
		if f := v.Follow; f != nil {
			targets = append(slices.Clone(f.Known), f.Others...)
		}
		switch {
		case err != nil:
			t.Errorf("error = %v", err)
		case len(targets) > rcptgate.MaxTargets+1:
			t.Errorf("%d targets", len(targets))
		case v.Action.Refuses() && (v.Code < 400 || v.Code > 599 || v.Enhanced == "" || v.Enhanced[0] != byte('0'+v.Code/100) || v.Text != rcptgate.CleanText(v.Text)):
			t.Errorf("verdict %+v", v)
		case v.Action.Refuses() && len(targets) > 0:
			t.Error("refused and followed")
		}
	})
}
