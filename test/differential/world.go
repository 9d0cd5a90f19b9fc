// SPDX-License-Identifier: BSD-2-Clause

package differential

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate/test/lab"
)

// MTA is the mail server in front.
type MTA string

// The MTAs.
const (
	Sendmail MTA = "sendmail"
	Postfix  MTA = "postfix"
)

// A World is an MTA with its tables, and the recipients put to it. ann and bob have accounts everywhere.
//
// In Routes, Main, MC and Gate "$behind" is the address of the server behind, "$busy" that of one that answers every
// recipient with 450. In Gate "$table(NAME)" is a table of this MTA as the gate spells it, quoted, and "$etc" the MTA's own
// configuration: Postfix's directory, Sendmail's sendmail.cf.
type World struct {
	// Name says what the world is about.
	Name string
	MTA  MTA
	// Local are the domains whose names are in Aliases, the MTA's own name as well: class w, mydestination; default loc.test.
	Local []string
	// Aliases is the alias database.
	Aliases map[string]string
	// Virtual is virtusertable or virtual_alias_maps.
	Virtual map[string]string
	// VirtualDomains are VIRTUSER_DOMAIN or virtual_alias_domains; default the domains that Virtual names, except those
	// in Local and Routes.
	VirtualDomains []string
	// Routes is mailertable or transport_maps; default rela.test to the server behind. Their domains are relayed.
	Routes map[string]string
	// Access is Sendmail's access map.
	Access map[string]string
	// Maps are further tables of Postfix by their parameter in main.cf, Main further lines of main.cf.
	Maps map[string]map[string]string
	Main map[string]string
	// MC are further lines of sendmail.mc.
	MC string
	// Sections are the domains that have a [[domain]] section with the server behind as backend; default rela.test.
	Sections []string
	// Unlisted leaves out the local domains from the gate's [aliases] domains.
	Unlisted bool
	// Gate are further lines of the gate's [aliases] section; tables may follow.
	Gate string
	// Recipients are put to the MTA one by one, as they stand.
	Recipients []string
}

// ownName is the MTA's own name.
const ownName = "mx.gate.test"

// fill puts the defaults in.
func (w *World) fill() {
	if w.Local == nil {
		w.Local = []string{"loc.test"}
	}
	w.Local = append(slices.Clone(w.Local), ownName)
	if w.Routes == nil {
		w.Routes = map[string]string{"rela.test": "$behind"}
	}
	if w.Sections == nil {
		w.Sections = []string{"rela.test"}
	}
	if w.VirtualDomains == nil {
		w.VirtualDomains = []string{}
		for _, key := range slices.Sorted(maps.Keys(w.Virtual)) {
			_, domain, found := strings.Cut(key, "@")
			_, routed := w.Routes[domain]
			if found && !routed && !slices.Contains(w.Local, domain) && !slices.Contains(w.VirtualDomains, domain) {
				w.VirtualDomains = append(w.VirtualDomains, domain)
			}
		}
	}
}

