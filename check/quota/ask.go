// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/check/quota/directory"
	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/kit/term"
)

// landing is what one question has found out.
type landing struct {
	size    int64 // that was asked about
	use     room.Use
	entry   room.Entry
	by      *source.Guarded // who said it; nil: nobody knew the mailbox, or the directory
	note    string
	err     error
	tooFull bool // the directory itself says that the mailbox is full
}

// question is what one flight asks. It holds nothing of the query it came from.
type question struct {
	check   *Check
	sources []source.Spec
	mailbox source.Mailbox
	target  rcptgate.Mailbox
	key     string
	size    int64
	forgets uint64
	early   bool // before the end of what is remembered
}

var (
	errBusy = errors.New("too many questions are in progress")
	errLate = errors.New("no answer in time; it will be remembered when it comes")
)

// ask asks, or joins who asks already, and waits for so long as is configured.
func (a *asking) ask(ctx context.Context, known *room.Entry) (rcptgate.Verdict, error) {
	s := a.check.State
	if use, entry := s.unknown.Serve(a.key, s.clock.At(a.q.Now()), a.size); use == room.UseUnknown {
		return a.verdict(use, &entry, true), nil
	}
	if a.q.Trace.Explain {
		a.explainAsk(known)
	}
	wait, cancel := context.WithTimeout(ctx, a.check.Config.Timeout.Std())
	defer cancel()
	for range 2 {
		k := flightKey{strings.Clone(a.key), sizeClass(a.size)}
		f, isNew := s.flights.Join(k)
		switch {
		case f == nil:
			s.count.busy.Add(1)
			return rcptgate.Verdict{}, errBusy
		case isNew:
			qn := a.question(known)
			s.work.Go(func() {
				defer s.flights.End(f)
				f.Value = qn.find()
			})
		default:
			s.count.joined.Add(1)
		}
		select {
		case <-f.Done():
		case <-wait.Done():
			s.count.late.Add(1)
			s.flights.Forget(func(other flightKey) bool { return other == k }) // nobody else waits for it
			return rcptgate.Verdict{}, errLate
		}
		if use, ok := f.Value.of(a.size); ok {
			return a.landed(&f.Value, use)
		}
	}
	return rcptgate.Verdict{}, nil // others asked about smaller messages, twice: taken
}

// sizeClass has messages of about the same size share a question: the larger of them is
// asked about again if the smaller one's answer does not say enough.
func sizeClass(size int64) int64 { return int64(bits.Len64(uint64(size)) / 4) } //nolint:gosec // 1 or more

func (a *asking) question(known *room.Entry) *question {
	m := a.mailbox()
	return &question{
		check: a.check, sources: a.sources, mailbox: m, target: rcptgate.Mailbox{Path: m.Address, Local: m.Local, Domain: m.Domain},
		key: strings.Clone(a.key), size: a.size, forgets: a.check.State.forgets.Load(),
		early: known.Early(a.check.State.clock.At(a.q.Now())),
	}
}

// of says what the answer means for a message of another size than was asked about.
func (l *landing) of(size int64) (use room.Use, ok bool) {
	if l.err != nil || size == l.size || l.use == room.UseUnknown {
		return l.use, true
	}
	return l.entry.Of(size, l.size, l.use)
}

// landed says what the end of a question means for this query.
func (a *asking) landed(l *landing, use room.Use) (rcptgate.Verdict, error) {
	if l.err != nil {
		return rcptgate.Verdict{}, l.err
	}
	if l.note != "" {
		a.q.Trace.Note(l.note)
	}
	if l.tooFull {
		return a.full(rcptgate.Verdict{Source: stepName}), nil
	}
	s := a.check.State
	if use == room.UseRoom {
		if !a.q.Inquiry {
			s.known.Update(a.key, func(e *room.Entry) { e.Debit(s.now(), a.size) })
		}
		if a.q.Trace.Explain {
			a.explainRoom()
		}
		return rcptgate.Verdict{}, nil
	}
	return a.verdict(use, &l.entry, false), nil
}

