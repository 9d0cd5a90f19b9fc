// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/check/trusted"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
	"rcptgate/unit/checktest"
	"rcptgate/view"
)

func TestSuite(t *testing.T) {
	checktest.Run(t, checktest.Suite{Unit: Unit(), Config: "[[blocklist]]\nname = \"virus\"\n"})
}

// world is a gate with lists.
type world struct {
	t     testing.TB
	host  *unit.Host
	setup *unit.Setup
}

func newWorld(t testing.TB, text string) *world {
	t.Helper()
	w, err := tryWorld(t, testkit.Dir(t), text)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// tryWorld is newWorld with a state directory; the error is that of the configuration.
func tryWorld(t testing.TB, state, text string) (*world, error) {
	t.Helper()
	w := &world{t: t}
	units := []unit.Unit{Unit(), trusted.Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", "state = \""+state+"\"\nhostname = \"mx.example.org\"\ntrusted = [\"203.0.113.0/24\"]\nenforce = true\n"+text)
	if err != nil {
		return nil, err
	}
	if w.host, err = unit.Open(t.Context(), units, c, unit.Options{Offline: true, Hook: func(s *unit.Setup) { w.setup = s }}); err != nil {
		return nil, err
	}
	t.Cleanup(w.host.Stop)
	return w, nil
}

func (w *world) list(name string) rcptgate.Blocklist { return w.setup.Blocklists[name] }

func (w *world) ask(client, recipient string) rcptgate.Verdict {
	m := address.Parse(recipient)
	return w.host.Gate.Ask(w.t.Context(), &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(client), Recipient: m, Target: m})
}

func (w *world) add(list, client string) {
	w.t.Helper()
	if err := w.list(list).Add(netip.MustParseAddr(client), "Eicar-Test", "4Q1", 0); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) listed(list, client string) bool {
	_, ok := w.list(list).Listed(netip.MustParseAddr(client))
	return ok
}

// message has a client's message come to its end, as the front and the scanner do.
func (w *world) message(client, virus string, change ...func(*rcptgate.Query)) {
	m := rcptgate.NewMessage(0)
	m.Virus, m.Scanned = virus, true
	q := &rcptgate.Query{Stage: rcptgate.StageMessage, Client: netip.MustParseAddr(client), QueueID: "4Q1", Message: m}
	for _, f := range change {
		f(q)
	}
	w.host.Gate.Ask(w.t.Context(), q)
}

// do runs a command of the daemon.
func (w *world) do(op string, args ...string) ([]view.Table, error) {
	return w.host.Live("blocklist").Do(w.t.Context(), op, args)
}

func TestAListedClientIsRefusedForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\ntext = \"Blocked.\"\n")
		const bad = "198.51.100.7"
		if v := w.ask(bad, "u@example.org"); v.Action != rcptgate.Continue {
			t.Fatalf("before: %+v", v)
		}
		w.add("virus", bad)
		v := w.ask(bad, "u@example.org")
		if v.Action != rcptgate.Reject || v.Code != 550 || v.Enhanced != "5.7.1" || v.Text != "Blocked." || v.Reason != "blocklist:virus" {
			t.Errorf("listed: %+v", v)
		}
		for _, open := range []string{"postmaster@example.org", "POSTMASTER@other.example", "abuse+virus@example.org", "postmaster"} {
			if v := w.ask(bad, open); v.Action != rcptgate.Continue {
				t.Errorf("%s: %+v", open, v)
			}
		}
		for _, other := range []string{"198.51.100.8", "2001:db8::1"} {
			if v := w.ask(other, "u@example.org"); v.Action != rcptgate.Continue {
				t.Errorf("%s: %+v", other, v)
			}
		}
		time.Sleep(time.Hour - time.Second)
		if v := w.ask("::ffff:"+bad, "u@example.org"); v.Action != rcptgate.Reject {
			t.Errorf("after 59:59, IPv4 in IPv6: %+v", v)
		}
		time.Sleep(time.Second)
		if v := w.ask(bad, "u@example.org"); v.Action != rcptgate.Continue {
			t.Errorf("after an hour: %+v", v)
		}
	})
}

