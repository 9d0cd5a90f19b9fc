// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/table"
)

// TestPlaces: how a place is written, whether its domains are local, and how it is undone.
func TestPlaces(t *testing.T) {
	const file, table = "/etc/x.cf", "/etc/mail/local-host-names"
	for _, tt := range []struct {
		p       Place
		text    string
		local   bool
		removal string
		other   string
	}{
		{Place{"example.com", "mydestination", file, 3}, `/etc/x.cf:3 "example.com" (mydestination)`, true, "Postfix: take example.com out of mydestination (/etc/x.cf, line 3), then postfix reload", "transport_maps: example.com smtp:[MX]"},
		{Place{"example.com", "mydestination", file, 0}, `/etc/x.cf "example.com" (mydestination)`, true, "Postfix: take example.com out of mydestination (/etc/x.cf), run postmap, then postfix reload", "transport_maps"},
		{Place{"example.com", "relay_domains", file, 1}, `/etc/x.cf:1 "example.com" (relay_domains)`, false, "(/etc/x.cf, line 1)", "transport_maps"},
		{Place{"example.com", "class R", file, 1}, `/etc/x.cf:1 "example.com" (class R)`, false, "VIRTUSER_DOMAIN", "bestmx"},
		{Place{"example.com", "class w", file, 2}, `/etc/x.cf:2 "example.com" (class w)`, true, "Sendmail: take example.com out of class w (/etc/x.cf, line 2, or LOCAL_DOMAIN in the .mc file)", "bestmx"},
		{Place{"example.com", "class w", table, 2}, `/etc/mail/local-host-names:2 "example.com" (class w)`, true, "Sendmail: remove line 2 of /etc/mail/local-host-names and restart", "bestmx"},
		{Place{"example.com", "dc_other_hostnames", file, 2}, `/etc/x.cf:2 "example.com" (dc_other_hostnames)`, true, "update-exim4.conf", "dnslookup"},
		{Place{"example.com", "local_domains", file, 2}, `/etc/x.cf:2 "example.com" (local_domains)`, true, "then restart Exim", "dnslookup"},
	} {
		if tt.p.String() != tt.text || tt.p.local() != tt.local || !strings.Contains(removal(tt.p, "example.com"), tt.removal) || !strings.Contains(otherWay(tt.p, "example.com"), tt.other) {
			t.Errorf("%s, local %v\n%s\n%s", tt.p, tt.p.local(), removal(tt.p, "example.com"), otherWay(tt.p, "example.com"))
		}
	}
}

