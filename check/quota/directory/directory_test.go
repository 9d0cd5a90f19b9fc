// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rcptgate/store"
)

// bubble runs a test with a clock of its own, and closes what it opens.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// An entry is asked for once, serves for an hour, and is refreshed in the background from
// half of that on.
func TestKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		l.find(d, "ann", annEntry)
		l.find(d, "ANN", annEntry)
		time.Sleep(29 * time.Minute)
		l.find(d, "ann", annEntry)
		synctest.Wait()
		if made, searches := f.counts(); made != 1 || searches != 1 {
			t.Errorf("%d connections, %d searches before half of the life; want 1, 1", made, searches)
		}
		time.Sleep(2 * time.Minute)
		f.set(func(f *fake) {
			f.search = func(s *session, id int64, _ string) {
				s.send(found(id, "uid=ann", "mailHost", "store2.test"), done(id, 0))
			}
		})
		l.find(d, "ann", annEntry) // served at once
		l.find(d, "ann", annEntry)
		synctest.Wait()
		if _, searches := f.counts(); searches != 2 {
			t.Errorf("%d searches after half of the life, want 2", searches)
		}
		l.find(d, "ann", Entry{Found: 1, Host: "store2.test", Limit: NotKnown, Messages: NotKnown, DN: "uid=ann"})
		if e, _ := d.Find(t.Context(), mailbox("ann", "test")); e.Age != 0 {
			t.Errorf("age %v after a refresh", e.Age)
		}
	})
}

// With no server an entry serves for a day, and no longer; nobody waits for servers that
// rest.
func TestDay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one", "two")
		d := l.open(nil, "ldap://one", "ldap://two")
		defer d.Close()
		l.find(d, "ann", annEntry)
		for _, f := range l.fakes {
			f.set(func(f *fake) { f.refuse = true })
			f.cut()
		}
		stale := annEntry
		for hours := range 24 {
			start := time.Now()
			if stale.Stale = hours > 0; hours < 24 {
				l.find(d, "ann", stale)
			}
			l.lost(d, "bob", ErrDown)
			if took := time.Since(start); took > 200*time.Millisecond {
				t.Errorf("took %v after %d hours", took, hours)
			}
			time.Sleep(time.Hour)
		}
		if !l.raised("quota-ldap") || !l.raised("quota-ldap ldap://one") {
			t.Errorf("nothing was reported: %v", l.board.List())
		}
		l.lost(d, "ann", ErrDown)
		for _, f := range l.fakes {
			f.set(func(f *fake) { f.refuse = false })
		}
		time.Sleep(rest)
		_, _ = d.Find(t.Context(), mailbox("ann", "test")) // has a trial begun
		synctest.Wait()
		l.find(d, "ann", annEntry)
		if l.raised("quota-ldap") {
			t.Error("still reported as down")
		}
	})
}

// The first server is gone: the second is asked, and the first again when it is back.
func TestSecondServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one", "two")
		d := l.open(nil, "ldap://one", "ldap://two")
		defer d.Close()
		one, two := l.fakes["one"], l.fakes["two"]
		one.set(func(f *fake) { f.search = func(s *session, _ int64, _ string) { swallow(s) } }) // mute
		for i := range 10 {
			start := time.Now()
			l.find(d, fmt.Sprint("u", i), annEntry)
			took := time.Since(start)
			if i < maxFailed && took > 2100*time.Millisecond || i >= maxFailed && took > 0 {
				t.Errorf("question %d took %v", i, took)
			}
		}
		if _, n := two.counts(); n != 10 {
			t.Errorf("the second server was asked %d times, want 10", n)
		}
		one.set(func(f *fake) { f.search = ann })
		time.Sleep(rest)
		l.find(d, "v", annEntry) // has a trial begun, the second answers
		synctest.Wait()
		l.find(d, "w", annEntry)
		if _, n := two.counts(); n != 11 {
			t.Errorf("the second server was asked %d times, want 11", n)
		}
	})
}

