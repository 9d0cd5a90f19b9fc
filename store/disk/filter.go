// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// filter knows which keys the file cannot have (a Bloom filter): most questions
// about a new recipient would otherwise cost several look-ups
// in the file, each dearer than the rest of the answer. It takes two octets for each
// record that the file may hold, and errs for about 1 in 400 of those it lacks.
//
// Until it has been filled it knows nothing, and the file is asked. Deleted keys
// stay in it; once as many were added as the file may hold twice over, it is filled
// anew. Reading takes no lock.
type filter struct {
	words    []atomic.Uint64
	seed     maphash.Seed
	added    atomic.Int64
	complete atomic.Bool
}

const (
	filterBits   = 16 // for each record
	filterHashes = 4
	filterLeast  = 1 << 16 // bits
	filterPage   = 1000
)

func newFilter(entries int) *filter {
	size := uint64(max(entries*filterBits, filterLeast)) //nolint:gosec // positive
	size = 1 << bits.Len64(size-1)
	return &filter{words: make([]atomic.Uint64, size/64), seed: maphash.MakeSeed()}
}

// places calls f with the word and the bit of each hash of key until f returns false.
func (b *filter) places(key string, f func(word *atomic.Uint64, bit uint64) bool) {
	h := maphash.String(b.seed, key)
	step := bits.RotateLeft64(h, 32) | 1
	for range filterHashes {
		at := h % uint64(len(b.words)*64) //nolint:gosec // positive
		if !f(&b.words[at/64], 1<<(at%64)) {
			return
		}
		h += step
	}
}

func (b *filter) add(key string) {
	b.added.Add(1)
	b.places(key, func(word *atomic.Uint64, bit uint64) bool {
		if word.Load()&bit == 0 {
			word.Or(bit)
		}
		return true
	})
}

// lacks reports whether the file certainly has no record under key.
func (b *filter) lacks(key string) bool {
	if !b.complete.Load() {
		return false
	}
	missing := false
	b.places(key, func(word *atomic.Uint64, bit uint64) bool {
		missing = word.Load()&bit == 0
		return !missing
	})
	return missing
}

// filters is a file's filter and the one that is to follow it. Only the writer
// calls note and renew; fill runs concurrently.
type filters struct {
	entries int
	current atomic.Pointer[filter]
	filling atomic.Pointer[filter]
}

// lacks reports whether the file certainly has no record under key.
func (s *filters) lacks(key string) bool {
	b := s.current.Load()
	return b != nil && b.lacks(key)
}

// note adds a key that is about to be written. It looks at filling first: fill
// publishes a filter before it takes it from there, so that no key falls between.
func (s *filters) note(key string) {
	next := s.filling.Load()
	current := s.current.Load()
	current.add(key)
	if next != nil && next != current {
		next.add(key)
	}
}

// renew begins to fill a new filter when the old one has grown too full.
func (s *filters) renew(f *file) {
	if s.filling.Load() == nil && s.current.Load().added.Load() > 2*int64(s.entries) {
		next := newFilter(s.entries)
		s.filling.Store(next)
		f.done.Go(func() { s.fill(f, next) })
	}
}

// start gives the file its first filter, which is filled while it is in use.
func (s *filters) start(f *file, entries int) {
	s.entries = entries
	first := newFilter(entries)
	s.current.Store(first)
	s.filling.Store(first)
	f.done.Go(func() { s.fill(f, first) })
}

// fill reads every key of the file, in the order of its index, on a connection of
// its own. If that fails the filter stays incomplete, and the file is asked.
func (s *filters) fill(f *file, b *filter) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-f.quit:
			cancel()
		case <-stop:
		}
	}()
	if err := fillFrom(ctx, f, b); err != nil {
		return // whatever it is, reads and writes of the file meet it and report it
	}
	b.complete.Store(true)
	s.current.Store(b)
	s.filling.Store(nil)
}

const keysPage = `SELECT domain, key FROM answers WHERE (domain, key) > (?, ?) ORDER BY domain, key LIMIT ?`

func fillFrom(ctx context.Context, f *file, b *filter) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: reading it panicked: %v", errDamaged, p)
		}
	}()
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	domain, key := "", ""
	for {
		rows, err := conn.QueryContext(ctx, keysPage, domain, key, filterPage)
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			if err := rows.Scan(&domain, &key); err != nil {
				_ = rows.Close()
				return err
			}
			b.add(key)
			n++
		}
		if err := rows.Close(); err != nil {
			return err
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if n < filterPage {
			return nil
		}
	}
}
