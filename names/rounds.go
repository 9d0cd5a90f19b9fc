// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"rcptgate/store"
)

const (
	large   = 10_000                // names of a round from which on its progress is logged
	stretch = time.Millisecond      // of going through names that need nothing, without a pause
	batch   = 64                    // names looked at between two looks at the clock
	behind  = 50 * time.Millisecond // of the rate that a round which was held up may catch up with
)

// pass is one way through the names: a renewal of all, or an update of what differs.
type pass struct {
	from, to view
	update   bool
	burst    bool   // it makes up for a loss
	gone     walker // over from; an update takes names out first
	names    walker // over to
	began    time.Time
	tenths   int                   // of its names, logged
	counts                         // of its jobs
	why      atomic.Pointer[error] // of a failure
	removing bool
}

// next gives the next job; more says that there may be one although there was none yet.
func (ps *pass) next() (j job, ok, more bool) {
	if ps.removing {
		name, _, ok, more := ps.gone.next(ps.from, batch)
		if !ok && !more {
			ps.removing = false
		}
		if _, still := ps.to.get(name); !ok || still {
			return job{}, false, true
		}
		return job{name: name, remove: true, pass: ps}, true, true
	}
	name, value, ok, more := ps.names.next(ps.to, batch)
	if !ok {
		return job{}, false, more
	}
	if ps.update {
		if old, had := ps.from.get(name); had && old == value {
			return job{}, false, true
		}
	}
	return job{name: name, value: value, pass: ps}, true, true
}

// look looks at the tables and at memcached, and begins what they ask for.
func (p *Publisher) look(ctx context.Context, now time.Time) {
	if p.update == nil {
		p.lookAtTables(now)
	}
	if p.inForce.names() == 0 && p.update == nil {
		p.renewal = nil
		p.set(func(st *PublishStatus) { st.Of, st.Published, st.State = 0, 0, "nothing to publish" })
		return
	}
	if now.Sub(p.surveyed) >= p.opt.Look {
		p.surveyed = now
		p.survey(ctx)
	}
	switch {
	case (p.lost || p.moved && p.renewal == nil) && !now.Before(p.lossHold):
		p.lost, p.moved = false, false
		p.lossHold, p.lossGap = now.Add(p.lossGap), min(2*p.lossGap, p.opt.Life/3)
		p.begin(&pass{to: p.inForce, burst: true, began: now})
	case p.renewal == nil && !now.Before(p.due):
		p.lossGap = p.opt.LossGap
		p.begin(&pass{to: p.inForce, began: now})
	}
	p.report()
}

// survey asks whether names were lost.
func (p *Publisher) survey(ctx context.Context) {
	found, err := p.opt.Names.Survey(ctx, p.id, p.opt.Life)
	if err != nil {
		p.log.Debug("not every memcached server could be asked whether alias names were lost", "error", err)
	}
	if found == store.Intact {
		return
	}
	p.lost, p.moved = p.lost || found == store.Lost, true
	if p.surveys++; p.surveys > 1 { // at first there is nothing
		p.set(func(st *PublishStatus) { st.Losses++ })
		p.log.Info("memcached has lost alias names, or its servers have changed; publishing the names again", "lost", found == store.Lost, "not_before", p.lossHold.Format(time.TimeOnly))
	}
}

// lookAtTables takes new contents over.
func (p *Publisher) lookAtTables(now time.Time) {
	var tables []Content
	if wanted := p.wanted.Load(); wanted != nil {
		tables = *wanted
	}
	next := make(view, len(tables))
	for i, t := range tables {
		next[i] = t.Index()
	}
	same := slices.Equal(p.tables, tables)
	if same && p.inForce.equal(next) {
		return
	}
	// What is under way belongs to the old contents, and must not come after the new.
	p.underWay.Wait()
	before := p.inForce
	p.tables, p.inForce = tables, next
	if r := p.renewal; r != nil {
		if r.to = next; same {
			r.names.carry(before, next)
		} else {
			r.names = walker{}
		}
	}
	switch {
	case len(tables) == 0: // no longer ours
	case before.names() == 0:
		p.lost, p.lossHold = true, time.Time{}
	default:
		p.update = &pass{from: before, to: next, update: true, removing: true, began: now}
	}
}

