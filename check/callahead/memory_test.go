// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/route"
	"rcptgate/store"
)

const (
	day  = 24 * time.Hour
	user = "u@example.com"
)

// known has user remembered as valid for a day and an hour: due for refresh.
func known(w *world) *fakeBackend {
	b := w.backend(at1)
	b.all(good)
	w.expect(w.ask(user), "continue 250 - valid probe")
	settle()
	time.Sleep(day + time.Hour)
	return b
}

func TestRefreshInBackground(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		b.all(good.late(5 * time.Second))
		before, _ := b.counts()
		start := time.Now()
		for range 100 {
			w.expect(w.ask(user), "continue 250 - valid ram")
		}
		if time.Since(start) != 0 {
			t.Error("a due answer was not served at once")
		}
		time.Sleep(6 * time.Second)
		if n, _ := b.counts(); n != before+1 {
			t.Errorf("refreshed %d times", n-before)
		}
		rec := w.memory.record(user)
		if rec.Standing.Due(time.Now().Add(day - time.Minute)) {
			t.Error("the refreshed answer is due already")
		}
		if st := w.state.Stats(); st.Refreshes != 1 || st.Probes["valid"] != 2 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestFailedRefreshLeavesTheAnswer(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		b.all(down)
		before, _ := b.counts()
		for range 30 { // over an hour: every two minutes
			w.expect(w.ask(user), "continue 250 - valid ram")
			time.Sleep(2 * time.Minute)
		}
		if n, _ := b.counts(); n-before != 6 {
			t.Errorf("refreshed %d times in an hour, want 6: at least 10 minutes apart", n-before)
		}
	})
}

func TestDemotionNeedsThreeConfirmationsOverSixHours(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		b.all(unknown)
		// Two confirmations, then silence for a day: not enough, however long.
		for range 2 {
			w.expect(w.ask(user), "continue 250 - valid ram")
			time.Sleep(20 * time.Minute)
		}
		if d := w.memory.record(user).Doubt; d.Count != 2 {
			t.Fatalf("doubt %+v", d)
		}
		// A third within six hours: not enough either.
		time.Sleep(5 * time.Hour)
		w.ask(user)
		settle()
		w.expect(w.ask(user), "continue 250 - valid ram")
		if d := w.memory.record(user).Doubt; d.Count != 3 {
			t.Fatalf("doubt %+v", d)
		}
		time.Sleep(time.Hour)
		w.ask(user)
		settle()
		w.expect(w.ask(user), "reject 550 5.1.1 unknown-user ram")
		if w.state.Stats().Demotions != 1 || !strings.Contains(w.log.String(), "recipient no longer exists") {
			t.Errorf("the postmaster was not told: %s", w.log)
		}
	})
}

func TestTwoConfirmationsAreNotEnough(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		b.all(unknown)
		for range 2 {
			w.expect(w.ask(user), "continue 250 - valid ram")
			time.Sleep(7 * time.Hour)
		}
		b.all(down)
		w.expect(w.ask(user), "continue 250 - valid ram")
	})
}

// Field note: a mailbox that is full exists.
func TestFullEndsDoubt(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		b.all(unknown)
		w.ask(user)
		settle()
		time.Sleep(11 * time.Minute)
		b.all(full)
		w.ask(user)
		settle()
		if d := w.memory.record(user).Doubt; d.Count != 0 {
			t.Errorf("doubt %+v", d)
		}
	})
}

func TestValidAnswerEndsDoubt(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := known(w)
		for i := range 12 { // a directory that fails now and then
			b.all(unknown)
			if i == 6 {
				b.all(good)
			}
			w.expect(w.ask(user), "continue 250 - valid ram")
			settle()
			if i == 6 {
				if d := w.memory.record(user).Doubt; d.Count != 0 {
					t.Fatalf("doubt %+v after a valid answer", d)
				}
				time.Sleep(day)
			}
			time.Sleep(59 * time.Minute)
		}
	})
}

// A probe that was under way when it turned out that every name is taken.
func TestValidOfAnAcceptAllBackendIsNotKept(t *testing.T) {
	now := time.Now()
	s, _ := newSettings(new(Config), ptr(DefaultLives()), nil)
	c := change{settings: s, out: &outcome{answer: store.Answer{Class: store.Valid, Code: 250}}, began: now, now: now, acceptAll: true}
	if rec := c.apply(store.Record{}).rec; !rec.IsZero() {
		t.Errorf("kept %+v", rec)
	}
	old := store.Record{
		Standing:  store.Answer{Class: store.Valid, Code: 251, Expire: now.Add(day)},
		Transient: store.Answer{Class: store.Full, Code: 452, Expire: now.Add(time.Minute)},
	}
	if rec := c.apply(old).rec; rec.Standing != old.Standing || rec.Transient.Class != store.None {
		t.Errorf("kept %+v", rec)
	}
}

