// SPDX-License-Identifier: BSD-2-Clause

package harvest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend/sim"
	"rcptgate/check/blocklist"
	"rcptgate/check/callahead"
	"rcptgate/check/trusted"
	"rcptgate/kit/testkit"
	"rcptgate/pattern"
	"rcptgate/unit"
	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) {
	checktest.Run(t, checktest.Suite{Unit: Unit(), Config: "[harvest]\nlimit = 5\n"})
}

// world is a gate with a limit; existence is a step of the test's own unless callahead is
// among the units.
type world struct {
	t     testing.TB
	host  *unit.Host
	setup *unit.Setup
}

// users is a unit that knows mailboxes whose names begin with "known", and remembers those
// that begin with "known.old". It refuses "table" without asking anybody, and is slow about
// "slow".
func users() unit.Unit {
	return unit.Unit{Name: "users", Open: unit.Steps(func(s *unit.Setup) error {
		s.Step(rcptgate.StageRcpt, rcptgate.Step{Name: "users", Check: rcptgate.CheckFunc(func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
			no := rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "no", Reason: rcptgate.ReasonUnknownUser}
			switch {
			case strings.HasPrefix(q.Target.Local, "slow"):
				time.Sleep(time.Second)
				return no, nil
			case strings.HasPrefix(q.Target.Local, "table"):
				return no, nil
			case strings.HasPrefix(q.Target.Local, "known.old"):
				return rcptgate.Verdict{Reason: rcptgate.ReasonValid}, nil
			case q.Veil != nil:
				return *q.Veil, nil
			case strings.HasPrefix(q.Target.Local, "known"):
				return rcptgate.Verdict{Reason: rcptgate.ReasonValid}, nil
			}
			return no, nil
		})})
		return nil
	})}
}

func newWorld(t testing.TB, text string, existence unit.Unit) *world {
	t.Helper()
	w := &world{t: t}
	units := []unit.Unit{blocklist.Unit(), trusted.Unit(), Unit(), existence}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", "state = \""+t.TempDir()+"\"\nhostname = \"mx.example.org\"\ntrusted = [\"203.0.113.0/24\"]\nenforce = true\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	if w.host, err = unit.Open(t.Context(), units, c, unit.Options{Offline: existence.Name == "users", Stderr: io.Discard, Hook: func(s *unit.Setup) { w.setup = s }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.host.Stop)
	return w
}

func (w *world) put(q *rcptgate.Query, client, recipient string) rcptgate.Verdict {
	q.Reset()
	q.Stage, q.Client = rcptgate.StageRcpt, netip.MustParseAddr(client)
	q.Recipient = address.Parse(recipient)
	q.Target = q.Recipient
	return w.host.Gate.Ask(context.Background(), q)
}

// ask gives the code that a client hears, 250 where it is taken.
func (w *world) ask(client, recipient string) int {
	v := w.put(new(rcptgate.Query), client, recipient)
	if !v.Action.Refuses() {
		return 250
	}
	return v.Code
}

// guess has a client ask for n names that do not exist, and counts what it hears.
func (w *world) guess(client string, n int) (unknown, putOff int) {
	for i := range n {
		switch code := w.ask(client, fmt.Sprintf("guess%d@example.com", i)); code {
		case 550:
			unknown++
		case 451:
			putOff++
		}
	}
	return unknown, putOff
}

const guesser = "198.51.100.7"

func TestBeyondTheLimitGuessesTeachNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[harvest]\nlimit = 10\n", users())
		for i := range 100 { // good answers never count
			if code := w.ask(guesser, fmt.Sprintf("known%d@example.com", i)); code != 250 {
				t.Fatalf("a good recipient: %d", code)
			}
		}
		if unknown, putOff := w.guess(guesser, 100); unknown != 10 || putOff != 90 {
			t.Errorf("heard of %d unknown names, %d were put off", unknown, putOff)
		}
		for to, want := range map[string]int{"known.old@example.com": 250, "known.new@example.com": 451, "guess1@example.com": 451} {
			if code := w.ask(guesser, to); code != want {
				t.Errorf("%s: %d, want %d", to, code, want)
			}
		}
		if code := w.ask("198.51.100.8", "guess1@example.com"); code != 550 {
			t.Errorf("another client: %d", code)
		}
		time.Sleep(time.Hour + time.Minute) // put-off answers do not prolong it
		if code := w.ask(guesser, "guess1@example.com"); code != 550 {
			t.Errorf("after the window: %d", code)
		}
	})
}