func TestSendersOfViruses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n[[blocklist]]\nname = \"twice\"\nafter = 2\n[[blocklist]]\nname = \"other\"\nevidence = []\n")
		w.message("198.51.100.1", "Win.Test.EICAR_HDB-1")
		l, ok := w.list("virus").Listed(netip.MustParseAddr("198.51.100.1"))
		if !ok || l.Evidence != "Win.Test.EICAR_HDB-1" || l.QueueID != "4Q1" || l.Count != 1 {
			t.Errorf("%v, %+v", ok, l)
		}
		if w.listed("twice", "198.51.100.1") || w.listed("other", "198.51.100.1") {
			t.Error("one virus lists on the other lists")
		}
		w.message("198.51.100.1", "Win.Test.EICAR_HDB-1")
		if !w.listed("twice", "198.51.100.1") {
			t.Error("two viruses do not list")
		}
		w.message("198.51.100.2", "Win.X")
		time.Sleep(2 * time.Hour)
		w.message("198.51.100.2", "Win.X")
		if w.listed("twice", "198.51.100.2") {
			t.Error("a virus two hours before counts")
		}
		for _, guess := range []string{"Heuristics.Phishing.Email.SpoofedDomain", "PUA.Win.Packer", "Junk.Spam-12", "Sanesecurity.Jurlbl.1", "Email.Phishing.DblDom-1", ""} {
			w.message("198.51.100.3", guess)
		}
		if w.listed("virus", "198.51.100.3") {
			t.Error("a guess lists its sender")
		}
		w.message("2001:db8:0:1::7", "Win.X")
		if !w.listed("virus", "2001:db8:0:1:ffff::1") || w.listed("virus", "2001:db8:0:2::7") {
			t.Error("not the /64 is listed")
		}
	})
}

// TestARelayIsSpared has a relay send one virus among many messages.
func TestARelayIsSpared(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
	for range 40 {
		w.message("198.51.100.25", "")
	}
	for range 9 {
		w.message("198.51.100.25", "Win.X")
	}
	if w.listed("virus", "198.51.100.25") {
		t.Error("listed for 9 of 49")
	}
	w.message("198.51.100.25", "Win.X")
	if !w.listed("virus", "198.51.100.25") {
		t.Error("not listed for 10 of 50")
	}
	for range 9 { // ten are too few to know
		w.message("198.51.100.26", "")
	}
	if w.message("198.51.100.26", "Win.X"); !w.listed("virus", "198.51.100.26") {
		t.Error("not listed for one of ten")
	}
}

func TestWhoIsNeverListed(t *testing.T) {
	const domain = "[[domain]]\nname = \"example.com\"\nbackend = [\"smtp:[192.0.2.9]:25\"]\n"
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever = [\"$local\", \"198.51.100.64/26\"]\n"+domain)
	for client, why := range map[string]string{
		"203.0.113.5": "trusted", "::ffff:203.0.113.5": "trusted", "192.0.2.9": "behind", "127.0.0.1": "this machine", "::1": "this machine",
		"10.1.2.3": "never", "192.168.1.1": "never", "fe80::1": "never", "fd00::1": "never", "198.51.100.65": "never", "169.254.1.1": "never",
	} {
		addr := netip.MustParseAddr(client)
		err := w.list("virus").Add(addr, "Win.X", "", 0)
		w.message(client, "Win.X")
		if err == nil || !strings.Contains(err.Error(), why) || w.listed("virus", client) {
			t.Errorf("%s: %v, listed: %v", client, err, w.listed("virus", client))
		}
	}
	if err := w.list("virus").Add(netip.Addr{}, "", "", 0); err == nil {
		t.Error("no address is listed")
	}
	w.message("198.51.100.1", "Win.X", func(q *rcptgate.Query) { q.AuthUser = "joe" })
	w.message("198.51.100.1", "Win.X", func(q *rcptgate.Query) { q.Session = &rcptgate.Session{Local: true} })
	if w.listed("virus", "198.51.100.1") {
		t.Error("an authenticated client is listed")
	}
	w.add("virus", "198.51.100.1")
	m := address.Parse("u@example.com")
	if v := w.host.Gate.Ask(t.Context(), &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr("198.51.100.1"), AuthUser: "joe", Recipient: m, Target: m}); v.Action.Refuses() {
		t.Errorf("a client that has authenticated is refused: %+v", v)
	}
	private := newWorld(t, "[[blocklist]]\nname = \"virus\"\nnever = []\n")
	if private.message("10.1.2.3", "Win.X"); !private.listed("virus", "10.1.2.3") {
		t.Error("without $local a private address is not listed")
	}
}

