// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"rcptgate/store"
	"rcptgate/table/index"
)

// Content is a table whose names can be published: a live.Live.
type Content interface {
	// Index gives what is in force, nil before the first.
	Index() *index.Index
}

// PublisherOptions are what a Publisher is made of. Names is needed; the zero value of
// any other means what its constant says.
type PublisherOptions struct {
	Names store.Names
	Log   *slog.Logger // nil: none
	// Life is how long a name lasts that is not renewed. It is renewed by thirds.
	Life time.Duration
	// Rate is how many names a second are renewed, Burst how many are published when
	// they are new to memcached. More, if thirds of Life ask for it.
	Rate, Burst int
	// Look is how often memcached is looked at for losses, Glance how often the tables
	// are looked at for other content.
	Look, Glance time.Duration
	// LossGap is the least time between two rounds that make up for losses. It doubles
	// while there are more losses, up to a third of Life.
	LossGap time.Duration
}

// The defaults.
const (
	defaultLife   = 30 * time.Minute
	defaultRate   = 2000
	defaultBurst  = 6000
	defaultLook   = 3 * time.Second
	defaultGlance = 250 * time.Millisecond
	defaultGap    = 10 * time.Second
)

const (
	workers  = 4                     // names under way at the same time
	attempts = 3                     // to write a name, memcached's being down not counted
	removals = 12                    // to take one out, which no renewal makes up for
	slow     = 10 * time.Millisecond // an answer that takes longer is followed by a pause
)

// Publisher puts the names of alias databases into memcached, renews them before they
// end, and takes those out that are gone from the databases. What it has published is
// what its tables held when it last looked: it keeps no list. It is safe for concurrent
// use; Run does the work.
//
// A name that could not be taken out, or was removed while no publisher ran, ends by
// itself after Life.
type Publisher struct {
	opt PublisherOptions
	log *slog.Logger
	id  string // of its marks

	wanted atomic.Pointer[[]Content]
	status struct {
		sync.Mutex
		PublishStatus
	}

	// What follows belongs to Run.
	jobs     chan job
	underWay sync.WaitGroup // jobs
	total    counts
	tables   []Content // whose contents are in force
	inForce  view      // what is published, or is being published
	renewal  *pass     // all names, because they are due or lost
	update   *pass     // what differs between two contents
	pace     *rate.Limiter
	glanced  time.Time
	surveyed time.Time
	surveys  int       // that showed a change
	due      time.Time // of the next renewal
	lost     bool      // names are missing: a round under way begins again
	moved    bool      // names are sought elsewhere: another round after the one under way
	lossHold time.Time // before it, no round for either
	lossGap  time.Duration
}

// PublishStatus describes a Publisher at one moment. Counters begin with it.
type PublishStatus struct {
	State     string // in a few words
	Of        int    // names to publish, those in several databases counted as often
	Published int    // of them, those that are in memcached as far as is known
	Round     time.Time
	Written   uint64 // names written
	Removed   uint64 // names taken out
	Failed    uint64 // names that could not be written or taken out
	Losses    uint64 // times that names were found to be lost, or sought elsewhere than they were put
}

// NewPublisher makes a Publisher that publishes nothing yet.
func NewPublisher(opt PublisherOptions) *Publisher {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.Life, opt.Rate, opt.Burst = cmp.Or(opt.Life, defaultLife), cmp.Or(opt.Rate, defaultRate), cmp.Or(opt.Burst, defaultBurst)
	opt.Look, opt.Glance, opt.LossGap = cmp.Or(opt.Look, defaultLook), cmp.Or(opt.Glance, defaultGlance), cmp.Or(opt.LossGap, defaultGap)
	p := &Publisher{opt: opt, log: opt.Log, id: rand.Text(), jobs: make(chan job), lossGap: opt.LossGap, pace: rate.NewLimiter(0, 1)}
	p.status.State = "not publishing"
	return p
}

// Publish says whose names are to be published from now on, the first that has a name
// counts; other names end by themselves.
func (p *Publisher) Publish(tables []Content) {
	p.wanted.Store(&tables)
}

// Status describes what it does.
func (p *Publisher) Status() PublishStatus {
	p.status.Lock()
	st := p.status.PublishStatus
	p.status.Unlock()
	if st.Of > 0 && p.opt.Names.Down() { // Run waits for it, and may not get to say so
		st.State = "waiting: memcached is down"
	}
	st.Written, st.Removed, st.Failed = p.total.written.Load(), p.total.removed.Load(), p.total.failed.Load()
	return st
}

func (p *Publisher) set(f func(st *PublishStatus)) {
	p.status.Lock()
	f(&p.status.PublishStatus)
	p.status.Unlock()
}

// Run publishes until ctx ends, whose error it returns. Only one Run may run.
func (p *Publisher) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range workers {
		all.Go(func() { p.work(ctx) })
	}
	for ctx.Err() == nil {
		if now := time.Now(); now.Sub(p.glanced) >= p.opt.Glance {
			p.glanced = now
			p.look(ctx, now)
		}
		p.step(ctx)
	}
	return ctx.Err()
}

// job is a name to publish or to take out.
type job struct {
	name, value string
	remove      bool
	pass        *pass
}

// counts are what became of jobs.
type counts struct{ written, removed, failed atomic.Uint64 }

// count counts in the whole and in the job's pass.
func (p *Publisher) count(j *job, of func(*counts) *atomic.Uint64) {
	of(&p.total).Add(1)
	of(&j.pass.counts).Add(1)
}

func written(c *counts) *atomic.Uint64 { return &c.written }
func removed(c *counts) *atomic.Uint64 { return &c.removed }
func failed(c *counts) *atomic.Uint64  { return &c.failed }

// work does jobs until ctx ends.
func (p *Publisher) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-p.jobs:
			p.do(ctx, &j)
			p.underWay.Done()
		}
	}
}

// do does one job. While memcached is down it waits, so that what is under way is not
// lost, but no longer than names live.
func (p *Publisher) do(ctx context.Context, j *job) {
	first, most := time.Now(), attempts
	if j.remove {
		most = removals
	}
	for tries := 1; ctx.Err() == nil; {
		began := time.Now()
		err := p.write(ctx, j, began)
		took := time.Since(began)
		switch {
		case err == nil && j.remove:
			p.count(j, removed)
		case err == nil:
			p.count(j, written)
		case errors.Is(err, store.ErrDown) && began.Sub(first) < p.opt.Life:
			sleep(ctx, p.opt.Glance)
			continue
		case tries < most:
			tries++
			sleep(ctx, p.opt.Glance)
			continue
		default:
			p.count(j, failed)
			j.pass.why.Store(&err)
		}
		if took > slow { // a tenth of a slow server's time, no more
			sleep(ctx, min(10*took, time.Second))
		}
		return
	}
}

func (p *Publisher) write(ctx context.Context, j *job, now time.Time) error {
	if j.remove {
		return p.opt.Names.Withdraw(ctx, j.name)
	}
	n := store.Name{Written: now, Expire: now.Add(p.opt.Life)}
	if Shareable(j.value) {
		n.Value = j.value
	}
	return p.opt.Names.Publish(ctx, j.name, n)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
