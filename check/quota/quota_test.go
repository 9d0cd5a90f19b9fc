// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/check/quota/directory"
	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/check/quota/wire"
	"rcptgate/config/setting"
	"rcptgate/kit/testkit"
	storeplace "rcptgate/store"
	"rcptgate/unit/checktest"
)

func TestRoomBySize(t *testing.T) {
	w := newWorld(t, nil)
	w.store.set("ann@example.com", 999_900*kb, 1000*mb) // 100 kB are left
	w.expect("ann@example.com", 50*kb, "room")
	w.expect("ann@example.com", 200*kb, "452 4.2.2 mailbox-full")
	w.expect("ann@example.com", 50*kb, "room")
	w.expect("ann@example.com", 2000*mb, "552 5.2.3 too-large")
}

// TestManyRecipientsMakeOneQuestion: below the soft limit memory answers.
func TestManyRecipientsMakeOneQuestion(t *testing.T) {
	w := newWorld(t, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1250 {
				w.expect("Ann+list@Example.com", 2*kb, "room")
			}
		})
	}
	all.Wait()
	if n := w.store.asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
	if user := w.store.user(); user != "ann@example.com" && user != "Ann@example.com" {
		t.Errorf("asked about %q", user)
	}
}

// TestFullIsAskedOnce: retries for a mailbox that is full cost the store nothing.
func TestFullIsAskedOnce(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *mailStore) { s.set("full@example.com", 2000*mb, 1000*mb) }) // twice: Trash counts
	for range 1000 {
		w.expect("full@example.com", 0, "452 4.2.2 mailbox-full")
	}
	if n := w.store.asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
	w.store.set("full@example.com", 0, 1000*mb)
	w.State.Forget(storeplace.Pattern{Address: "full@example.com"})
	w.expect("full@example.com", 0, "room")
}

