// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// writer makes an alias database as an MTA does.
type writer struct {
	name  string
	start func(t *testing.T) (spec string, write func(text string))
}

var writers = []writer{
	{"newaliases", func(t *testing.T) (string, func(string)) {
		s := lab.StartSendmail(t, lab.SendmailOptions{LocalDomains: []string{"loc.test"}})
		return s.Table("hash", "aliases"), s.Newaliases
	}},
	{"postalias", func(t *testing.T) (string, func(string)) {
		p := lab.StartPostfix(t, lab.PostfixOptions{Name: "aliases"})
		return p.Table("hash", "aliases"), p.Postalias
	}},
}

// published is the story of a gateway that has an alias database and one that has not.
type published struct {
	*testing.T
	have, lack *lab.Gate
	file       string
	write      func(text string)
}

// get is what memcached holds of a name, as the gateway without the file finds it: absent when it says that there is
// nothing, "" when it could not be asked.
func (p *published) get(name string) string {
	out, _, code := p.lack.Command("table", "get", "memcached:", name)
	if code == 67 {
		return absent
	}
	return strings.TrimSpace(out)
}

const absent = "absent"

func (p *published) until(name, value string) {
	p.Helper()
	// What could not be written within 40 ms, three times, is written again two and a half minutes later.
	within(p, 4*time.Minute, fmt.Sprintf("%q is published as %q", name, value), func() bool { return p.get(name) == value })
}

// TestPublishedNames has one gateway publish what newaliases or postalias wrote, and another follow it.
func TestPublishedNames(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit, lab.MemcachedKit)
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	_, tap := behind(t)
	for i, w := range writers {
		t.Run(w.name, func(t *testing.T) {
			spec, write := w.start(t)
			write("one: good@pf.test\nrefused: nobody@pf.test\nlist: |/bin/true\nindirect: one\nlater: good@pf.test\n")
			key := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			config := func(aliases string) string {
				return fmt.Sprintf("[cache]\nmemcached = [%q, %q]\nmemcached_prefix = \"w%d\"\nmemcached_key_file = %q\n[aliases]\ndomains = [\"loc.test\"]\n%s\n%s",
					servers[0].Socket(), servers[1].Socket(), i, key, aliases, section("pf.test", "smtp:"+tap.Hop()))
			}
			p := &published{T: t, file: strings.TrimPrefix(spec, "hash:") + ".db", write: write}
			p.have = lab.StartGate(t, config(fmt.Sprintf("files = [%q]\npublish = true", spec)))
			p.lack = lab.StartGate(t, config(`files = ["memcached:"]`))
			p.follow()
			p.change()
			p.damage()
			if i == 0 {
				p.lose(servers)
			}
		})
	}
}

func (p *published) follow() {
	p.until("one", "good@pf.test")
	p.until("list", "taken (its targets are not shared)")
	p.until("refused", "nobody@pf.test")
	p.until("indirect", "one")
	p.until("@", absent)
	s := open(p, cases.Bare(p.lack, nil))
	defer s.Close()
	expect(p, s, "one@loc.test", 250, "")
	expect(p, s, "One+news@loc.test", 250, "")
	expect(p, s, "indirect@loc.test", 250, "")
	expect(p, s, "list@loc.test", 250, "")
	expect(p, s, "absent@loc.test", 250, "") // proves nothing
	testkit.Eventually(p, "a name whose target is refused is found", func() bool { return s.Rcpt("refused@loc.test").Code == 550 })
	has := open(p, cases.Bare(p.have, nil))
	defer has.Close()
	expect(p, has, "absent@loc.test", 550, "5.1.1")
	testkit.Eventually(p, "check says where the name is from", func() bool {
		return strings.Contains(p.lack.MustCommand(0, "check", "one@loc.test"), `one is in memcached:, key "one": good@pf.test`)
	})
}

// change adds a name, removes one, and gives one another target.
func (p *published) change() {
	p.write("one: good@pf.test\nrefused: nobody@pf.test\nlist: |/bin/true\nindirect: one\nlater: other@pf.test\nnew: good@pf.test\n")
	p.until("new", "good@pf.test")
	p.until("later", "other@pf.test")
	s := open(p, cases.Bare(p.lack, nil))
	defer s.Close()
	expect(p, s, "new@loc.test", 250, "")
	expect(p, s, "later@loc.test", 250, "")
	p.write("one: good@pf.test\nnew: good@pf.test\nlater: other@pf.test\n")
	for _, gone := range []string{"refused", "list", "indirect"} {
		p.until(gone, absent)
	}
	testkit.Eventually(p, "status counts what was removed", func() bool {
		status := p.have.MustCommand(0, "status", "--json", "names")
		return strings.Contains(status, "Alias names for other gateways") && strings.Contains(status, `"removed":3,`)
	})
}

// damage makes the database unreadable: what was published stays.
func (p *published) damage() {
	whole, err := os.ReadFile(p.file)
	if err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(p.file, []byte("no database"), 0o600); err != nil {
		p.Fatal(err)
	}
	if !p.have.Logged("table not read") {
		p.Error("the damage was not seen")
	}
	time.Sleep(time.Second) // what would be taken out would be so at once
	if p.get("one") == absent || p.get("new") == absent {
		p.Error("names were taken out because the database could not be read")
	}
	if err := os.WriteFile(p.file, whole, 0o600); err != nil {
		p.Fatal(err)
	}
}

// lose empties and stops servers: mail goes on, and the names come back.
func (p *published) lose(servers []*lab.Memcached) {
	for _, s := range servers {
		s.Restart()
	}
	p.until("one", "good@pf.test")
	p.until("later", "other@pf.test")
	for _, s := range servers {
		s.Stop()
	}
	s := open(p, cases.Bare(p.lack, nil))
	defer s.Close()
	for i := range 20 {
		expect(p, s, fmt.Sprintf("unheard%d@loc.test", i), 250, "")
	}
	expect(p, s, "one@loc.test", 250, "")
	for _, s := range servers {
		s.Cont()
	}
	p.until("one", "good@pf.test")
	if metrics := p.have.MustCommand(0, "status", "--json", "names"); !strings.Contains(metrics, `"published"`) {
		p.Errorf("status --json names: %s", metrics)
	}
}