// Whatever a server does, Find ends in time and says nothing of the mailbox.
func TestFaults(t *testing.T) {
	for name, search := range map[string]func(s *session, id int64, filter string){
		"mute":   func(s *session, _ int64, _ string) { swallow(s) },
		"half":   func(s *session, id int64, _ string) { _, _ = s.Write(done(id, 0).Bytes()[:5]); swallow(s) },
		"closed": func(s *session, _ int64, _ string) { _ = s.Close() },
		"half, then closed": func(s *session, id int64, _ string) {
			_, _ = s.Write(found(id, "uid=ann", "uid", "ann").Bytes()[:20])
			_ = s.Close()
		},
		"entry, then closed": func(s *session, id int64, _ string) { s.send(found(id, "uid=ann", "uid", "ann")); _ = s.Close() },
		"entry, then mute":   func(s *session, id int64, _ string) { s.send(found(id, "uid=ann", "uid", "ann")); swallow(s) },
		"wrong id":           func(s *session, id int64, _ string) { s.send(found(id+7, "uid=ann"), done(id+7, 0)) },
		"referral":           func(s *session, id int64, _ string) { s.send(done(id, 10)) },
		"busy":               func(s *session, id int64, _ string) { s.send(done(id, 51)) },
		"no such base":       func(s *session, id int64, _ string) { s.send(done(id, 32)) },
		"no rights":          func(s *session, id int64, _ string) { s.send(done(id, 50)) },
		"garbage": func(s *session, _ int64, _ string) {
			_, _ = s.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			swallow(s)
		},
		"other tag": func(s *session, id int64, _ string) { s.send(result(id, 29, 0)); swallow(s) },
		"no attributes": func(s *session, id int64, _ string) {
			p, op := envelope(id), ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
			op.AppendChild(text("uid=ann"))
			p.AppendChild(op)
			s.send(p, done(id, 0))
		},
		"disconnection": func(s *session, _ int64, _ string) { s.send(result(0, 24, 52)); _ = s.Close() },
		"huge": func(s *session, _ int64, _ string) {
			_, _ = s.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x04, 0x84, 0x7f, 0xff, 0xff, 0xf0})
			for {
				if _, err := s.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
		"endless entries": func(s *session, _ int64, _ string) {
			for {
				if _, err := s.Write(found(99, strings.Repeat("x", 4000)).Bytes()); err != nil {
					return
				}
			}
		},
		"deep": func(s *session, _ int64, _ string) {
			for {
				if _, err := s.Write([]byte{0x30, 0x80}); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newWorld(t, "one")
				l.fakes["one"].search = search
				d := l.open(nil, "ldap://one")
				defer d.Close()
				defer l.fakes["one"].cut()
				for i := range 5 {
					start := time.Now()
					l.lost(d, fmt.Sprint("u", i), ErrDown)
					if took := time.Since(start); took > 3*time.Second {
						t.Errorf("took %v", took)
					}
				}
				if found, empty := d.memory.len(); found+empty > 0 {
					t.Errorf("%d and %d answers were remembered", found, empty)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				start := time.Now()
				if _, err := d.Find(ctx, mailbox("v", "test")); err == nil || time.Since(start) > 50*time.Millisecond {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				// An answer after the trouble is believed.
				l.fakes["one"].set(func(f *fake) { f.search = ann })
				time.Sleep(2 * rest)
				_, _ = d.Find(t.Context(), mailbox("w", "test"))
				time.Sleep(2 * rest)
				l.find(d, "x", annEntry)
			})
		})
	}
}

// A server that closes idle connections costs nobody an answer.
func TestClosedWhileIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		for i := range 3 {
			l.find(d, fmt.Sprint("u", i), annEntry)
			l.fakes["one"].cut()
			time.Sleep(time.Second)
		}
		l.find(d, "v", annEntry)
		time.Sleep(2 * idleLimit)
		l.find(d, "w", annEntry)
		if made, _ := l.fakes["one"].counts(); made != 5 {
			t.Errorf("%d connections, want 5", made)
		}
		if l.raised("quota-ldap ldap://one") {
			t.Errorf("reported: %v", l.board.List())
		}
	})
}

// No entry and two entries say nothing, for a minute; two are reported.
func TestNoneAndSeveral(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		nothing := Entry{Limit: NotKnown, Messages: NotKnown}
		f.set(func(f *fake) { f.search = func(s *session, id int64, _ string) { s.send(done(id, 0)) } })
		l.find(d, "ann", nothing)
		f.set(func(f *fake) { f.search = ann })
		l.find(d, "ann", nothing)
		time.Sleep(emptyKeep)
		l.find(d, "ann", annEntry)

		two := nothing
		two.Found = 2
		for name, search := range map[string]func(s *session, id int64, _ string){
			"two":   func(s *session, id int64, _ string) { s.send(found(id, "a"), found(id, "b"), done(id, 0)) },
			"limit": func(s *session, id int64, _ string) { s.send(found(id, "a"), done(id, 4)) },
			"three": func(s *session, id int64, _ string) {
				s.send(found(id, "a"), found(id, "b"), found(id, "c"), done(id, 0))
			},
		} {
			f.set(func(f *fake) { f.search = search })
			l.find(d, name, two)
		}
		if !l.raised("quota-ldap several") {
			t.Error("nothing was reported")
		}
		if found, empty := d.memory.len(); found != 1 || empty != 3 {
			t.Errorf("%d and %d remembered", found, empty)
		}
	})
}