// TestWhoIsAskedAbout: only mailboxes that are ours, and only names that a store may have.
func TestWhoIsAskedAbout(t *testing.T) {
	full := func(user string) func(*mailStore) { return func(s *mailStore) { s.set(user, 100*mb, 100*mb) } }
	client := netip.MustParseAddr("192.0.2.1")
	for name, c := range map[string]struct {
		recipient string
		change    func(q *rcptgate.Query)
		asked     bool
	}{
		"ours":                       {"ann@example.com", nil, true},
		"outgoing":                   {"ann@elsewhere.example", nil, false},
		"the MTA's next hop":         {"ann@elsewhere.example", func(q *rcptgate.Query) { q.NextHop = rcptgate.NextHop{Mailer: "smtp", Host: "[192.0.2.9]"} }, false},
		"known locally":              {"ann@elsewhere.example", func(q *rcptgate.Query) { q.Known = true }, true},
		"local name":                 {"ann", func(q *rcptgate.Query) { q.Known = true }, true},
		"local name, not known":      {"ann", nil, false},
		"unchecked":                  {"ann@unchecked.example", nil, false},
		"unchecked, known":           {"ann@unchecked.example", func(q *rcptgate.Query) { q.Known = true }, false},
		"the backend's own mail":     {"ann@example.com", func(q *rcptgate.Query) { q.Client = client }, false},
		"alias's target":             {"sales@example.com", func(q *rcptgate.Query) { q.Target = address.Parse("ann@example.com") }, true},
		"delivered by the MTA":       {"ann@example.com", func(q *rcptgate.Query) { q.NextHop = rcptgate.NextHop{Mailer: "local"} }, false},
		"space":                      {`"an n"@example.com`, nil, false},
		"control":                    {"a\x01n@example.com", nil, false},
		"long":                       {strings.Repeat("a", 400) + "@example.com", nil, false},
		"nothing":                    {"@example.com", nil, false},
		"path":                       {"../../etc/passwd@example.com", nil, true},
		"filter":                     {"a*)(uid=*@example.com", nil, true},
		"a verdict as a name":        {"OVERQUOTA@example.com", nil, true},
		"percent":                    {"a%0ab@example.com", nil, true},
		"an address literal of ours": {"ann@[192.0.2.1]", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *Options, s *mailStore) {
				for _, u := range []string{"ann@example.com", "ann@elsewhere.example", "ann", "ann@unchecked.example"} {
					full(u)(s)
				}
			})
			q := query(c.recipient, 100)
			if c.change != nil {
				c.change(q)
			}
			got := w.put(q)
			if asked := w.store.asked.Load() > 0; asked != c.asked {
				t.Errorf("asked: %v", asked)
			}
			if strings.HasPrefix(name, "ours") && got != "452 4.2.2 mailbox-full" || !c.asked && got != "room" {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestWords(t *testing.T) {
	w := newWorld(t, func(o *Options, s *mailStore) {
		o.RejectFull[0] = true
		for _, u := range []string{"full", "postmaster", "abuse"} {
			s.set(u+"@example.com", 1000*mb, 1000*mb)
		}
	})
	w.expect("full@example.com", 0, "552 5.2.2 mailbox-full")
	w.expect("postmaster@example.com", 0, "452 4.2.2 mailbox-full")
	w.expect("Abuse@example.com", 2000*mb, "452 4.2.3 too-large")
	for word, want := range map[string]string{"tempfail": "552 5.2.2 mailbox-full", "accept": "room"} {
		w.Config.TooLarge = word
		w.expect("ann@example.com", 2000*mb, want)
	}
	no := false
	w = newWorld(t, func(o *Options, _ *mailStore) { o.Domains[0].ProbeSizes = &no })
	w.expect("ann@example.com", 2000*mb, "room") // sizes tell nothing
	none := []source.Spec{}
	w = newWorld(t, func(o *Options, s *mailStore) { o.Domains[0].Quota = &none; s.set("ann@example.com", 100*mb, 100*mb) })
	w.expect("ann@example.com", 0, "room")
}

// TestUser: stores call mailboxes by other names.
func TestUser(t *testing.T) {
	for user, want := range map[string]string{"{address}": "ann@example.com", "{local}": "ann", "{domain}/{local}": "example.com/ann"} {
		w := newWorld(t, func(o *Options, _ *mailStore) { o.Config.User = user })
		w.says("ann+detail@example.com", 0)
		if got := w.store.user(); got != want {
			t.Errorf("%s: asked about %q", user, got)
		}
	}
}

// TestFailures: whatever is wrong with a source, mail is taken, and nothing is learnt.
func TestFailures(t *testing.T) {
	other, err := wire.ParseKeys([]byte("g1 ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\n"))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(keys *wire.Keys, user string) func([]byte, *wire.Request) [][]byte {
		return func(_ []byte, req *wire.Request) [][]byte {
			a := wire.NewAnswer(wire.Full)
			r := *req
			if user != "" {
				r.User = user
			}
			return [][]byte{keys.SignReply(nil, &a, &r)}
		}
	}
	earlier := make(map[string][]byte) // by the request's id
	for name, spoil := range map[string]func(reply []byte, req *wire.Request) [][]byte{
		"silent":         func([]byte, *wire.Request) [][]byte { return nil },
		"garbage":        func([]byte, *wire.Request) [][]byte { return [][]byte{{0, 1, 2, 3}, []byte("QUOTA_FULL\x00"), {}} },
		"plain, forged":  func([]byte, *wire.Request) [][]byte { return [][]byte{[]byte("QUOTA_FULL")} },
		"another's MAC":  sign(other, ""),
		"another's user": sign(startKeys(t), "bob@example.com"),
		"64 KiB": func([]byte, *wire.Request) [][]byte {
			return [][]byte{[]byte("QUOTA_FULL " + strings.Repeat("x", 60_000))}
		},
		"half": func(r []byte, _ *wire.Request) [][]byte { return [][]byte{r[:len(r)/2]} },
		"replayed": func(r []byte, req *wire.Request) [][]byte {
			for id, reply := range earlier {
				if id != req.ID {
					return [][]byte{reply}
				}
			}
			earlier[req.ID] = r
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *Options, s *mailStore) {
				o.Config.Timeout = setting.Duration(100 * time.Millisecond)
				s.set("ann@example.com", 100*mb, 100*mb)
				s.spoil = spoil
			})
			for range 2 {
				w.expect("ann@example.com", 0, "error")
			}
			w.store.change(func() { w.store.spoil = nil })
			testkit.Eventually(t, "it to be asked again", func() bool { return w.says("ann@example.com", 0) == "452 4.2.2 mailbox-full" })
		})
	}
}