func TestConfirmationsAreTenMinutesApart(t *testing.T) {
	now := time.Now()
	s, _ := newSettings(new(Config), new(Lives), nil)
	s.expire = 31 * day
	rec := store.Record{Standing: store.Answer{Class: store.Valid, Expire: now.Add(day)}}
	out := outcome{answer: store.Answer{Class: store.Unknown, Code: 550}}
	for i := range 9 { // other gateways ask too, every two minutes
		c := change{settings: s, out: &out, began: now, now: now.Add(time.Duration(i) * 2 * time.Minute)}
		rec = c.apply(rec).rec
	}
	if rec.Doubt.Count != 2 {
		t.Errorf("%d confirmations in 16 minutes, want 2", rec.Doubt.Count)
	}
}

func TestDemotionStopsWhenADomainLooksUnknown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good)
		for i := range 20 {
			w.ask(fmt.Sprintf("u%d@example.com", i))
		}
		time.Sleep(day + time.Hour)
		b.all(unknown) // the directory is empty, for two days
		for range 48 {
			for i := range 20 {
				w.expect(w.ask(fmt.Sprintf("u%d@example.com", i)), "continue 250 - valid ram")
				settle() // a domain has only so many refreshes at a time
			}
			time.Sleep(time.Hour)
		}
		st := w.state.Stats()
		if st.Demotions != 0 || st.DemotionsHeld == 0 || !strings.Contains(w.log.String(), "Is its directory complete?") {
			t.Errorf("stats %+v, log %s", st, w.log)
		}
	})
}

// The postmaster hears of a directory that fails with the first wave of refreshes, not
// when the first answer would have been taken back, six hours later.
func TestTheFirstWaveOfUnknownsIsTold(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good)
		for i := range heldLeast {
			w.ask(fmt.Sprintf("u%d@example.com", i))
		}
		time.Sleep(day + time.Hour)
		b.all(unknown)
		const line = "Is its directory complete?"
		for i := range heldLeast {
			if strings.Contains(w.log.String(), line) {
				t.Errorf("told after %d unknown", i)
			}
			w.ask(fmt.Sprintf("u%d@example.com", i))
			settle()
		}
		if n := strings.Count(w.log.String(), line); n != 1 || w.state.Stats().DemotionsHeld != 0 {
			t.Errorf("told %d times at the first wave: %s", n, w.log)
		}
		for range 12 { // and not with every wave
			time.Sleep(refreshApart)
			for i := range heldLeast {
				w.ask(fmt.Sprintf("u%d@example.com", i))
				settle()
			}
		}
		if n := strings.Count(w.log.String(), line); n > 3 {
			t.Errorf("told %d times in two hours", n)
		}
	})
}

func TestWindow(t *testing.T) {
	start := time.Now()
	var w window
	for i := range 9 {
		w.count(fmt.Sprint(i), true, start)
	}
	if w.over(start) {
		t.Error("9 are held")
	}
	w.count("0", true, start.Add(30*time.Minute))
	if w.over(start.Add(30 * time.Minute)) {
		t.Error("one recipient counts twice within the hour")
	}
	w.count("9", true, start)
	if !w.over(start) {
		t.Error("10 of 10 are not held")
	}
	for i := range 190 {
		w.count(fmt.Sprint("v", i), false, start)
	}
	if w.over(start) {
		t.Error("10 of 200, 5 %, are held")
	}
	w.count("10", true, start)
	if !w.over(start) {
		t.Error("11 of 201 are not held")
	}
	if w.over(start.Add(windowSpan + 5*time.Minute)) {
		t.Error("held after the hour")
	}
}

// Full, refused and deferred are kept next to a valid answer: while they last they are
// the answer, afterwards the backend is asked again, and if it is down the valid
// answer serves.
func TestPassingAnswers(t *testing.T) {
	for _, tt := range []struct {
		name string
		say  said
		want string
		life time.Duration
	}{
		{"full", full, "tempfail 452 4.2.2 mailbox-full", 25 * time.Second},
		{"deferred", greylisted, "tempfail 450 4.2.0 deferred", 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				b := known(w)
				b.all(tt.say)
				w.expect(w.ask(user), "continue 250 - valid ram") // starts the refresh
				settle()
				w.expect(w.ask(user), tt.want+" ram")
				time.Sleep(tt.life + time.Second)
				w.expect(w.ask(user), tt.want+" probe")
				time.Sleep(tt.life + time.Second)
				b.all(down)
				w.expect(w.ask(user), "continue 250 - valid ram")
				b.all(unknown)
				w.expect(w.ask(user), "continue 250 - valid ram") // one word against it
				b.all(good)
				w.expect(w.ask(user), "continue 250 - valid probe")
				if rec := w.memory.record(user); rec.Transient.Class != store.None || rec.Doubt.Count != 0 {
					t.Errorf("record %+v", rec)
				}
			})
		})
	}
}

