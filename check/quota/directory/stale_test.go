// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/store"
)

// counted gives a counter by its metric and label.
func (l *world) counted(name, label string) (value float64) {
	value = -1
	for _, f := range l.Metrics() {
		if f.Name != "quota_ldap_"+name || f.Read == nil {
			continue
		}
		f.Read(func(v float64, labels ...string) {
			if len(labels) == 0 && label == "" || len(labels) > 0 && labels[0] == label {
				value = v
			}
		})
	}
	return value
}

// TestStaleIsServedSoon has the only server go mute: whoever has an old answer waits for a moment
// only, and an answer that says that there is no entry is none.
func TestStaleIsServedSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		l.find(d, "ann", annEntry)
		f.set(func(f *fake) { f.search = func(s *session, id int64, _ string) { s.send(done(id, 0)) } })
		l.find(d, "nobody", Entry{Limit: NotKnown, Messages: NotKnown})
		f.set(func(f *fake) { f.search = func(s *session, _ int64, _ string) { swallow(s) } })
		time.Sleep(keep)
		stale := annEntry
		stale.Stale = true
		for i := range 2 * maxFailed {
			start := time.Now()
			l.find(d, "ann", stale)
			if took := time.Since(start); i == 0 && took != staleWait || took > staleWait {
				t.Errorf("question %d took %v", i, took)
			}
			time.Sleep(2 * time.Second)
		}
		if n := l.counted("memory_total", "stale"); n != 2*maxFailed {
			t.Errorf("%v answers were stale", n)
		}
		l.lost(d, "nobody", nil)
		defer f.cut()
	})
}

// TestRefreshesThatFail holds how often a remembered entry is asked for in the background while
// that finds nothing out.
func TestRefreshesThatFail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		l.find(d, "ann", annEntry)
		f.set(func(f *fake) { f.search = func(s *session, id int64, _ string) { s.send(done(id, 50)) } }) // no rights
		searches := func() int { synctest.Wait(); _, n := f.counts(); return n }
		ask := func(want int) {
			t.Helper()
			l.find(d, "ann", annEntry)
			if n := searches(); n != want {
				t.Errorf("%d searches, want %d", n, want)
			}
		}
		time.Sleep(keep/2 - time.Nanosecond)
		ask(1)
		time.Sleep(time.Nanosecond)
		ask(2)
		ask(2)
		time.Sleep(retry - time.Nanosecond)
		ask(2)
		time.Sleep(time.Nanosecond)
		ask(3)
		if served, refreshed, failed := l.counted("memory_total", "served"), l.counted("refreshes_total", ""), l.counted("lookups_total", "error"); served != 5 || refreshed != 2 || failed != 2 {
			t.Errorf("%v served, %v refreshed, %v failed", served, refreshed, failed)
		}
	})
}

// TestForgetBeginsAnew has a mailbox forgotten while it is looked up: later askers do not join that
// look-up. Without a directory there is nothing to forget.
func TestForgetBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		l.Forget(store.Pattern{Domain: "test"})
		d := l.open(nil, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		f.set(func(f *fake) {
			f.search = func(s *session, id int64, x string) { time.Sleep(time.Second / 2); ann(s, id, x) }
		})
		for range 3 {
			go l.Find(t, d, "ann")
		}
		synctest.Wait()
		l.Forget(store.Pattern{Address: "ann@test"})
		f.set(func(f *fake) { f.search = ann })
		l.find(d, "ann", annEntry)
		if _, n := f.counts(); n != 2 {
			t.Errorf("%d searches, want 2", n)
		}
		if joined, asked, found := l.counted("memory_total", "joined"), l.counted("memory_total", "asked"), l.counted("lookups_total", "found"); joined != 2 || asked != 2 || found != 2 {
			t.Errorf("%v joined, %v asked, %v found", joined, asked, found)
		}
	})
}

// TestWhatIsReported holds notices about entries, their levels, and counters.
func TestWhatIsReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		l.find(d, "ann", annEntry)
		if l.raised("quota-ldap odd") {
			t.Error("a good entry is reported")
		}
		f.set(func(f *fake) {
			f.search = func(s *session, id int64, _ string) {
				s.send(found(id, "uid=bob", "mailQuotaSize", "much", "uid", "bob"), done(id, 0))
			}
		})
		l.find(d, "bob", Entry{Found: 1, User: "bob", Limit: NotKnown, Messages: NotKnown, DN: "uid=bob"})
		if !l.raised("quota-ldap odd") || l.counted("odd_total", "") != 1 {
			t.Errorf("%v entries were odd: %v", l.counted("odd_total", ""), l.board.List())
		}
		f.set(func(f *fake) {
			f.search = func(s *session, id int64, _ string) { s.send(found(id, "a"), found(id, "b"), done(id, 0)) }
		})
		l.find(d, "cid", Entry{Found: 2, Limit: NotKnown, Messages: NotKnown})
		f.set(func(f *fake) { f.search = func(s *session, id int64, _ string) { s.send(done(id, 0)) } })
		l.find(d, "dan", Entry{Limit: NotKnown, Messages: NotKnown})
		if several, none := l.counted("lookups_total", "several"), l.counted("lookups_total", "none"); several != 1 || none != 1 {
			t.Errorf("%v several, %v none", several, none)
		}
		f.set(func(f *fake) { f.refuse = true })
		f.cut()
		l.lost(d, "eva", ErrDown)
		for _, n := range l.board.List() {
			if n.Key == "quota-ldap" && n.Level != slog.LevelError || n.Key == "quota-ldap ldap://one" && n.Level != slog.LevelWarn {
				t.Errorf("%+v", n)
			}
		}
		d.Close()
		d.Close() // again
	})
}