func startKeys(t *testing.T) *wire.Keys {
	keys, err := wire.ParseKeys([]byte(testKey))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestRightAnswerAmongWrongOnes: forged datagrams are waited past.
func TestRightAnswerAmongWrongOnes(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *mailStore) {
		s.spoil = func(r []byte, _ *wire.Request) [][]byte { return [][]byte{[]byte("QUOTA_FULL"), []byte("nonsense"), r} }
	})
	w.expect("ann@example.com", 0, "room")
	if n := w.store.asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
	if got := w.metric("quota_bad_mac_total"); got != "2" {
		t.Errorf("wrong replies are counted as %q", got)
	}
}

// TestLateAnswerIsRemembered: its asker has gone on.
func TestLateAnswerIsRemembered(t *testing.T) {
	w := newWorld(t, func(o *Options, s *mailStore) {
		o.Config.Timeout = setting.Duration(50 * time.Millisecond)
		s.late = 300 * time.Millisecond
		s.set("ann@example.com", 100*mb, 100*mb)
	})
	w.expect("ann@example.com", 0, "error")
	testkit.Eventually(t, "the late answer to be remembered", func() bool { _, ok := w.State.known.Get("ann@example.com"); return ok })
	w.expect("ann@example.com", 0, "452 4.2.2 mailbox-full")
}

// TestSourcesInOrder: unknown and failing ones are passed over, and an error is one only if
// nobody knows the mailbox.
func TestSourcesInOrder(t *testing.T) {
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "udp:" + closed.LocalAddr().String()
	closed.Close()
	w := newWorld(t, func(o *Options, s *mailStore) {
		first := startStore(t)
		o.Config.Sources = specs(t, dead, first.spec(), s.spec())
		s.set("ann@example.com", 100*mb, 100*mb)
	})
	w.expect("ann@example.com", 0, "452 4.2.2 mailbox-full")
	w.expect("nobody@example.com", 0, "error")
	w = newWorld(t, nil)
	w.expect("nobody@example.com", 0, "room")
	w.expect("nobody@example.com", 0, "room")
	if n := w.store.asked.Load(); n != 1 {
		t.Errorf("an unknown mailbox: %d questions", n)
	}
	if w.onError(nil, nil).Action != rcptgate.Continue {
		t.Error("an error refuses")
	}
	w.Config.Unreachable = "tempfail"
	if v := w.onError(nil, nil); v.Code != 451 || v.Enhanced != "4.3.0" {
		t.Errorf("%+v", v)
	}
}

// TestBreaker: a source that is dead is not waited for, and is asked again when it lives.
func TestBreaker(t *testing.T) {
	w := newWorld(t, func(o *Options, s *mailStore) {
		o.Config.Timeout = setting.Duration(50 * time.Millisecond)
		s.mute = true
	})
	for range 6 {
		w.says("ann@example.com", 0)
	}
	testkit.Eventually(t, "the breaker to open", func() bool { return !w.State.sources.All()[0].Health().Up })
	asked := w.store.asked.Load()
	for i := range 100 {
		w.expect("ann@example.com", int64(i), "error")
	}
	if n := w.store.asked.Load() - asked; n > 3 { // one trial, tried thrice
		t.Errorf("%d questions to a dead source", n)
	}
	testkit.Eventually(t, "a line in the log", func() bool { return strings.Contains(w.log.String(), "does not answer") })
}

func TestOneQuestionForAll(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *mailStore) {
		s.late = 200 * time.Millisecond
		s.set("ann@example.com", 995*mb, 1000*mb) // above soft
	})
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			want := "room"
			if i%2 == 1 {
				want = "452 4.2.2 mailbox-full"
			}
			w.expect("ann@example.com", 1000+int64(i%2)*9*mb, want)
		})
	}
	all.Wait()
	if n := w.store.asked.Load(); n > 4 {
		t.Errorf("%d questions", n)
	}
}

