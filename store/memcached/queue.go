// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/store"
)

const (
	writers     = 8    // shards, each with a goroutine that writes one task after the other
	maxQueued   = 2048 // tasks of one shard
	drainFor    = 2 * time.Second
	busyPause   = 5 * time.Millisecond
	maxAttempts = 3
)

// queue writes what it is given in the background. Tasks of one key are carried out in
// the order in which they came: a lease is let go after what was learnt has been written.
type queue struct {
	s       *Store
	seed    maphash.Seed
	most    int // tasks of one shard
	shards  [writers]shard
	until   atomic.Int64 // once closing: when to give up, UNIX nanoseconds
	done    sync.WaitGroup
	dropped atomic.Uint64 // tasks for which there was no room
	failed  atomic.Uint64 // tasks that no server took
}

// task is one thing to do with a key: write entry, delete what is there, or let go of a
// lease.
type task struct {
	key     string
	entry   *entry // nil: delete, unless lease
	onlyNew bool
	lease   *lease
}

type shard struct {
	mu     sync.Mutex
	tasks  []*task
	latest map[string]*task // by key, of tasks not yet done; leases apart
	closed bool
	wake   chan struct{}
}

func newQueue(s *Store) *queue {
	q := &queue{s: s, seed: maphash.MakeSeed(), most: maxQueued}
	for i := range q.shards {
		sh := &q.shards[i]
		sh.latest = map[string]*task{}
		sh.wake = make(chan struct{}, 1)
		q.done.Go(func() { q.write(sh) })
	}
	return q
}

func (q *queue) shard(key string) *shard {
	return &q.shards[maphash.String(q.seed, key)%writers]
}

// add queues t; it reports whether there was room.
func (q *queue) add(t *task) bool {
	sh := q.shard(t.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed || len(sh.tasks) >= q.most {
		q.dropped.Add(1)
		return false
	}
	sh.tasks = append(sh.tasks, t)
	if t.lease == nil && !t.onlyNew {
		sh.latest[t.key] = t
	}
	select {
	case sh.wake <- struct{}{}:
	default:
	}
	return true
}

// pending gives what will be under key once the queue has been written; a nil entry is a
// deletion.
func (q *queue) pending(key string) (e *entry, ok bool) {
	sh := q.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t, ok := sh.latest[key]
	if !ok {
		return nil, false
	}
	return t.entry, true
}

func (q *queue) depth() (n int) {
	for i := range q.shards {
		q.shards[i].mu.Lock()
		n += len(q.shards[i].tasks)
		q.shards[i].mu.Unlock()
	}
	return n
}

// close writes what is queued and ends the writers.
func (q *queue) close() {
	q.until.Store(time.Now().Add(drainFor).UnixNano())
	for i := range q.shards {
		sh := &q.shards[i]
		sh.mu.Lock()
		sh.closed = true
		close(sh.wake)
		sh.mu.Unlock()
	}
	q.done.Wait()
}

// write is the goroutine of one shard.
func (q *queue) write(sh *shard) {
	for range sh.wake {
		for {
			t := sh.first()
			if t == nil {
				break
			}
			if until := q.until.Load(); until == 0 || time.Now().UnixNano() < until {
				if err := q.carryOut(t); err != nil {
					q.failed.Add(1)
				}
			}
			sh.finish(t)
		}
	}
}

func (sh *shard) first() *task {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.tasks) == 0 {
		return nil
	}
	return sh.tasks[0]
}

func (sh *shard) finish(t *task) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.tasks[0] = nil
	sh.tasks = sh.tasks[1:]
	if len(sh.tasks) == 0 {
		sh.tasks = nil // the array would grow for ever
	}
	if sh.latest[t.key] == t {
		delete(sh.latest, t.key)
	}
}

// carryOut does t, once more when a server failed: the next one on the ring may be
// responsible by then.
func (q *queue) carryOut(t *task) (err error) {
	ctx := context.Background()
	for range maxAttempts {
		derived := q.s.key(t.key)
		switch {
		case t.lease != nil:
			err = q.s.letGo(ctx, t.lease)
		case t.entry == nil:
			err = q.s.c.Delete(ctx, derived)
		case q.s.tombstones.void(t.key, t.entry.generation):
			return nil // forgotten since: no gateway would believe it
		default:
			err = q.s.c.store(ctx, derived, derived, encode(*t.entry), t.entry.rec.Expire(), t.onlyNew)
		}
		switch {
		case err == nil || errors.Is(err, ErrExists):
			return nil
		case errors.Is(err, ErrBusy):
			time.Sleep(busyPause) // the server is not asked by us alone
		case errors.Is(err, store.ErrDown):
			return err
		}
	}
	return err
}