// begin begins a renewal, in place of one that is under way.
func (p *Publisher) begin(r *pass) {
	p.renewal, p.due = r, r.began.Add(p.opt.Life/3)
	p.logRound(r, "publishing the names of the alias tables", "names", r.to.names(), "rate", p.rate(r))
}

// logRound logs what makes up for a loss, a first publication among them; that names
// are renewed is nobody's news.
func (p *Publisher) logRound(r *pass, text string, args ...any) {
	if r.burst {
		p.log.Info(text, args...)
	} else {
		p.log.Debug(text, args...)
	}
}

// rate is how many names a second a pass may write.
func (p *Publisher) rate(ps *pass) int {
	needed := float64(ps.to.names()) / (p.opt.Life / 3).Seconds() * 1.25
	most := p.opt.Rate
	if ps.burst || ps.update {
		most = p.opt.Burst
	}
	return max(most, int(needed))
}

// step does one name of what is begun, or waits.
func (p *Publisher) step(ctx context.Context) {
	ps := p.update
	if ps == nil {
		ps = p.renewal
	}
	if ps == nil || p.opt.Names.Down() {
		sleep(ctx, p.opt.Glance)
		return
	}
	began := time.Now()
	for {
		j, ok, more := ps.next()
		switch {
		case ok:
			p.hand(ctx, j)
			return
		case !more:
			p.end(ps)
			return
		case time.Since(began) > stretch:
			sleep(ctx, stretch)
			return
		}
	}
}

// hand gives a job to a worker, at the pace of its pass.
func (p *Publisher) hand(ctx context.Context, j job) {
	if most := rate.Limit(p.rate(j.pass)); p.pace.Limit() != most {
		p.pace.SetLimit(most)
		p.pace.SetBurst(max(1, int(float64(most)*behind.Seconds())))
	}
	if p.pace.Wait(ctx) != nil {
		return
	}
	p.underWay.Add(1)
	select {
	case p.jobs <- j:
	case <-ctx.Done():
		p.underWay.Done()
	}
}

// end ends a pass whose names have all been gone through.
func (p *Publisher) end(ps *pass) {
	p.underWay.Wait()
	args := []any{"written", ps.written.Load(), "removed", ps.removed.Load(), "failed", ps.failed.Load(), "took", time.Since(ps.began).Round(time.Millisecond)}
	bad := ps.failed.Load() > 0
	if why := ps.why.Load(); why != nil {
		args = append(args, "error", *why)
	}
	switch {
	case ps.update:
		p.update = nil
		if ps.written.Load()+ps.removed.Load()+ps.failed.Load() > 0 {
			p.log.Info("changes of the alias tables published", args...)
		}
		if bad && p.renewal == nil {
			p.due = time.Now().Add(p.opt.Life / 12)
		}
	case bad:
		p.renewal, p.due = nil, time.Now().Add(p.opt.Life/12)
		p.log.Warn("some alias names could not be published; the next round starts early", args...)
	default:
		p.renewal = nil
		p.logRound(ps, "names of the alias tables published", append([]any{"names", ps.to.names()}, args...)...)
		p.set(func(st *PublishStatus) { st.Round = time.Now() })
	}
	p.report()
}

// report brings the status up to date, and tells how far a long round is.
func (p *Publisher) report() {
	of := p.inForce.names()
	published, state := of, "up to date"
	done := func(r *pass, whole int) int { return whole * min(r.names.seen, of) / max(of, 1) } // some come twice
	switch r := p.renewal; {
	case p.update != nil:
		state = "publishing changes"
	case r != nil && r.burst:
		published, state = done(r, of), fmt.Sprintf("publishing, %d %%", done(r, 100))
		if tenths := done(r, 10); of >= large && tenths > r.tenths && tenths < 10 {
			r.tenths = tenths
			p.log.Info("publishing the names of the alias tables", "done", fmt.Sprintf("%d %%", 10*tenths), "written", r.written.Load())
		}
	case r != nil:
		state = fmt.Sprintf("renewing, %d %%", done(r, 100))
	}
	if p.lost {
		published, state = 0, "names were lost: waiting to publish them again"
	} else if p.moved && p.renewal == nil {
		state = "servers have changed: waiting to publish again"
	}
	p.set(func(st *PublishStatus) { st.Of, st.Published, st.State = of, published, state })
}