// TestRefusalsThatNeedNoQuestion has the MTA's own tables refuse, and questions that were
// on their way when the limit was reached.
func TestRefusalsThatNeedNoQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[harvest]\nlimit = 10\n", users())
		heard := 0
		for i := range 100 {
			if w.ask(guesser, fmt.Sprintf("table%d@example.com", i)) == 550 {
				heard++
			}
		}
		var inFlight atomic.Int64
		var wait sync.WaitGroup
		for i := range 100 {
			wait.Go(func() {
				if w.ask("192.0.2.8", fmt.Sprintf("slow%d@example.com", i)) == 550 {
					inFlight.Add(1)
				}
			})
		}
		wait.Wait()
		if heard != 10 || inFlight.Load() != 10 {
			t.Errorf("tables told of %d unknown names, questions in flight of %d", heard, inFlight.Load())
		}
	})
}

// TestTablesKeepEachLimit has the MTA's own tables refuse beyond the slow limit and that of the
// network. What is put off does not count: a sender that tries again is not listed for it.
func TestTablesKeepEachLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"guessers\"\nevidence = []\n[harvest]\nlimit = 10\nblocklist = \"guessers\"\n", users())
		hears := func(client string, names int) (heard int) {
			for i := range names {
				if w.put(new(rcptgate.Query), client, fmt.Sprintf("table%d@example.com", i)).Reason == rcptgate.ReasonUnknownUser {
					heard++
				}
			}
			return heard
		}
		listed := func(client string) bool {
			_, ok := w.setup.Blocklists["guessers"].Listed(netip.MustParseAddr(client))
			return ok
		}
		slow := 0
		for round := range 8 {
			slow += hears(guesser, 9)
			if listed(guesser) != (round == 4) {
				t.Errorf("listed: %v, having heard of %d unknown names", listed(guesser), slow)
			}
			time.Sleep(61 * time.Minute)
		}
		if slow != 40 {
			t.Errorf("one client heard of %d unknown names, want 40", slow)
		}
		all := 0
		for i := range 20 {
			all += hears(fmt.Sprintf("198.18.7.%d", i+1), 9)
		}
		if all != 80 {
			t.Errorf("a network heard of %d unknown names, want 80", all)
		}
		const innocent = "198.18.7.77"
		if n := hears(innocent, 50); n != 0 {
			t.Errorf("another client of the network heard of %d", n)
		}
		if listed(innocent) {
			t.Error("a client that was only put off is listed")
		}
	})
}

func TestSlowGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[harvest]\nlimit = 10\n", users())
		heard := 0
		for range 48 { // eight an hour
			unknown, _ := w.guess(guesser, 8)
			heard += unknown
			time.Sleep(time.Hour / 2)
		}
		if heard != 40 {
			t.Errorf("heard of %d unknown names within a day", heard)
		}
	})
}

func TestGuessingFromManyAddresses(t *testing.T) {
	for _, tt := range []struct{ name, format, beside string }{
		{"IPv4", "198.51.100.%d", "198.51.101.1"}, {"IPv6", "2001:db8:1:%x::1", "2001:db8:2::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "[harvest]\nlimit = 10\n", users())
			heard := 0
			for i := range 200 {
				unknown, _ := w.guess(fmt.Sprintf(tt.format, i+1), 5)
				heard += unknown
			}
			if heard != 80 {
				t.Errorf("the network heard of %d unknown names", heard)
			}
			if code := w.ask(fmt.Sprintf(tt.format, 250), "known.old@example.com"); code != 250 {
				t.Errorf("a good recipient: %d", code)
			}
			if unknown, _ := w.guess(tt.beside, 5); unknown != 5 {
				t.Errorf("the network next to it heard of %d", unknown)
			}
		})
	}
	w := newWorld(t, "[harvest]\nlimit = 10\n", users())
	heard := 0
	for i := range 100 { // one /64 is one client
		unknown, _ := w.guess(fmt.Sprintf("2001:db8::%x", i+1), 5)
		heard += unknown
	}
	if heard != 10 {
		t.Errorf("a /64 heard of %d unknown names", heard)
	}
}

// shown are the limits on the status page, the newest first.
func (w *world) shown() (limits []string) {
	for _, t := range w.host.Live("harvest").Show() {
		for _, row := range t.Rows {
			limits = append(limits, fmt.Sprint(row.Cells[0], " ", row.Cells[1], " ", row.Cells[2]))
		}
	}
	return limits
}