// find asks the directory and the sources, and remembers what they say.
func (qn *question) find() (l landing) {
	c := qn.check
	ctx, cancel := context.WithTimeout(c.State.ctx, c.Config.Timeout.Std()+lateTime)
	defer cancel()
	l = landing{size: qn.size, use: room.UseRoom}
	defer func() {
		if p := recover(); p != nil { // no input ends the process
			l = landing{err: fmt.Errorf("panic: %v", p)}
			c.State.board.Error("quota: panic", "quota check panicked, please report this", "panic", p)
		}
	}()
	if known, ok := c.State.known.Get(qn.key); ok { // learnt since the asker has looked
		if use := known.Serve(c.State.now(), qn.size); use != room.Ask {
			l.use, l.entry = use, known
			return l
		}
	}
	if qn.early {
		c.State.count.early.Add(1)
	} else {
		c.State.count.asked.Add(1)
	}
	began := time.Now()
	var entry directory.Entry
	entry, l.err = qn.look(ctx)
	switch {
	case l.err != nil:
		l.note = "directory: " + l.err.Error()
	case c.Directory == nil:
	case entry.Found != 1:
		l.note = fmt.Sprintf("directory: %s have the address; nobody is asked", term.Count(entry.Found, "entry"))
		return l
	case entry.Flags&directory.NoLocal != 0:
		l.note = "directory: there is no mailbox, mail is forwarded"
		return l
	case entry.Flags&directory.OverQuota != 0 && !entry.Stale: // nothing is refused by what was true once
		l.note, l.tooFull = "directory: the entry says over quota", true
		return l
	}
	answer, by, err := qn.askSources(ctx, &entry, began)
	if l.err = err; err != nil {
		return l
	}
	qn.remember(&l, answer, by)
	return l
}

// look asks the directory, if there is one, and fills in what it says.
func (qn *question) look(ctx context.Context) (entry directory.Entry, err error) {
	c := qn.check
	if c.Directory == nil {
		return entry, nil
	}
	if entry, err = c.Directory.Find(ctx, qn.target); err != nil || entry.Found != 1 {
		return entry, err
	}
	if entry.User != "" && usable(entry.User+"@") {
		qn.mailbox.User = entry.User
	}
	if entry.Host != "" {
		if qn.mailbox.Host = c.allowed(ctx, entry.Host); qn.mailbox.Host == "" {
			c.State.board.Warn("quota: host "+entry.Host, "the directory names a store that is not in [quota] hosts, or that has no address: it is not asked", "host", entry.Host)
		}
	}
	return entry, nil
}

// askSources asks the sources in order, until one knows the mailbox. Each but the last gets
// half of the time that the asker still has.
func (qn *question) askSources(ctx context.Context, entry *directory.Entry, began time.Time) (answer room.Answer, by *source.Guarded, err error) {
	c := qn.check
	var failed error
	unknown, who := room.Of(room.Unknown), (*source.Guarded)(nil)
	for i, spec := range qn.sources {
		left := max(c.Config.Timeout.Std()-time.Since(began), 0)
		one, cancel := ctx, context.CancelFunc(func() {})
		if i < len(qn.sources)-1 {
			left /= 2
			one, cancel = context.WithTimeout(ctx, left)
		}
		answer, by, err = qn.askOne(one, spec, left)
		cancel()
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case answer.State != room.Unknown:
			qn.complete(&answer, spec, entry)
			return answer, by, nil
		case answer.Note != "":
			unknown, who = answer, by
		}
	}
	return unknown, who, failed
}