// TestForgetBeatsAnAnswerOnItsWay: what was asked before a forget is not remembered.
func TestForgetBeatsAnAnswerOnItsWay(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *mailStore) {
		s.late = 200 * time.Millisecond
		s.set("ann@example.com", 100*mb, 100*mb)
	})
	done := make(chan string)
	go func() { done <- w.says("ann@example.com", 0) }()
	testkit.Eventually(t, "the source to be asked", func() bool { return w.store.asked.Load() > 0 })
	w.State.Forget(storeplace.Pattern{Domain: "example.com"})
	if got := <-done; got != "452 4.2.2 mailbox-full" {
		t.Errorf("%q", got)
	}
	if _, ok := w.State.known.Get("ann@example.com"); ok {
		t.Error("remembered")
	}
}

// TestStormIsHeldBack: a store that suddenly says full of everybody stops no mail.
func TestStormIsHeldBack(t *testing.T) {
	w := newWorld(t, nil)
	names := make([]string, 40)
	for i := range names {
		names[i] = strings.Repeat("x", i+1) + "@example.com"
		w.store.set(names[i], 10*mb, 1000*mb)
		w.expect(names[i], 0, "room")
	}
	for i, n := range names { // an upgrade has made the limit another
		w.store.set(n, 600*mb, 500*mb)
		w.State.known.Update(n, func(e *room.Entry) { *e = aged(*e) })
		got := w.says(n, 0)
		if i < 19 && got != "452 4.2.2 mailbox-full" || i > 25 && got != "room" {
			t.Fatalf("mailbox %d: %q", i, got)
		}
	}
	w.expect(names[0], 0, "room")
	if !strings.Contains(w.log.String(), "many mailboxes as full at once") {
		t.Error("nobody is told")
	}
}

// aged is an entry whose answer has ended.
func aged(e room.Entry) room.Entry {
	e.Expire()
	return e
}

type fakeDirectory struct {
	entry directory.Entry
	err   error
}

func (d *fakeDirectory) Find(context.Context, rcptgate.Mailbox) (directory.Entry, error) {
	return d.entry, d.err
}

func TestDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		entry directory.Entry
		err   error
		want  string
	}{
		"host and user":     {entry: directory.Entry{Found: 1, Host: "127.0.0.1", User: "u17", Limit: directory.NotKnown}, want: "452 4.2.2 mailbox-full"},
		"host not allowed":  {entry: directory.Entry{Found: 1, Host: "192.0.2.1", User: "u17", Limit: directory.NotKnown}, want: "error"},
		"no entry":          {entry: directory.Entry{}, want: "room"},
		"two entries":       {entry: directory.Entry{Found: 2}, want: "room"},
		"forwarded":         {entry: directory.Entry{Found: 1, Flags: directory.NoLocal}, want: "room"},
		"over quota":        {entry: directory.Entry{Found: 1, Flags: directory.OverQuota}, want: "452 4.2.2 mailbox-full"},
		"over quota once":   {entry: directory.Entry{Found: 1, Host: "127.0.0.1", User: "roomy", Flags: directory.OverQuota, Stale: true, Limit: directory.NotKnown}, want: "room"},
		"down":              {err: errors.New("down"), want: "error"},
		"control in a user": {entry: directory.Entry{Found: 1, Host: "127.0.0.1", User: "u 17\r\n", Limit: directory.NotKnown}, want: "room"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *Options, s *mailStore) {
				_, port, _ := net.SplitHostPort(s.conn.LocalAddr().String())
				o.Config.Sources = specs(t, "udp:{mailhost}:"+port)
				o.Config.Hosts = []setting.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
				o.Directory = &fakeDirectory{c.entry, c.err}
				s.set("u17", 100*mb, 100*mb)
				s.set("roomy", mb, 100*mb)
			})
			w.expect("ann@example.com", 0, c.want)
		})
	}
}