// Equal questions share a look-up; who leaves early does not end it for the others, and what
// it finds is remembered.
func TestShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		l.fakes["one"].search = func(s *session, id int64, f string) {
			time.Sleep(500 * time.Millisecond)
			ann(s, id, f)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := d.Find(ctx, mailbox("ann", "test")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the asker's deadline", err)
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { l.find(d, "ann", annEntry) })
		}
		all.Wait()
		l.find(d, "ann", annEntry)
		if _, n := l.fakes["one"].counts(); n != 1 {
			t.Errorf("%d searches, want 1", n)
		}
	})
}

// Too many look-ups at a time: the rest says so at once.
func TestBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		defer l.fakes["one"].cut()
		l.fakes["one"].search = func(*session, int64, string) {}
		for i := range maxAsking {
			go func() { _, _ = d.Find(t.Context(), mailbox(fmt.Sprint("u", i), "test")) }()
		}
		synctest.Wait()
		start := time.Now()
		l.lost(d, "v", ErrBusy)
		if time.Since(start) > 0 {
			t.Error("it waited")
		}
	})
}

// Close ends look-ups in progress.
func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(func(c *Config) { c.Timeout = 30_000_000_000 }, "ldap://one")
		l.fakes["one"].search = func(s *session, _ int64, _ string) { swallow(s) }
		ended := make(chan error)
		go func() {
			_, err := d.Find(t.Context(), mailbox("ann", "test"))
			ended <- err
		}()
		synctest.Wait()
		start := time.Now()
		d.Close()
		if err := <-ended; err == nil || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		l.lost(d, "bob", nil)
	})
}

// A reload with other servers keeps what was found; with another base or schema it does not.
func TestReload(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one", "two")
		d := l.open(nil, "ldap://one")
		l.find(d, "ann", annEntry)
		l.fakes["one"].set(func(f *fake) { f.refuse = true })
		next := l.open(nil, "ldap://two")
		d.Close()
		l.find(next, "ann", annEntry)
		if made, _ := l.fakes["two"].counts(); made != 0 {
			t.Error("it was asked for again")
		}
		l.find(next, "bob", annEntry)

		c := Defaults()
		c.URL, c.Base, c.Schema, c.StartTLS = []string{"ldap://two"}, "dc=other", "qmail", "off"
		refused, err := l.Open(&c) // and never adopted
		if err != nil {
			t.Fatal(err)
		}
		refused.Close()
		l.find(next, "ann", annEntry)
		if _, n := l.fakes["two"].counts(); n != 1 {
			t.Errorf("%d searches, want 1", n)
		}
		other := l.open(func(c *Config) { c.Base = "dc=other" }, "ldap://two")
		next.Close()
		defer other.Close()
		l.find(other, "ann", annEntry)
		if _, n := l.fakes["two"].counts(); n != 2 {
			t.Errorf("%d searches, want 2", n)
		}
	})
}

// What is forgotten is asked for again, and a look-up begun before is not kept.
func TestForget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		l.find(d, "ann", annEntry)
		l.Forget(store.Pattern{Address: "bob@test"})
		l.find(d, "ann", annEntry)
		if _, n := l.fakes["one"].counts(); n != 1 {
			t.Errorf("%d searches, want 1", n)
		}
		l.fakes["one"].set(func(f *fake) {
			f.search = func(s *session, id int64, f string) { time.Sleep(time.Second / 2); ann(s, id, f) }
		})
		l.Forget(store.Pattern{Address: "ann@test"})
		go l.Find(t, d, "ann")
		synctest.Wait()
		l.Forget(store.Pattern{Domain: "test"})
		time.Sleep(time.Second)
		if found, _ := d.memory.len(); found != 0 {
			t.Error("a look-up from before was kept")
		}
		l.find(d, "ann", annEntry)
		if _, n := l.fakes["one"].counts(); n != 3 {
			t.Errorf("%d searches, want 3", n)
		}
	})
}

func (l *world) Find(t *testing.T, d *Directory, local string) {
	_, _ = d.Find(t.Context(), mailbox(local, "test"))
}

