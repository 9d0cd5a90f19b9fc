// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// trials is a breaker's view of a backend that is up or down, in the time of a bubble.
type trials struct {
	mu     sync.Mutex
	down   *Failure
	takes  time.Duration
	began  []time.Time
	now    int
	most   int
	turns  []bool // true: opened
	logged int
	asked  time.Time
}

func (v *trials) trial(budget time.Duration) *Failure {
	v.mu.Lock()
	v.began = append(v.began, time.Now())
	v.now++
	v.most = max(v.most, v.now)
	takes := v.takes
	v.mu.Unlock()
	time.Sleep(min(takes, budget))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now--
	return v.down
}

func (v *trials) turned(cause *Failure) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.turns = append(v.turns, cause != nil)
}

func (v *trials) wasTurned(*Failure, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.logged++
}

func (v *trials) lastAsked() time.Time { return v.asked }

// heard is how the breaker turned, and how many log lines it would have written.
func (v *trials) heard() (turns []bool, logged int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.turns), v.logged
}

func (v *trials) mustHear(t *testing.T, turns ...bool) {
	t.Helper()
	synctest.Wait()
	if got, logged := v.heard(); !slices.Equal(got, turns) || logged != len(turns) {
		t.Errorf("turned %v, %d log lines; want %v", got, logged, turns)
	}
}

func (v *trials) set(down *Failure) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.down = down
}

func (v *trials) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.began)
}

var (
	refusedConnection = &Failure{Stage: StageConnect, Kind: KindNoConnection, Err: errors.New("refused")}
	silence           = &Failure{Stage: StageMail, Kind: KindTimeout}
	unclearSilence    = &Failure{Stage: StageMail, Kind: KindTimeout, unclear: true}
)

// withBreaker runs f in a bubble. The backend is up.
func withBreaker(t *testing.T, f func(b *breaker, v *trials)) {
	synctest.Test(t, func(*testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		v := &trials{asked: time.Now().Add(24 * time.Hour)}
		var wg sync.WaitGroup
		b := newBreaker(ctx, &wg, v, &tuning{trialEvery: 5 * time.Second, trialSlow: time.Minute})
		time.Sleep(time.Hour)
		f(b, v)
		cancel()
		b.close()
		wg.Wait()
	})
}

func TestFailuresInARowOpenTheBreaker(t *testing.T) {
	withBreaker(t, func(b *breaker, v *trials) {
		v.set(refusedConnection)
		harmless := &Failure{Stage: StageConnect, Kind: KindCancelled}
		later := &Failure{Stage: StageMail, Kind: KindReply, Reply: &Reply{Code: 452}}
		for _, fail := range []*Failure{refusedConnection, refusedConnection, harmless, later, harmless} {
			b.failed(fail)
		}
		b.answered()
		for range tripAfter - 1 {
			b.failed(refusedConnection)
		}
		if cause, open := b.open(); open {
			t.Fatalf("open: %v", cause)
		}
		b.failed(refusedConnection)
		if cause, open := b.open(); !open || cause != refusedConnection {
			t.Errorf("open %v for %v", open, cause)
		}
		v.mustHear(t, true)
		time.Sleep(12 * time.Second)
		if n := v.count(); n != 2 { // after 5 and 10 s
			t.Errorf("%d trials", n)
		}
		v.set(nil)
		time.Sleep(5 * time.Second)
		v.mustHear(t, true, false)
		time.Sleep(time.Hour)
		if n := v.count(); n != 3 {
			t.Errorf("%d trials of a backend that answers", n)
		}
	})
}

func TestAnAnswerClosesTheBreaker(t *testing.T) {
	withBreaker(t, func(b *breaker, v *trials) {
		v.set(refusedConnection)
		b.silent(silence, 8*time.Second)
		synctest.Wait()
		if _, open := b.open(); !open || v.count() != 1 {
			t.Errorf("open %v, %d trials: the first starts at once", open, v.count())
		}
		b.answered() // a probe that was under way
		if _, open := b.open(); open {
			t.Error("open")
		}
	})
}

// Without questions trials slow down; the first question brings their pace back.
func TestTrialsSlowDownWithoutQuestions(t *testing.T) {
	withBreaker(t, func(b *breaker, v *trials) {
		v.set(refusedConnection)
		v.asked = time.Now()
		b.silent(silence, time.Second)
		time.Sleep(demandFor + time.Minute)
		before := v.count()
		if want := int(demandFor / (5 * time.Second)); before < want || before > want+3 {
			t.Errorf("%d trials in the first minutes, want about %d", before, want)
		}
		time.Sleep(time.Hour)
		if n := v.count() - before; n < 59 || n > 61 {
			t.Errorf("%d trials in an hour", n)
		}
		time.Sleep(10 * time.Second)
		before = v.count()
		b.open()
		synctest.Wait()
		if v.count() != before+1 {
			t.Error("a question starts no trial")
		}
	})
}

func TestTrialsThatHangAreBounded(t *testing.T) {
	withBreaker(t, func(b *breaker, v *trials) {
		v.takes = time.Hour
		v.set(silence)
		b.silent(silence, time.Hour)
		time.Sleep(10 * time.Minute)
		if v.most > maxTrials {
			t.Errorf("%d trials at once", v.most)
		}
		if n := v.count(); n < 60 {
			t.Errorf("%d trials in ten minutes", n)
		}
	})
}

// Silence after commands in one write proves nothing: a trial decides.
func TestSuspicion(t *testing.T) {
	withBreaker(t, func(b *breaker, v *trials) {
		v.takes = time.Second
		for range 50 {
			b.silent(unclearSilence, 8*time.Second)
			b.failed(unclearSilence)
		}
		time.Sleep(2 * time.Second)
		if v.count() != 1 {
			t.Errorf("%d trials", v.count())
		}
		v.mustHear(t)
		b.silent(unclearSilence, 8*time.Second)
		synctest.Wait()
		if v.count() != 1 {
			t.Error("tried again at once")
		}
		time.Sleep(5 * time.Second)
		v.set(silence)
		b.silent(unclearSilence, 8*time.Second)
		time.Sleep(500 * time.Millisecond)
		v.mustHear(t) // the trial has not ended
		time.Sleep(time.Second)
		if cause, open := b.open(); !open || cause != silence {
			t.Errorf("open %v for %v after a trial that failed", open, cause)
		}
	})
}

// What is answered while a suspected backend is tried clears it.
func TestAnAnswerBeatsATrial(t *testing.T) {
	withBreaker(t, func(b *breaker, v *trials) {
		v.takes = time.Second
		v.set(silence)
		if !b.suspect(8 * time.Second) {
			t.Fatal("no trial")
		}
		time.Sleep(500 * time.Millisecond)
		b.answered()
		time.Sleep(time.Minute)
		if _, open := b.open(); open {
			t.Error("open")
		}
	})
}

func TestAClosedBreakerDoesNothing(t *testing.T) {
	withBreaker(t, func(b *breaker, v *trials) {
		b.close()
		b.silent(silence, time.Second)
		if b.suspect(time.Second) {
			t.Error("a trial has begun")
		}
		time.Sleep(time.Minute)
		if v.count() != 0 {
			t.Errorf("%d trials", v.count())
		}
	})
}