// accounts is what the MTAs and the gate see as passwd(5): the system's own and two people.
func accounts(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(lab.NewDir(t, "accounts"), "passwd")
	people := "ann:x:65001:65001::/nonexistent:/bin/sh\nbob:x:65002:65002::/nonexistent:/bin/sh\n"
	if err := os.WriteFile(path, append(text, people...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Bench holds what all worlds of a test share: the servers behind and the gate, which starts afresh for each world.
type Bench struct {
	behind *Behind
	tap    *lab.Tap
	busy   *lab.Scripted
	gate   *lab.Gate
	passwd string
}

// NewBench starts the servers behind.
func NewBench(t testing.TB) *Bench {
	t.Helper()
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	behind := StartBehind(t)
	busy := lab.StartScripted(t)
	busy.Set("rcpt", "450 4.2.1 Not now")
	return &Bench{behind: behind, tap: lab.NewTap(t, "tcp", behind.Addr()), busy: busy, gate: lab.NewGate(t), passwd: accounts(t)}
}

// front is a running MTA of a world.
type front struct {
	gated, alone string // addresses of its two ports
	log          func() string
	table        func(name string) string
	etc          string // its own configuration
	reader       logReader
}

// expand replaces the names of servers and tables. Sendmail's mailertable knows no port: the taps listen on port 25.
func (b *Bench) expand(text string, table func(string) string) string {
	text = strings.NewReplacer("$behind", "["+b.tap.Host+"]", "$busy", "["+b.busy.Host+"]").Replace(text)
	for {
		before, rest, found := strings.Cut(text, "$table(")
		if !found {
			return text
		}
		name, after, _ := strings.Cut(rest, ")")
		text = before + fmt.Sprintf("%q", table(name)) + after
	}
}

// routes writes next hops for the MTA: a bare "$behind" goes by its SMTP mailer.
func (b *Bench) routes(w *World) map[string]string {
	mailer := map[MTA]string{Sendmail: "esmtp:", Postfix: "smtp:"}[w.MTA]
	routes := map[string]string{}
	for domain, hop := range w.Routes {
		if strings.HasPrefix(hop, "$") {
			hop = mailer + hop
		}
		routes[domain] = b.expand(hop, nil)
	}
	return routes
}

// start starts the MTA of a world.
func (b *Bench) start(t testing.TB, w *World) *front {
	t.Helper()
	if w.MTA == Sendmail {
		s := lab.StartSendmail(t, lab.SendmailOptions{
			Milter: b.gate.SendmailMilter(), Plain: true, Passwd: b.passwd, Relay: b.routes(w),
			VirtualUsers: w.Virtual, VirtualDomains: w.VirtualDomains, Access: w.Access, Aliases: w.Aliases, LocalDomains: w.Local,
			Extra: "define(`confSAFE_QUEUE', `False')\ndefine(`confDOUBLE_BOUNCE_ADDRESS', `')\n" + b.expand(w.MC, nil),
		})
		table := func(name string) string { return s.Table("hash", name) }
		return &front{gated: s.Addr(), alone: fmt.Sprintf("127.0.0.1:%d", s.Plain), log: s.Log, table: table, reader: sendmailLog{}, etc: filepath.Join(s.Dir, "sendmail.cf")}
	}
	main := map[string]string{
		"mydestination": strings.Join(w.Local, ", "), "virtual_alias_domains": strings.Join(w.VirtualDomains, ", "),
		"local_recipient_maps": "proxy:unix:passwd.byname $alias_maps", "recipient_delimiter": "+", "mailbox_command": "/bin/true",
		"smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "1000", "smtpd_junk_command_limit": "10000", "in_flow_delay": "0",
	}
	for key, value := range w.Main {
		main[key] = b.expand(value, nil)
	}
	relay := b.routes(w)
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Milters: []string{b.gate.PostfixMilter()}, Plain: true, Passwd: b.passwd, Relay: relay, VirtualAliases: w.Virtual,
		Aliases: w.Aliases, Maps: w.Maps, Main: main,
	})
	table := func(name string) string {
		kind := "texthash"
		if name == "aliases" {
			kind = "hash"
		}
		return p.Table(kind, name)
	}
	return &front{gated: p.Addr(), alone: fmt.Sprintf("127.0.0.1:%d", p.Plain), log: p.Log, table: table, reader: postfixLog{}, etc: filepath.Join(p.Dir, "etc")}
}

// config is the gate's configuration for a world: that of a postmaster who names the MTA's own tables.
func (b *Bench) config(w *World, f *front) string {
	var c strings.Builder
	fmt.Fprintf(&c, "enforce = true\n[log]\nformat = \"json\"\n[aliases]\npasswd = %q\n", b.passwd)
	if !w.Unlisted {
		fmt.Fprintf(&c, "domains = [%s]\n", quoted(w.Local))
	}
	if len(w.Aliases) > 0 {
		fmt.Fprintf(&c, "files = [%q]\n", f.table("aliases"))
	}
	if len(w.Virtual) > 0 {
		key := map[MTA][2]string{Sendmail: {"virtusertable", "virtusertable"}, Postfix: {"virtual_alias_maps", "virtual"}}[w.MTA]
		fmt.Fprintf(&c, "%s = [%q]\n", key[0], f.table(key[1]))
	}
	if len(w.Access) > 0 {
		fmt.Fprintf(&c, "access = [%q]\n", f.table("access"))
	}
	if len(w.Maps["relay_recipient_maps"]) > 0 {
		fmt.Fprintf(&c, "relay_recipient_maps = [%q]\nrelay_domains = [%s]\n", f.table("relay_recipient_maps"), quoted(slices.Sorted(maps.Keys(w.Routes))))
	}
	fmt.Fprintf(&c, "%s\n", b.expand(strings.ReplaceAll(w.Gate, "$etc", f.etc), f.table))
	for _, domain := range w.Sections {
		fmt.Fprintf(&c, "[[domain]]\nname = %q\nbackend = [\"smtp:%s\"]\n", domain, b.tap.Hop())
	}
	return c.String()
}

func quoted(list []string) string {
	var words []string
	for _, word := range list {
		words = append(words, fmt.Sprintf("%q", word))
	}
	return strings.Join(words, ", ")
}