// TestBrokenTables: what makes a table that is not there, and each thing once.
func TestBrokenTables(t *testing.T) {
	absent := fmt.Errorf("open: %w", fs.ErrNotExist)
	for _, tt := range []struct {
		mta, setting, spec string
		err                error
		want               string
	}{
		{"Postfix", "transport_maps", "hash:/etc/x", errors.New("permission denied"), "let the MTA and the user of doctor read /etc/x.db"},
		{"Postfix", "transport_maps", "texthash:/etc/x", absent, "create /etc/x, or take it out of main.cf:1"},
		{"Postfix", "alias_maps", "hash:/etc/aliases", absent, "run newaliases, or take hash:/etc/aliases out of main.cf:1"},
		{"Sendmail", "AliasFile", "hash:/etc/aliases", absent, "run newaliases"},
		{"Postfix", "transport_maps", "hash:/etc/x", absent, "run postmap hash:/etc/x, or take it out of main.cf:1"},
		{"Sendmail", "mailertable", "hash:/etc/x", absent, "run makemap hash /etc/x < /etc/x, or"},
	} {
		spec, err := table.ParseSpec(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		m := &MTA{Name: tt.mta}
		if m.brokenTable(tt.setting, spec, tt.err, "main.cf:1"); len(m.Bad) != 1 || !strings.Contains(m.Bad[0].Do, tt.want) || m.Bad[0].What != tt.setting+": "+tt.err.Error() {
			t.Errorf("%+v, want %q", m.Bad, tt.want)
		}
	}
	m := &MTA{}
	for _, b := range []Broken{
		{"a: gone", "main.cf:1", "create"}, {"b: missing", "main.cf:1", "create"}, {"b: gone", "main.cf:2", "create"}, // as the first one
		{"b: other", "main.cf:1", "remove"}, {"c: third", "main.cf:2", "create"},
	} {
		m.bad(b)
	}
	if fmt.Sprint(m.Bad) != "[{a: gone main.cf:1 create} {b: other main.cf:1 remove} {c: third main.cf:2 create}]" {
		t.Errorf("%v", m.Bad)
	}
}

// TestDomainsOfAnMTA: which domains it has, and which it sends to others.
func TestDomainsOfAnMTA(t *testing.T) {
	dir := t.TempDir()
	list, keys := filepath.Join(dir, "list"), filepath.Join(dir, "keys")
	for path, text := range map[string]string{list: "# ours\nListed.example x # y\n\n", keys: "Key.example OK\nann@key.example OK\npostmaster OK\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := &MTA{Name: "Postfix"}
	for _, word := range []string{"Plain.example", "!not.example", ".below.example", list, "texthash:" + keys, "texthash:" + keys + ".absent", list + ".absent", "nonsense:/x"} {
		m.word(t.Context(), "mydestination", word, "main.cf", 3)
	}
	if got := fmt.Sprint(m.Places); got != fmt.Sprintf("[main.cf:3 %q (mydestination) main.cf:3 %q (mydestination) %s:2 %q (mydestination) %s %q (mydestination)]",
		"plain.example", ".below.example", list, "listed.example", keys, "key.example") {
		t.Error(got)
	}
	if len(m.Bad) != 2 || m.Bad[0].Where != "main.cf:3" || m.Bad[1].Where != "main.cf:3" || !strings.Contains(m.Bad[1].Do, "create "+list+".absent") {
		t.Errorf("%+v", m.Bad)
	}
	for domain, want := range map[string]int{"plain.example": 1, "x.below.example": 1, "below.example": 0, "xbelow.example": 0, "sub.plain.example": 0} {
		if got := m.find(domain); len(got) != want {
			t.Errorf("%s: %v", domain, got)
		}
	}
	m.sendsElsewhere("own.example")
	m.sendsElsewhere(".wide.example")
	for domain, want := range map[string]bool{"own.example": true, "a.own.example": false, "wide.example": false, "a.wide.example": true, "a.b.wide.example": true, "a.b.c.wide.example": true, "xwide.example": false, "example": false, "": false} {
		if got := m.elsewhere(domain); got != want {
			t.Errorf("%s is sent elsewhere: %v", domain, got)
		}
	}
	m.Places = make([]Place, maxPlaces-1)
	for range 3 {
		m.add(Place{})
	}
	if len(m.Places) != maxPlaces {
		t.Errorf("%d places", len(m.Places))
	}
}

// TestLines: a line that is too long is passed over, and counts.
func TestLines(t *testing.T) {
	var got []string
	err := lines(strings.NewReader("one\r\n"+strings.Repeat("x", 200_000)+"\nthree"), func(n int, line string) { got = append(got, fmt.Sprint(n, line)) })
	if err != nil || strings.Join(got, "|") != "1one|3three" {
		t.Errorf("%q, %v", got, err)
	}
	broken := errors.New("broken")
	if err := lines(failing{broken}, func(int, string) {}); !errors.Is(err, broken) {
		t.Errorf("an error of reading: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestSeconds(t *testing.T) {
	for in, want := range map[string]int{"30": 30, "30s": 30, "5m": 300, "5 m": 300, "1h": 3600, "09": 9, "": 7, "s": 7, "x1": 7} {
		if got := seconds(in, 7); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
	if got := seconds(strings.Repeat("9", 100)+"h", 7); got <= 0 {
		t.Errorf("a number of 100 digits: %d", got)
	}
}

// TestReadMTAs: the files that are named are read; one that is not there is an error.
func TestReadMTAs(t *testing.T) {
	dir := t.TempDir()
	f := flags{postfix: filepath.Join(dir, "main.cf"), sendmail: filepath.Join(dir, "sendmail.cf"), exim: filepath.Join(dir, "exim.conf")}
	for path, text := range map[string]string{f.postfix: "mydestination = one.example\n", f.sendmail: strings.Replace(sendmailCf, "FwDIR/local-host-names", "Cwtwo.example", 1), f.exim: "domainlist local_domains = three.example\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := Doctor{Hostname: "mx1.example.org"}
	if err := f.readMTAs(context.Background(), &d); err != nil || fmt.Sprint(d.all()) != "[one.example two.example three.example]" {
		t.Errorf("%v, %v", d.all(), err)
	}
	for _, change := range []func(*flags){func(f *flags) { f.postfix += "x" }, func(f *flags) { f.sendmail += "x" }, func(f *flags) { f.exim += "x" }} {
		f := f
		if change(&f); f.readMTAs(context.Background(), new(Doctor)) == nil {
			t.Errorf("%+v: no error", f)
		}
	}
}