func TestStagesAndRehearsal(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"early\"\nstage = \"connect\"\n[[blocklist]]\nname = \"mail\"\nstage = \"mail\"\ncode = 450\n[[blocklist]]\nname = \"dry\"\nenforce = false\n")
	for _, name := range []string{"early", "mail", "dry"} {
		w.add(name, "198.51.100.1")
	}
	q := &rcptgate.Query{Client: netip.MustParseAddr("198.51.100.1")}
	for _, tt := range []struct {
		stage  rcptgate.Stage
		action rcptgate.Action
		would  rcptgate.Action
		code   int
		reason rcptgate.Reason
	}{
		{rcptgate.StageConnect, rcptgate.Reject, 0, 550, "blocklist:early"},
		{rcptgate.StageMail, rcptgate.Tempfail, 0, 450, "blocklist:mail"},
		{rcptgate.StageRcpt, rcptgate.Continue, rcptgate.Reject, 550, "blocklist:dry"},
	} {
		q.Reset()
		q.Stage, q.Client, q.Recipient = tt.stage, netip.MustParseAddr("198.51.100.1"), address.Parse("u@example.com")
		q.Target = q.Recipient
		if v := w.host.Gate.Ask(t.Context(), q); v.Action != tt.action || v.Would != tt.would || v.Code != tt.code || v.Reason != tt.reason {
			t.Errorf("%s: %+v", tt.stage, v)
		}
	}
	for name, lines := range map[string]int{"early": 1, "dry": 0} {
		tables, err := w.do("export", name, "--format=text")
		if err != nil || len(tables[0].Rows) != lines {
			t.Errorf("export of %s: %v, %+v", name, err, tables)
		}
	}
	if warnings := strings.Join(w.host.Warnings(), "\n"); strings.Count(warnings, "\n") != 1 || !strings.Contains(warnings, `"early": at stage = "connect"`) || !strings.Contains(warnings, `"mail": at stage = "mail"`) {
		t.Errorf("warnings: %s", warnings)
	}
	if w.list("dry").Enforced() || !w.list("early").Enforced() {
		t.Error("which lists refuse")
	}
}

func TestCommands(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nfor_max = \"4h\"\n")
	for _, tt := range []struct {
		op   string
		args []string
		want string // in the first row, or the error
	}{
		{"list", nil, ""},
		{"show", []string{"198.51.100.1"}, "not listed"},
		{"show", []string{"127.0.0.1"}, "never listed: this machine"},
		{"show", []string{"nonsense"}, "not an address"},
		{"add", []string{"virus", "198.51.100.1", "called us names", "--for=2h"}, "called us names"},
		{"add", []string{"virus", "198.51.100.1", "--for=5h"}, "longer than"},
		{"add", []string{"none", "198.51.100.1"}, "there is no blocklist"},
		{"add", []string{"virus", "127.0.0.1"}, "never listed"},
		{"list", []string{"virus"}, "198.51.100.1"},
		{"show", []string{"198.51.100.1"}, "listed"},
		{"stats", nil, "refuses"},
		{"export", []string{"virus", "--format=nonsense"}, "not a format"},
		{"export", []string{"virus", "--format=nft"}, "flush set inet mail virus"},
		{"export", []string{"virus", "--format=cidr"}, "198.51.100.1/32 550 5.7.1 Mail from your address"},
		{"export", []string{"virus", "--format=texthash"}, "198.51.100.1 550 5.7.1 Mail"},
		{"export", []string{"virus", "--format=rbldnsd"}, "$DATASET ip4set:virus-ip4set @"},
		{"export", []string{"virus", "--format=json"}, "{"},
		{"remove", []string{"virus", "198.51.100.1"}, "198.51.100.1"},
		{"remove", []string{"virus", "198.51.100.1"}, "not on blocklist"},
		{"show", []string{"198.51.100.1"}, "removed"},
		{"add", []string{"virus"}, "missing"}, {"export", nil, "missing"}, {"nonsense", []string{"virus"}, "does not have"},
	} {
		tables, err := w.do(tt.op, tt.args...)
		said := ""
		if err != nil {
			said = err.Error()
			if _, ok := errors.AsType[*unit.InputError](err); !ok && tt.op != "nonsense" {
				t.Errorf("%s %q: %v is not an error of the arguments", tt.op, tt.args, err)
			}
		} else {
			for _, row := range tables[0].Rows[:min(len(tables[0].Rows), 1)] {
				for _, cell := range row.Cells {
					said += view.Text(cell, time.Now()) + " "
				}
			}
		}
		if !strings.Contains(said, tt.want) || tt.want == "" && said != "" {
			t.Errorf("%s %q: %q, want %q", tt.op, tt.args, said, tt.want)
		}
	}
}

