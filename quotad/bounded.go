// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/kit/flight"
	"rcptgate/kit/recent"
)

// store is one way to find out. A store with numbers answers with Room and the numbers,
// whatever the size; limits are without grace. One without numbers answers for the size. An
// error means "could not find out". look may ignore the end of ctx when a disk hangs.
type store interface {
	look(ctx context.Context, m mailbox, size int64) (wire.Answer, error)
}

const (
	askTime   = 2 * time.Second // for one question
	keepFor   = time.Second     // an answer serves later questions
	staleFor  = time.Minute     // an answer serves while a new one takes too long
	maxKept   = 100_000         // mailboxes
	maxCalls  = 256             // different questions in progress or waiting, of one store
	fileSlots = 4
	slots     = 8
)

// Reasons of an error, for the reply.
const (
	whyBusy    = "busy"
	whyTimeout = "timeout"
	whyStore   = "store"
	whyClock   = "clock"
)

// question is what answers are kept under. The size is 0 where it does not matter.
type question struct {
	user string
	size int64
}

// found is an answer as the store gave it, or why there is none.
type found struct {
	answer wire.Answer
	at     time.Time
	err    error
}

// bounded asks a store, a few questions at a time and equal ones once, and keeps what it said
// for a moment.
type bounded struct {
	config  *StoreConfig
	store   store
	perSize bool // the store answers for one size
	slots   chan struct{}
	calls   *flight.Group[question, found]
	kept    *recent.Map[question, found]
	now     func() time.Time
	failed  func(s *bounded, m mailbox, err error)
}

func newBounded(c *StoreConfig, s store, now func() time.Time, failed func(*bounded, mailbox, error)) *bounded {
	n := slots
	if slices.Contains([]string{"mbox", "maildir", "maildirsize", "file"}, c.Type) {
		n = fileSlots
	}
	return &bounded{config: c, store: s, perSize: c.Type == "policy", slots: make(chan struct{}, n), now: now, failed: failed,
		calls: flight.New[question, found](maxCalls), kept: recent.New[question, found](maxKept)}
}

// has reports whether the store has the domain.
func (b *bounded) has(domain string) bool {
	for _, d := range b.config.Domains {
		if d == "*" || (domain != "" && strings.EqualFold(d, domain)) {
			return true
		}
	}
	return false
}

func (b *bounded) key(m mailbox, size int64) question {
	if !b.perSize {
		size = 0
	}
	return question{m.user, size}
}

// quick answers from what is kept.
func (b *bounded) quick(m mailbox, size int64) (wire.Answer, bool) {
	f := b.kept.Get(b.key(m, size))
	if f.at.IsZero() || b.now().Sub(f.at) >= keepFor {
		return wire.Answer{}, false
	}
	return f.answer, true
}

// ask finds out, by ctx's deadline.
func (b *bounded) ask(ctx context.Context, m mailbox, size int64) wire.Answer {
	if a, ok := b.quick(m, size); ok {
		return a
	}
	key := b.key(m, size)
	call, isNew := b.calls.Join(key)
	if call == nil {
		return wire.Failed(whyBusy)
	}
	if isNew {
		go b.run(call, m, size)
	}
	select {
	case <-call.Done():
		if call.Value.err == nil {
			return call.Value.answer
		}
		if errors.Is(call.Value.err, errBusy) {
			return b.stale(key, whyBusy)
		}
		if errors.Is(call.Value.err, context.DeadlineExceeded) {
			return b.stale(key, whyTimeout)
		}
		return wire.Failed(whyStore)
	case <-ctx.Done():
		return b.stale(key, whyTimeout)
	}
}

// stale is the last answer with its age while a new one takes too long, or why there is none.
func (b *bounded) stale(key question, why string) wire.Answer {
	f := b.kept.Get(key)
	age := b.now().Sub(f.at)
	if f.at.IsZero() || age >= staleFor {
		return wire.Failed(why)
	}
	f.answer.Age += age
	return f.answer
}

var errBusy = errors.New("too many questions in progress")

// run asks the store. It holds its slot until the store lets go of it, so a disk that hangs
// holds as many goroutines as there are slots.
func (b *bounded) run(call *flight.Call[question, found], m mailbox, size int64) {
	defer b.calls.End(call)
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		call.Value.err = errBusy
		return
	}
	at := b.now()
	a, err := b.guarded(ctx, m, size)
	call.Value = found{a, at, err}
	if err != nil {
		b.failed(b, m, err)
		return
	}
	b.kept.Update(call.Key, func(found) found { return call.Value })
}

// guarded is look of a store that may panic: no input ends the process.
func (b *bounded) guarded(ctx context.Context, m mailbox, size int64) (a wire.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the store panicked: this is a mistake in the program, please report it: %v\n%s", p, debug.Stack())
		}
	}()
	a, err = b.store.look(ctx, m, size)
	if err == nil && a.State == wire.Error {
		err = errors.New(a.Why)
	}
	return a, err
}

// judge applies the grace and the size to an answer with numbers. An answer without them
// stays as it is.
func (b *bounded) judge(a wire.Answer, size int64) wire.Answer {
	if a.State != wire.Room {
		return a
	}
	if a.Hard > 0 && a.Used >= 0 && a.Used < a.Hard {
		a.Hard += int64(b.config.Grace)
	}
	if (a.Hard > 0 && a.Used >= 0 && max(size, 1) > a.Hard-a.Used) || (a.Max > 0 && a.Messages >= a.Max) {
		a.State = wire.Full
	}
	return a
}

// plainly is the verdict of the plain words, which know no size: a mailbox is full when it is
// over its limit.
func plainly(a wire.Answer) wire.Answer {
	if a.State == wire.Full && a.Hard > 0 && a.Used >= 0 && a.Used <= a.Hard && (a.Max <= 0 || a.Messages < a.Max) {
		a.State = wire.Room
	}
	return a
}