func TestRouteChange(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b1, b2 := w.backend(at1), w.backend(at2)
		b1.say(user, good)
		w.ask(user)
		w.ask("no@example.com")
		b1.say("full@example.com", full)
		w.ask("full@example.com")
		settle()
		time.Sleep(11 * time.Minute)
		b1.say("full@example.com", full)
		w.ask("full@example.com")

		w.domains[0].Backend = []string{at2}
		w.configure()
		b2.all(good)
		w.expect(w.ask("no@example.com"), "continue 250 - valid probe")
		w.expect(w.ask("full@example.com"), "continue 250 - valid probe")
		before, _ := b2.counts()
		w.expect(w.ask(user), "continue 250 - valid ram")
		settle()
		if n, _ := b2.counts(); n != before+1 {
			t.Errorf("the valid answer of the old backend was refreshed %d times", n-before)
		}
		if rec := w.memory.record(user); rec.Standing.Backend != at2 {
			t.Errorf("record %+v", rec)
		}
	})
}

func TestOneProbeForEqualQuestions(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good.late(200 * time.Millisecond))
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() { w.expect(w.ask("U@example.com"), "continue 250 - valid probe") })
		}
		wg.Wait()
		settle()
		if asked, tests := b.counts(); asked != 1 || tests != 1 {
			t.Errorf("500 questions made %d probes and %d accept-all tests", asked, tests)
		}
		if n := w.state.Stats().Joined; n != 499 {
			t.Errorf("%d joined", n)
		}
	})
}

func TestForgetWhileAsking(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(unknown.late(5 * time.Second))
		var wg sync.WaitGroup
		wg.Go(func() { w.expect(w.ask(user), "continue 250 - valid ram") }) // the later answer counts
		time.Sleep(time.Second)
		w.memory.forget() // the mailbox was created just now
		w.state.Forget(store.Pattern{Address: user})
		b.all(good.late(time.Second))
		w.expect(w.ask(user), "continue 250 - valid probe")
		wg.Wait()
		w.expect(w.ask(user), "continue 250 - valid ram")
		if n, _ := b.counts(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestForgetDropsWhatWasBegunBefore(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(unknown.late(5 * time.Second))
		var wg sync.WaitGroup
		wg.Go(func() { w.expect(w.ask(user), "reject 550 5.1.1 unknown-user probe") })
		time.Sleep(time.Second)
		w.memory.forget()
		w.state.Forget(store.Pattern{Domain: "example.com"})
		wg.Wait()
		if len(w.memory.all()) != 0 {
			t.Errorf("remembered %v", w.memory.all())
		}
	})
}

func TestReloadKeepsWhatIsInProgress(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.backend(at1).all(unknown.late(2 * time.Second))
		var wg sync.WaitGroup
		wg.Go(func() { w.expect(w.ask(user), "reject") })
		time.Sleep(time.Second)
		w.configure()
		w.expect(w.ask(user), "reject 550 5.1.1 unknown-user probe")
		wg.Wait()
		if n, _ := w.backend(at1).counts(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestDomainLives(t *testing.T) {
	inBubble(t, func(w *world) {
		w.domains = append(w.domains, route.DomainConfig{Name: "short.example", Backend: []string{at2}})
		d := DomainConfig{Unknown: &Life{Expire: duration(time.Minute)}, Valid: &RefreshedLifeChange{Refresh: ptr(duration(time.Hour))}, PositiveOnly: ptr(false)}
		w.opt.Domains = []DomainConfig{{}, d}
	}, func(t *testing.T, w *world) {
		w.ask("no@example.com")
		w.ask("no@short.example")
		time.Sleep(2 * time.Minute)
		w.expect(w.ask("no@example.com"), "reject 550 5.1.1 unknown-user ram")
		w.expect(w.ask("no@short.example"), "reject 550 5.1.1 unknown-user probe")
		w.backend(at2).all(good)
		w.ask("u@short.example")
		if a := w.memory.record("u@short.example").Standing; a.Refresh.Sub(a.Learnt) != time.Hour || a.Expire.Sub(a.Learnt) != 31*day {
			t.Errorf("answer %+v", a)
		}
	})
}

func TestRefreshQueueIsBounded(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.all(good)
		for i := range 60 {
			w.ask(fmt.Sprintf("u%d@example.com", i))
		}
		time.Sleep(day + time.Hour)
		b.all(good.late(5 * time.Second))
		before, _ := b.counts()
		for i := range 60 {
			w.ask(fmt.Sprintf("u%d@example.com", i))
		}
		settle()
		if n, _ := b.counts(); n-before > refreshPerName {
			t.Errorf("%d refreshes of one domain at a time", n-before)
		}
		if st := w.state.Stats(); st.RefreshesDropped == 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func ptr[T any](v T) *T { return &v }