// TestAccessKeys looks clients up as smtpd does (access(5)): by their whole address, then with
// one group after the other cut off.
func TestAccessKeys(t *testing.T) {
	finds := func(keys []string, client netip.Addr) bool {
		for at := client.String(); ; {
			if slices.Contains(keys, at) {
				return true
			}
			cut := strings.LastIndexByte(at, ':')
			if cut < 0 {
				return false
			}
			at = at[:cut]
		}
	}
	parts := []uint16{0, 0, 1, 0xdb8, 0xffff}
	rng := rand.New(rand.NewPCG(1, 2))
	address := func(first []uint16) netip.Addr {
		var octets [16]byte
		for i := range 8 {
			group := parts[rng.IntN(len(parts))]
			if i < len(first) {
				group = first[i]
			}
			binary.BigEndian.PutUint16(octets[2*i:], group)
		}
		return netip.AddrFrom16(octets)
	}
	none := 0
	for range 20_000 {
		network := netip.PrefixFrom(address([]uint16{0x2001}), 64).Masked()
		keys := accessKeys(network)
		if len(keys) == 0 {
			none++
			continue
		}
		octets := network.Addr().As16()
		near := []uint16{}
		for i := range 4 {
			near = append(near, binary.BigEndian.Uint16(octets[2*i:]))
		}
		for _, client := range []netip.Addr{address(near), address(near[:3]), address(near[:1])} {
			if finds(keys, client) != network.Contains(client) {
				t.Fatalf("%s, with the keys %q: %s is found: %v", network, keys, client, finds(keys, client))
			}
		}
	}
	if none > 4000 { // those with zeros in the middle
		t.Errorf("%d of 20000 networks have no keys", none)
	}
}

func TestConfigurationsThatCannotBeMeant(t *testing.T) {
	for text, want := range map[string]string{
		"":                "needs a name",
		"name = \"a b\"":  "name",
		"name = \"../x\"": "name",
		"name = \"x\"\nfor = \"2h\"\nfor_max = \"1h\"":                 "for_max",
		"name = \"x\"\nnever = [\"nonsense\"]":                         "never",
		"name = \"x\"\ncode = 421":                                     "code",
		"name = \"x\"\ncode = 470":                                     "code",
		"name = \"x\"\nstage = \"data\"":                               "stage",
		"name = \"x\"\nexempt = [\"/[/\"]":                             "exempt",
		"name = \"x\"\nexport = [{ format = \"text\", file = \"x\" }]": "export[1].file",
		"name = \"x\"\n[[blocklist]]\nname = \"x\"":                    "another",
	} {
		if _, err := tryWorld(t, testkit.Dir(t), "[[blocklist]]\n"+text+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAQuestionDoesNotAllocate(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
	w.add("virus", "198.51.100.1")
	check := w.host.Step(rcptgate.StageRcpt, stepName)
	for _, client := range []string{"198.51.100.1", "198.51.100.2", "2001:db8::1"} {
		m := address.Parse("u@example.com")
		q := &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(client), Recipient: m, Target: m}
		list, addr := w.list("virus"), q.Client
		if n := testing.AllocsPerRun(100, func() { _, _ = check.Check(context.Background(), q); list.Listed(addr) }); n > 0 {
			t.Errorf("%s: %v allocations", client, n)
		}
	}
}

// BenchmarkQuestion asks a full list about clients that are not on it. Processor time is
// reported too: it says the same on a busy machine.
func BenchmarkQuestion(b *testing.B) {
	w := newWorld(b, "[[blocklist]]\nname = \"virus\"\n")
	for i := range 100_000 {
		_, _ = w.setup.Blocklists["virus"].(*List).list(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), "Win.X", "", 0)
	}
	check := w.host.Step(rcptgate.StageRcpt, stepName)
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime()
	b.RunParallel(func(pb *testing.PB) {
		q := &rcptgate.Query{Stage: rcptgate.StageRcpt}
		for i := 0; pb.Next(); i++ {
			q.Client = netip.AddrFrom4([4]byte{200, byte(i >> 16), byte(i >> 8), byte(i)})
			_, _ = check.Check(context.Background(), q)
		}
	})
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