// A limit that was lowered below what is used refuses at the next answer, without a warning
// from the store; the status page lists the mailbox, and others above their soft limit.
func TestLoweredLimit(t *testing.T) {
	w := newWorld(t, nil)
	for user, used := range map[string]int64{"ann": 100, "bob": 10, "carl": 95} {
		w.store.set(user+"@example.com", used*mb, 200*mb)
	}
	w.expect("ann@example.com", 150*mb, "452 4.2.2 mailbox-full")
	w.expect("bob@example.com", mb, "room")
	w.store.set("ann@example.com", 100*mb, 90*mb)
	w.store.set("carl@example.com", 95*mb, 100*mb)
	w.State.known.Update("ann@example.com", (*room.Entry).Expire) // it is asked about next time
	w.expect("ann@example.com", 1, "452 4.2.2 mailbox-full")
	w.expect("carl@example.com", 1, "room")
	var listed []string
	for _, table := range show(w.State) {
		if table.Name == "quota-mailboxes" {
			for _, r := range table.Rows {
				listed = append(listed, fmt.Sprint(r.Cells[0], " ", r.Cells[3]))
			}
		}
	}
	if got := strings.Join(listed, ", "); got != "ann@example.com 111%, carl@example.com 95%" {
		t.Errorf("listed are %q", got)
	}
}

// The directory's limit applies where the store has none of its own, and only there. If neither
// names one, there is none, and the answer is kept.
func TestLimitOfTheDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		hard, limit int64 // of the store and of the directory
		size        int64
		want        string
	}{
		"fits":              {room.NotKnown, 100 * mb, 10 * mb, "room"},
		"does not fit":      {room.NotKnown, 100 * mb, 90*mb + 1, "452 4.2.2 mailbox-full"},
		"never fits":        {room.NotKnown, 100 * mb, 101 * mb, "552 5.2.3 too-large"},
		"the store's own":   {200 * mb, 11 * mb, 90 * mb, "room"},
		"unlimited there":   {room.NotKnown, directory.Unlimited, 1 << 40, "room"},
		"unlimited here":    {0, 11 * mb, 90 * mb, "room"},
		"nobody names one":  {room.NotKnown, directory.NotKnown, 1 << 40, "room"},
		"no directory":      {room.NotKnown, -2, 1 << 40, "room"},
		"messages directly": {room.NotKnown, -3, 1, "452 4.2.2 mailbox-full"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *Options, s *mailStore) {
				if c.limit != -2 {
					o.Directory = &fakeDirectory{entry: directory.Entry{Found: 1, Limit: c.limit, Messages: directory.NotKnown}}
				}
				if c.limit == -3 {
					s.messages = 5
					o.Directory = &fakeDirectory{entry: directory.Entry{Found: 1, Limit: directory.NotKnown, Messages: 5}}
				}
				s.set("ann@example.com", 10*mb, c.hard)
			})
			for range 2 {
				w.expect("ann@example.com", c.size, c.want)
			}
			if n := w.store.asked.Load(); n != 1 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