// TestNoServerIsAsked holds for each limit that beyond it a name is put off which a server would
// have to be asked about, also for clients of the network that have not guessed themselves; and
// that those who are not counted are asked about as before.
func TestNoServerIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[harvest]\nlimit = 10\nnever = [\"198.51.100.200\"]\nnever_names = [\".relay.example\"]\n", users())
		hears := func(what, client string, want int, change func(*rcptgate.Query)) {
			t.Helper()
			q := &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(client), Recipient: address.Parse("known.new@example.com")}
			q.Target = q.Recipient
			change(q)
			code := 250
			if v := w.host.Gate.Ask(t.Context(), q); v.Action.Refuses() {
				code = v.Code
			}
			if code != want {
				t.Errorf("%s: %s heard %d, want %d", what, client, code, want)
			}
		}
		plain := func(*rcptgate.Query) {}
		for range 8 {
			w.guess(guesser, 5)
			time.Sleep(61 * time.Minute)
		}
		hears("beyond slow_limit", guesser, 451, plain)
		hears("beyond slow_limit", "::ffff:"+guesser, 451, plain)
		hears("another client", "198.51.100.8", 250, plain)
		hears("authenticated", guesser, 250, func(q *rcptgate.Query) { q.AuthUser = "joe" })
		hears("on this machine", guesser, 250, func(q *rcptgate.Query) { q.Session = &rcptgate.Session{Local: true} })
		hears("one of never_names", guesser, 250, func(q *rcptgate.Query) { q.ClientName = "a.relay.example" })
		if got := w.shown(); len(got) != 1 || got[0] != guesser+" slow_limit 40" {
			t.Errorf("shown: %q", got)
		}
		for i := range 20 {
			w.guess(fmt.Sprintf("198.51.100.%d", 100+i), 2)
		}
		hears("beyond network_limit", "198.51.100.9", 451, plain)
		hears("one of never", "198.51.100.200", 250, plain)
		hears("another network", "198.51.101.9", 250, plain)
		if got := w.shown(); len(got) != 2 || got[0] != "198.51.100.0/24 network_limit 80" {
			t.Errorf("shown: %q", got)
		}
		for i := range lastMax + 5 {
			w.guess(fmt.Sprintf("192.0.%d.1", i), 10)
		}
		if got := w.shown(); len(got) != lastMax || got[0] != fmt.Sprintf("192.0.%d.1 limit 10", lastMax+4) {
			t.Errorf("%d are shown, the newest is %q", len(got), got[0])
		}
	})
}

// TestAWindowHasTwoHalves holds that what came in the last half of a window counts until its
// end, and no longer than the whole of it.
func TestAWindowHasTwoHalves(t *testing.T) {
	now := time.Unix(1_800_000_000, 0) // the beginning of a half
	var w window
	for range 6 {
		w.add(now.Add(29*time.Minute), time.Hour)
	}
	for range 5 {
		w.add(now.Add(31*time.Minute), time.Hour)
	}
	for minute, want := range map[int]int{31: 11, 59: 11, 61: 5, 89: 5, 91: 0} {
		if n := w.at(now.Add(time.Duration(minute)*time.Minute), time.Hour); n != want {
			t.Errorf("%d count after %d minutes, want %d", n, minute, want)
		}
	}
}

func TestWhoIsNotCounted(t *testing.T) {
	w := newWorld(t, "[harvest]\nlimit = 10\nnever = [\"192.0.2.1\"]\nnever_names = [\".relay.example\"]\n[[domain]]\nname = \"example.com\"\nbackend = [\"smtp:[192.0.2.9]:25\"]\n", users())
	for _, client := range []string{"203.0.113.1", "192.0.2.1", "192.0.2.9", "127.0.0.1"} {
		if _, putOff := w.guess(client, 50); putOff > 0 {
			t.Errorf("%s: %d answers were put off", client, putOff)
		}
	}
	q := new(rcptgate.Query)
	for range 50 {
		m := address.Parse("guess@example.com")
		for _, change := range []func(){
			func() { q.AuthUser = "joe" }, func() { q.ClientName = "mail-1.relay.example" }, func() { q.Session = &rcptgate.Session{Local: true} }, func() { q.Client = netip.Addr{} },
		} {
			q.Reset()
			q.Stage, q.Client, q.Recipient, q.Target = rcptgate.StageRcpt, netip.MustParseAddr(guesser), m, m
			change()
			if v := w.host.Gate.Ask(t.Context(), q); v.Reason == reason {
				t.Fatalf("put off: auth %q, name %q", q.AuthUser, q.ClientName)
			}
		}
	}
}

