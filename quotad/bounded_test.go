// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/check/quota/wire"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// slowStore answers when it may, whatever the deadline: a disk that hangs.
type slowStore struct {
	release chan struct{}
	asked   atomic.Int64
}

func (s *slowStore) look(context.Context, mailbox, int64) (wire.Answer, error) {
	s.asked.Add(1)
	<-s.release
	a := wire.NewAnswer(wire.Room)
	a.Used, a.Hard = 5, 10
	return a, nil
}

// storeFunc is a store of a test.
type storeFunc func(mailbox, int64) (wire.Answer, error)

func (f storeFunc) look(_ context.Context, m mailbox, size int64) (wire.Answer, error) {
	return f(m, size)
}

func newTestStore(kind string, s store) *bounded {
	return newBounded(&StoreConfig{Type: kind}, s, time.Now, func(*bounded, mailbox, error) {})
}

func in(b *bounded, user string) wire.Answer {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return b.ask(ctx, mailbox{user: user}, 0)
}

// A disk that hangs holds four questions; those who ask hear so after two seconds, and other
// stores answer.
func TestDiskHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hung := &slowStore{release: make(chan struct{})}
		b, other := newTestStore("maildir", hung), newTestStore("mbox", storeFunc(func(mailbox, int64) (wire.Answer, error) { return wire.NewAnswer(wire.Room), nil }))
		begin := time.Now()
		answers := make(chan wire.Answer, 600)
		for i := range 300 {
			for range 2 { // equal questions are one
				go func() { answers <- in(b, fmt.Sprint(i)) }()
			}
		}
		synctest.Wait()
		if n := hung.asked.Load(); n != fileSlots {
			t.Errorf("%d questions reached the disk", n)
		}
		if got := in(other, "ann"); got.State != wire.Room {
			t.Errorf("another store: %+v", got)
		}
		why := map[string]int{}
		for range 600 {
			a := <-answers
			why[a.Why]++
		}
		if why[whyBusy] < 80 || why[whyBusy]+why[whyTimeout] != 600 || time.Since(begin) > askTime {
			t.Errorf("%v after %v", why, time.Since(begin))
		}
		close(hung.release)
		synctest.Wait()
		if got := in(b, "late"); got.State != wire.Room {
			t.Errorf("after the disk came back: %+v", got)
		}
	})
}

// While a new answer takes too long, the last one serves for a minute, with its age.
func TestLastAnswerServes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowStore{release: make(chan struct{}, 1)}
		b := newTestStore("maildir", s)
		s.release <- struct{}{}
		if got := in(b, "ann"); got.State != wire.Room || got.Age != 0 {
			t.Errorf("%+v", got)
		}
		time.Sleep(30 * time.Second)
		if got := in(b, "ann"); got.State != wire.Room || got.Used != 5 || got.Age != 32*time.Second {
			t.Errorf("%+v", got)
		}
		time.Sleep(30 * time.Second)
		if got := in(b, "ann"); got.State != wire.Error || got.Why != whyTimeout {
			t.Errorf("%+v", got)
		}
		close(s.release)
		synctest.Wait()
	})
}

func TestStoreThatFails(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]storeFunc{
		"panics": func(mailbox, int64) (wire.Answer, error) { panic("no") },
		"fails":  func(mailbox, int64) (wire.Answer, error) { return wire.NewAnswer(wire.Full), errors.New("no") },
		"error":  func(mailbox, int64) (wire.Answer, error) { return wire.Failed("no"), nil },
	} {
		b := newTestStore("exec", f)
		var logged atomic.Int64
		b.failed = func(*bounded, mailbox, error) { logged.Add(1) }
		if got := in(b, "ann"); got.State != wire.Error || logged.Load() != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A store without numbers answers for one size, and is asked again for another.
func TestAnswersForOneSize(t *testing.T) {
	t.Parallel()
	b := newTestStore("policy", storeFunc(func(_ mailbox, size int64) (wire.Answer, error) {
		if size > 100 {
			return wire.NewAnswer(wire.Full), nil
		}
		return wire.NewAnswer(wire.Room), nil
	}))
	for _, size := range []int64{50, 200, 50, 100} {
		a := b.judge(b.ask(context.Background(), mailbox{user: "ann"}, size), size)
		if (a.State == wire.Full) != (size > 100) {
			t.Errorf("size %d: %+v", size, a)
		}
	}
}