func (qn *question) askOne(ctx context.Context, spec source.Spec, wait time.Duration) (room.Answer, *source.Guarded, error) {
	at := spec.At(&qn.mailbox)
	if at == "" {
		return room.Answer{}, nil, fmt.Errorf("%s: the host is not known", spec)
	}
	by, err := qn.check.State.sources.Get(at)
	if err != nil {
		return room.Answer{}, nil, err
	}
	answer, err := by.Ask(ctx, qn.mailbox, qn.size, wait)
	return answer, by, err
}

// complete adds the directory's limits where the source has none of its own, and the grace
// where the source shows the limit without it. If nobody names a limit there is none.
func (qn *question) complete(a *room.Answer, spec source.Spec, entry *directory.Entry) {
	nominal := spec.Nominal()
	if qn.check.Directory != nil && entry.Found == 1 {
		if a.Used >= 0 && a.Hard == room.NotKnown && entry.Limit != directory.NotKnown {
			a.Hard, nominal = entry.Limit, true
		}
		if a.Count >= 0 && a.MaxCount == room.NotKnown && entry.Messages != directory.NotKnown {
			a.MaxCount, nominal = entry.Messages, true
		}
	}
	if a.Used >= 0 && a.Hard == room.NotKnown && a.State == room.Room {
		a.Hard = 0
		a.Note = cmp.Or(a.Note, "no limit: neither the store nor a directory names one")
	}
	if !nominal || !a.HasNumbers() {
		return
	}
	if grace := qn.check.rules.Grace; grace > 0 && a.Hard > 0 && a.Used < a.Hard {
		a.Hard += grace
	}
	if a.State = room.Room; a.Hard > 0 && qn.size > a.Hard-a.Used || a.MaxCount > 0 && a.Count >= a.MaxCount {
		a.State = room.Full
	}
}

// remember keeps an answer, unless something was forgotten meanwhile.
func (qn *question) remember(l *landing, answer room.Answer, by *source.Guarded) {
	c, s := qn.check, qn.check.State
	l.by = by
	if answer.Note != "" {
		l.note = by.Name + ": " + answer.Note
	}
	kept := s.forgets.Load() == qn.forgets
	if answer.State == room.Unknown {
		l.use = room.UseUnknown
		if answer.Note != "" { // a Dovecot without nouser says it of every alias, a wrong server of everybody
			s.board.Warn("quota: refuses "+by.Name, "a quota service refuses a recipient for a reason other than quota; the refusal is ignored. With Dovecot, set quota_status_nouser = DUNNO",
				"source", by.Name, "mailbox", qn.key)
		}
		if kept {
			s.known.Remove(qn.key)
			s.unknown.Update(qn.key, func(e *room.Entry) { e.Learn(answer, qn.size, s.now(), 0, &c.rules) })
		}
		return
	}
	now := s.now()
	var learnt room.Learnt
	s.holds(by, now, c.Config.Hold.Share()) // whether one has ended: a new one is another matter
	learn := func(e *room.Entry) {
		learnt = e.Learn(answer, qn.size, now, by.Number, &c.rules)
		by.Storm.Note(e, &learnt, now, c.Config.Hold.Share())
		l.entry = *e
	}
	if kept {
		s.known.Update(qn.key, learn)
	} else {
		learn(new(room.Entry))
	}
	l.use = learnt.Use
	s.reportStorm(by)
	qn.report(&learnt, by)
}

// report tells the postmaster what an answer shows.
func (qn *question) report(l *room.Learnt, by *source.Guarded) {
	s := qn.check.State
	if l.Shrunk {
		s.count.shrunk.Add(1)
		s.board.Warn("quota: shrunk "+by.Name, "the limit of a mailbox has fallen below a tenth of its old value; it counts after a second answer", "source", by.Name, "mailbox", qn.key)
	}
	if l.Implausible != "" {
		s.count.implausible.Add(1)
		s.board.Warn("quota: implausible "+by.Name, "quota source gives numbers that cannot be right: "+l.Implausible, "source", by.Name, "mailbox", qn.key)
	}
}