func TestAGuesserJoinsTheBlocklist(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"guessers\"\nevidence = []\n[harvest]\nlimit = 10\nblocklist = \"guessers\"\n", users())
	w.guess(guesser, 9)
	if _, listed := w.setup.Blocklists["guessers"].Listed(netip.MustParseAddr(guesser)); listed {
		t.Error("listed below the limit")
	}
	w.ask(guesser, "guess@example.com")
	l, listed := w.setup.Blocklists["guessers"].Listed(netip.MustParseAddr(guesser))
	if !listed || l.Evidence != "10 unknown recipients" {
		t.Errorf("%v, %+v", listed, l)
	}
	if v := w.put(new(rcptgate.Query), guesser, "known.old@example.com"); v.Reason != "blocklist:guessers" {
		t.Errorf("a listed client: %+v", v)
	}
	if shown := w.host.Live("harvest").Show(); len(shown) != 1 || len(shown[0].Rows) != 1 {
		t.Errorf("shown: %+v", shown)
	}
}

func TestConfigurationsThatCannotBeMeant(t *testing.T) {
	for text, want := range map[string]string{
		"[harvest]\nlimit = 5\nblocklist = \"none\"\n": "blocklist", "[harvest]\nblocklist = \"x\"\n[[blocklist]]\nname = \"x\"\n": "blocklist",
		"[harvest]\nlimit = 5\nnever = [\"nonsense\"]\n": "never", "[harvest]\nlimit = 5\nwindow = \"2h\"\nslow_window = \"1h\"\n": "slow_window",
		"[harvest]\nlimit = 5\ntext = \"\"\n": "text", "[harvest]\nlimit = 5\nnever_names = [\"/(/\"]\n": "never_names",
	} {
		units := []unit.Unit{blocklist.Unit(), Unit()}
		schema, err := unit.Compose(units)
		if err != nil {
			t.Fatal(err)
		}
		c, err := unit.Parse(schema, "test.toml", "state = \""+t.TempDir()+"\"\n"+text)
		if err == nil {
			var h *unit.Host
			if h, err = unit.Open(t.Context(), units, c, unit.Options{Offline: true}); err == nil {
				h.Stop()
			}
		}
		if err == nil || !strings.Contains(err.Error(), "harvest."+want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestDictionaryAttack holds the promise: of 100,000 names, of which one in fifty exists, a
// client learns of fewer than 200 whether they do; the server behind is asked less than
// 2,000 times; and all the mail of the same client to 1,000 users that are remembered is
// taken.
func TestDictionaryAttack(t *testing.T) {
	const real, known, guessers = 2000, 1000, 8
	names := testkit.Rounds(20_000, 100_000)
	var all []string
	for i := range real {
		all = append(all, fmt.Sprintf("name%d@example.com", i*names/real))
	}
	for i := range known {
		all = append(all, fmt.Sprintf("user%d@example.com", i))
	}
	server := sim.New(sim.Config{Behaviour: sim.Behaviour{Users: all}})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	w := newWorld(t, "[harvest]\nlimit = 50\n[[domain]]\nname = \"example.com\"\nbackend = [\""+server.Backend()+"\"]\n", callahead.Unit())
	for i := range known {
		if code := w.ask("192.0.2.44", fmt.Sprintf("user%d@example.com", i)); code != 250 {
			t.Fatalf("user%d: %d", i, code)
		}
	}
	before := server.Stats().Probes

	var learnt, taken atomic.Int64
	var wait sync.WaitGroup
	for g := range guessers {
		wait.Go(func() {
			q := new(rcptgate.Query)
			for i := g; i < names; i += guessers {
				if v := w.put(q, guesser, fmt.Sprintf("name%d@example.com", i)); v.Action != rcptgate.Tempfail {
					learnt.Add(1)
				}
				if i%(names/known) == 0 {
					if v := w.put(q, guesser, fmt.Sprintf("user%d@example.com", i/(names/known))); v.Action == rcptgate.Continue {
						taken.Add(1)
					}
				}
			}
		})
	}
	wait.Wait()
	probes := server.Stats().Probes - before
	t.Logf("learnt %d names, %d questions to the server, %d of %d good recipients taken", learnt.Load(), probes, taken.Load(), known)
	if learnt.Load() >= 200 || learnt.Load() < 50 || probes >= 2000 || taken.Load() != known {
		t.Errorf("learnt %d names, %d questions to the server, %d of %d good recipients taken", learnt.Load(), probes, taken.Load(), known)
	}
}

// refusing is a blocklist that takes nobody.
type refusing struct{ rcptgate.Blocklist }

func (refusing) Add(netip.Addr, string, string, time.Duration) error {
	return errors.New("never listed")
}

// TestWhatIsSaidOfALimit holds the log lines, which other programs read, the status page and the
// counters.
func TestWhatIsSaidOfALimit(t *testing.T) {
	var log strings.Builder
	s := newState(slog.New(slog.NewTextHandler(&log, nil)))
	language := new(pattern.Language)
	c := &Check{cfg: DefaultConfig(), state: s, exempt: func(netip.Addr) bool { return false }, joins: refusing{}, never: language.NewSet(pattern.Clients), names: language.NewSet(pattern.Hosts)}
	c.cfg.Limit, c.cfg.SlowLimit, c.cfg.NetworkLimit = 2, 4, 3
	for _, client := range []string{"198.51.100.7", "198.51.100.8", "2001:db8:1:2::3", "2001:db8:1:3::3"} {
		for range 3 {
			c.Unknown(&rcptgate.Query{Client: netip.MustParseAddr(client)})
		}
	}
	if s.limited.Load() != 4 || s.veiled.Load() != 6 {
		t.Errorf("%d limits reached, %d answers put off", s.limited.Load(), s.veiled.Load())
	}
	var shown []string
	for _, row := range s.show()[0].Rows {
		shown = append(shown, fmt.Sprint(row.Cells[0], " ", row.Cells[1], " ", row.Cells[2]))
	}
	want := []string{"2001:db8:1::/48 network_limit 3", "2001:db8:1:2::/64 limit 2", "198.51.100.0/24 network_limit 3", "198.51.100.7 limit 2"}
	if strings.Join(shown, "\n") != strings.Join(want, "\n") {
		t.Errorf("shown: %q", shown)
	}
	for _, line := range []string{"harvest client=198.51.100.7 limited", "reached=network_limit", "a client cannot join the blocklist", "never listed"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("%q is not in the log:\n%s", line, log.String())
		}
	}
}

// TestLimits holds what follows from limit and from defaults.
func TestLimits(t *testing.T) {
	c := DefaultConfig()
	if c.Window.Std() != time.Hour || c.SlowWindow.Std() != 24*time.Hour {
		t.Errorf("windows of %v and %v", c.Window, c.SlowWindow)
	}
	c.Limit = 10
	if c.slowLimit() != 40 || c.networkLimit() != 80 {
		t.Errorf("limits of %d and %d", c.slowLimit(), c.networkLimit())
	}
	c.SlowLimit, c.NetworkLimit, c.SlowWindow = 1, 2, c.Window
	if c.slowLimit() != 1 || c.networkLimit() != 2 || c.Validate() != nil {
		t.Errorf("limits of %d and %d are set, %v", c.slowLimit(), c.networkLimit(), c.Validate())
	}
}

func BenchmarkQuestion(b *testing.B) {
	s := newState(slog.New(slog.DiscardHandler))
	cfg := DefaultConfig()
	cfg.Limit = 50
	c := &Check{cfg: cfg, state: s, exempt: func(netip.Addr) bool { return false }}
	q := &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(guesser)}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Check(context.Background(), q)
	}
}

// TestAClockSetBackCountsAnew counts while the clock is a year ahead: that must not limit the
// client until then.
func TestAClockSetBackCountsAnew(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var w window
	for range 50 {
		w.add(now.AddDate(1, 0, 0), time.Hour)
	}
	if n := w.at(now, time.Hour); n != 0 {
		t.Errorf("%d count after the clock was set back", n)
	}
	w.add(now, time.Hour)
	if n := w.at(now.Add(-10*time.Minute), time.Hour); n != 1 {
		t.Errorf("%d count, want 1", n)
	}
	if n := w.at(now.Add(2*time.Hour), time.Hour); n != 0 {
		t.Errorf("%d count two hours later", n)
	}
}