func TestServedAnswerDoesNotAllocate(t *testing.T) {
	w := newWorld(t, nil)
	w.expect("ann@example.com", 0, "room")
	q := query("ann@example.com", 0)
	if n := testing.AllocsPerRun(100, func() { _, _ = w.Check.Check(t.Context(), q) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkServed(b *testing.B) {
	w := newWorld(b, nil)
	w.expect("ann@example.com", 0, "room")
	b.ReportAllocs()
	b.ResetTimer()
	q := query("ann@example.com", 0)
	for range b.N {
		_, _ = w.Check.Check(context.Background(), q)
	}
}

func TestSuite(t *testing.T) {
	checktest.Run(t, checktest.Suite{
		Unit: Unit(), Recipients: []string{"ann@example.com", "postmaster@example.com", "../x@example.com"},
		Config: `
[quota]
sources = ["udp:127.0.0.1:1"]
timeout = "20ms"
[[domain]]
name = "example.com"
backend = ["smtp:[192.0.2.1]:25"]
[[domain]]
name = "b.example"
backend = ["smtp:[192.0.2.1]:25"]
quota = ["tcp:127.0.0.1:1", "file:/nonexistent"]
`,
	})
}

// TestAPersonsQuestionTakesNoRoom: what rcptgate check asks is answered and remembered like
// the rest, and nothing is taken off the room that is left, since no message comes.
func TestAPersonsQuestionTakesNoRoom(t *testing.T) {
	w := newWorld(t, nil)
	for i, want := range []int64{0, 0, 3 * mb, 3 * mb} {
		q := query("ann@example.com", 3*mb)
		q.Inquiry = i != 2
		if got := w.put(q); got != "room" {
			t.Errorf("question %d: %s", i, got)
		}
		e, _ := w.State.known.Get("ann@example.com")
		if k := e.Known(); k.Debits != want || k.Asked == 0 {
			t.Errorf("question %d: %d octets are taken off, want %d", i, k.Debits, want)
		}
	}
	if n := w.store.asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// TestSmallLimit: a limit below 1 MiB may be meant in another unit. It refuses what does not fit,
// but never says that a message is too large for it: a larger one is refused only if more is used
// than the limit, and reported.
func TestSmallLimit(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *mailStore) {
		s.set("small@example.com", 100*kb, 200*kb)
		s.set("full@example.com", 200*kb, 200*kb)
		s.set("over@example.com", 201*kb, 200*kb)
	})
	reported := func() bool { return strings.Contains(w.log.String(), "the limit is below 1 MiB") }
	for _, c := range []struct {
		mailbox string
		size    int64
		want    string
	}{
		{"small", 50 * kb, "room"}, {"small", 150 * kb, "452 4.2.2 mailbox-full"}, {"small", 50 * kb, "room"}, {"full", 1, "452 4.2.2 mailbox-full"},
		{"over", 1, "452 4.2.2 mailbox-full"}, {"over", mb, "452 4.2.2 mailbox-full"},
	} {
		w.expect(c.mailbox+"@example.com", c.size, c.want)
	}
	if reported() {
		t.Error("a small limit is reported, although nothing speaks against it")
	}
	w.expect("small@example.com", mb, "room")
	if !reported() {
		t.Error("a message larger than a small limit is not reported")
	}
	q := query("small@example.com", mb)
	q.Trace.Explain = true
	if _, err := w.Check.Check(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if note := fmt.Sprint(q.Trace); !strings.Contains(note, "limit 200000 (implausible: a larger message is refused only if more is used than that)") {
		t.Errorf("the trace says %s", note)
	}
}

// TestMetrics: what is counted, under which name.
func TestMetrics(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *mailStore) {
		s.set("full@example.com", 100*mb, 100*mb)
		s.set("nearly@example.com", 890*mb, 1000*mb)
	})
	w.expect("ann@example.com", 0, "room")
	w.expect("ann@example.com", 0, "room")                      // remembered
	w.expect("ann@example.com", 2000*mb, "552 5.2.3 too-large") // also: its limit is known
	w.expect("full@example.com", 0, "452 4.2.2 mailbox-full")
	w.expect("nearly@example.com", 1, "room")
	w.State.known.Update("nearly@example.com", func(e *room.Entry) { e.Debit(w.State.now(), 109*mb) })
	w.expect("nearly@example.com", 5*mb, "room") // too much was let through
	w.expect("nobody@example.com", 0, "room")
	at := "udp:" + w.store.conn.LocalAddr().String()
	for name, want := range map[string]string{
		"quota_questions_total":   "error 0, full 1, room 3, timeout 0, unknown 1 of " + at,
		"quota_seconds":           "5 of " + at,
		"quota_memory_total":      "asked 4, busy 0, early 1, joined 0, late 0, served 2",
		"quota_refused_total":     "full 1, too-large 1",
		"quota_up":                "1 of " + at,
		"quota_held":              "0 of " + at,
		"quota_bad_mac_total":     "0",
		"quota_implausible_total": "numbers 0, shrunk 0",
	} {
		if got := w.metric(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestEnforce: the check can be rehearsed by itself, and can act where the gate rehearses.
func TestEnforce(t *testing.T) {
	yes, no := true, false
	for name, c := range map[string]struct {
		enforce *bool
		want    rcptgate.Verdict
	}{
		"as the gate": {nil, rcptgate.Verdict{Action: rcptgate.Tempfail}},
		"rehearsed":   {&no, rcptgate.Verdict{Would: rcptgate.Tempfail}},
		"acts":        {&yes, rcptgate.Verdict{Action: rcptgate.Tempfail, Enforce: true}},
	} {
		w := newWorld(t, func(o *Options, s *mailStore) {
			o.Config.Enforce, o.Config.Unreachable = c.enforce, "tempfail"
			s.set("full@example.com", 100*mb, 100*mb)
		})
		full, err := w.Check.Check(t.Context(), query("full@example.com", 0))
		for what, v := range map[string]rcptgate.Verdict{"full": full, "error": w.onError(nil, nil)} {
			if err != nil || v.Action != c.want.Action || v.Would != c.want.Would || v.Enforce != c.want.Enforce || v.Code/10 != 45 {
				t.Errorf("%s, %s: %+v, %v", name, what, v, err)
			}
		}
		if v, err := w.Check.Check(t.Context(), query("ann@example.com", 0)); err != nil || v != (rcptgate.Verdict{}) {
			t.Errorf("%s, room: %+v, %v", name, v, err)
		}
	}
}

// TestLostDatagrams: a question that is lost is sent again after a quarter and after half of the
// time, from the same port; another question has a port of its own.
func TestLostDatagrams(t *testing.T) {
	w := newWorld(t, func(o *Options, s *mailStore) {
		o.Config.Timeout = setting.Duration(400 * time.Millisecond)
		s.lose = 2
		s.set("full@example.com", 100*mb, 100*mb)
	})
	began := time.Now()
	w.says("full@example.com", 0) // on a slow machine the answer is late, and remembered
	testkit.Eventually(t, "the third datagram to be answered", func() bool { _, ok := w.State.known.Get("full@example.com"); return ok })
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("three datagrams within %v", took)
	}
	w.expect("full@example.com", 0, "452 4.2.2 mailbox-full")
	for i := range 10 {
		w.says(fmt.Sprintf("x%d@example.com", i), 0)
	}
	w.store.change(func() {
		ports := make(map[string]bool)
		for _, p := range w.store.ports[2:] {
			ports[p] = true
		}
		if p := w.store.ports; p[0] != p[1] || p[1] != p[2] || len(ports) < 5 {
			t.Errorf("the questions came from %v", p)
		}
	})
}

// TestQuestionsAreBounded: 256 different questions may be in progress. Further ones do not wait,
// are counted, and their mail is taken.
func TestQuestionsAreBounded(t *testing.T) {
	w := newWorld(t, func(o *Options, s *mailStore) {
		o.Config.Timeout = setting.Duration(30 * time.Second)
		s.mute = true
	})
	ctx, giveUp := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range maxFlights {
		all.Go(func() {
			_, _ = w.Check.Check(ctx, query(fmt.Sprintf("x%d@example.com", i), 0))
		})
	}
	testkit.Eventually(t, "all to ask", func() bool { return w.State.count.asked.Load() == maxFlights })
	began := time.Now()
	w.expect("ann@example.com", 0, "error")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("waited for %v", took)
	}
	if got := w.metric("quota_memory_total"); !strings.Contains(got, "busy 1,") {
		t.Error(got)
	}
	giveUp()
	all.Wait()
}

// TestGrace: what a store lets the last message exceed its limit by is added to limits that do not
// have it, those of a directory, while less than the limit is used. An agent adds it itself.
func TestGrace(t *testing.T) {
	for name, c := range map[string]struct {
		used, hard, limit int64 // of the store and of the directory
		size              int64
		want              string
	}{
		"the last message":           {95 * mb, room.NotKnown, 100 * mb, 15 * mb, "room"},
		"above the grace":            {95 * mb, room.NotKnown, 100 * mb, 16 * mb, "452 4.2.2 mailbox-full"},
		"at the limit":               {100 * mb, room.NotKnown, 100 * mb, 1, "452 4.2.2 mailbox-full"},
		"larger than the limit":      {0, room.NotKnown, 100 * mb, 105 * mb, "room"},
		"larger than with grace":     {0, room.NotKnown, 100 * mb, 111 * mb, "552 5.2.3 too-large"},
		"the agent's limit, its own": {95 * mb, 100 * mb, directory.NotKnown, 6 * mb, "452 4.2.2 mailbox-full"},
	} {
		w := newWorld(t, func(o *Options, s *mailStore) {
			o.Config.Grace = setting.Size(10 * mb)
			o.Directory = &fakeDirectory{entry: directory.Entry{Found: 1, Limit: c.limit, Messages: directory.NotKnown}}
			s.set("ann@example.com", c.used, c.hard)
		})
		if got := w.says("ann@example.com", c.size); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