// A flood of names without an entry does not push out mailboxes, and memory is bounded.
func TestBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(func(c *Config) { c.Entries = 1000 }, "ldap://one")
		defer d.Close()
		l.find(d, "ann", annEntry)
		l.fakes["one"].set(func(f *fake) { f.search = func(s *session, id int64, _ string) { s.send(done(id, 0)) } })
		for i := range 3000 {
			_, _ = d.Find(t.Context(), mailbox(fmt.Sprint("u", i), "test"))
		}
		l.find(d, "ann", annEntry)
		if found, empty := d.memory.len(); found != 1 || empty > 200 {
			t.Errorf("%d and %d remembered", found, empty)
		}
	})
}

// Names that no entry can have reach no server.
func TestHopelessNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(nil, "ldap://one")
		defer d.Close()
		for _, local := range []string{"a\x00b", "a\r\nb", "\xff\xfe", strings.Repeat("x", 64<<10)} {
			l.find(d, local, Entry{Limit: NotKnown, Messages: NotKnown})
		}
		if _, n := l.fakes["one"].counts(); n != 0 {
			t.Errorf("%d searches", n)
		}
		l.find(d, "a*)(uid=*", annEntry)
		if got, want := l.fakes["one"].filters[0], `(|(mail=a\2a\29\28uid=\2a@test)(mailAlternateAddress=a\2a\29\28uid=\2a@test))`; got != want {
			t.Errorf("asked with %s, want %s", got, want)
		}
	})
}

// A refused bind is reported and not repeated for a minute.
func TestBind(t *testing.T) {
	password := write(t, "secret\n")
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		l.fakes["one"].bindCode = 49
		d := l.open(func(c *Config) { c.Bind, c.PasswordFile = "cn=gate", password }, "ldap://one")
		defer d.Close()
		for i := range 30 {
			l.lost(d, fmt.Sprint("u", i), ErrDown)
			time.Sleep(time.Second)
		}
		if made, _ := l.fakes["one"].counts(); made != 1 {
			t.Errorf("%d binds within half a minute", made)
		}
		l.fakes["one"].set(func(f *fake) { f.bindCode = 0 })
		time.Sleep(longRest)
		l.lost(d, "v", ErrDown)
		synctest.Wait()
		l.find(d, "w", annEntry)
	})
}

func BenchmarkServed(b *testing.B) {
	s := NewState(nil)
	c := Defaults()
	c.URL, c.Base, c.Schema = []string{"ldap://one"}, "dc=test", "qmail"
	d, err := s.Open(&c)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	m := mailbox("ann", "example.org")
	d.memory.put(keyOf(m), annEntry, time.Now(), 0)
	b.ReportAllocs()
	for b.Loop() {
		if e, err := d.Find(b.Context(), m); err != nil || e.Found != 1 {
			b.Fatal(e, err)
		}
	}
}

// A remembered entry costs no allocation.
func TestServedAllocatesNothing(t *testing.T) {
	s := NewState(nil)
	c := Defaults()
	c.URL, c.Base, c.Schema = []string{"ldap://one"}, "dc=test", "qmail"
	d, err := s.Open(&c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m, ctx := mailbox("ann", "example.org"), t.Context()
	d.memory.put(keyOf(m), annEntry, time.Now(), 0)
	if n := testing.AllocsPerRun(100, func() { _, _ = d.Find(ctx, m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An entry that says over quota is asked for again soon: whoever has cleaned up gets mail. While
// no server answers, its flag is said to be old.
func TestOverQuotaEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newWorld(t, "one")
		d := l.open(func(c *Config) { c.Schema = "sun" }, "ldap://one")
		defer d.Close()
		f := l.fakes["one"]
		says := func(status string) {
			f.set(func(f *fake) {
				f.search = func(s *session, id int64, _ string) {
					s.send(found(id, "uid=ann", "mailUserStatus", status), done(id, 0))
				}
			})
		}
		full := Entry{Found: 1, Limit: NotKnown, Messages: NotKnown, Flags: OverQuota, DN: "uid=ann"}
		says("overquota")
		l.find(d, "ann", full)
		says("active")
		time.Sleep(20 * time.Second)
		l.find(d, "ann", full)
		time.Sleep(9 * time.Second)
		now := full
		now.Flags = 0
		l.find(d, "ann", now)

		says("overquota")
		l.find(d, "bob", full)
		f.set(func(f *fake) { f.refuse = true })
		f.cut()
		time.Sleep(time.Minute)
		full.Stale = true
		l.find(d, "bob", full)
	})
}
