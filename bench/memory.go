// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"rcptgate/bench/load"
	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/ram"
)

// answer is what the gate remembers of a recipient that exists.
func answer(backend string, now time.Time) store.Record {
	return store.Record{Standing: store.Answer{
		Class: store.Valid, Code: 250, Enhanced: "2.1.5", Text: "Ok", Backend: backend,
		Learnt: now, Refresh: now.Add(24 * time.Hour), Expire: now.Add(31 * 24 * time.Hour),
	}}
}

// memory measures what a store full of answers takes, and how soon a gate that has them on disk gives the first.
func memory(ctx context.Context, b *bench, t *Table) error {
	if err := b.heap(ctx, t); err != nil {
		return err
	}
	return b.restart(ctx, t)
}

// capacity is a bound that holds n valid answers: a tenth of the entries is for refusals.
func capacity(n int) int { return n + n/8 }

// heap fills the RAM store in this process, where a collection can be asked for.
func (b *bench) heap(ctx context.Context, t *Table) error {
	before := liveHeap()
	s := ram.New(ram.Options{Entries: capacity(b.Entries)})
	names := people(goodUser, 1, b.Entries, domain)
	rec := answer("smtp:[10.0.0.5]:25", time.Now())
	for range b.Entries {
		if err := s.Put(ctx, string(names.Append(nil)), rec); err != nil {
			return err
		}
	}
	each := float64(liveHeap()-before) / float64(b.Entries)
	held := s.Stats().Entries
	if err := s.Close(); err != nil {
		return err
	}
	if held < int64(b.Entries) {
		return fmt.Errorf("the store holds %d of %d answers", held, b.Entries)
	}
	t.Bar(fmt.Sprintf("live heap a remembered recipient, %d of them (keys of %d octets)", b.Entries, len(names.Append(nil))),
		fmt.Sprintf("%.0f octets", each), "256 octets", each <= 256, map[string]float64{"octets": each})
	return nil
}

// liveHeap is the heap in use after collections; two, because the first only finds what finalizers and clean-ups hold.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// restart measures the time from starting the gate to its first answer from disk. The backend is gone, so that nobody
// else can have given it.
func (b *bench) restart(ctx context.Context, t *Table) error {
	backend, err := startBackend(0)
	if err != nil {
		return err
	}
	address := backend.Backend()
	backend.Stop()
	dir, err := b.gateDir(map[string]string{domain: address})
	if err != nil {
		return err
	}
	if err := b.fill(ctx, dir, address); err != nil {
		return fmt.Errorf("filling the disk store: %w", err)
	}
	var seconds []float64
	for range b.Rounds {
		took, err := b.firstAnswer(ctx, dir)
		if err != nil {
			return err
		}
		seconds = append(seconds, took.Seconds())
	}
	t.Bar(fmt.Sprintf("restart to the first answer, %d recipients on disk", b.Entries), fmt.Sprintf("%.2f s", Median(seconds)), "2 s",
		Median(seconds) < 2, map[string]float64{"s": Median(seconds)})
	return nil
}

// fill writes the answers as the gate itself would have, no faster than they reach the disk.
func (b *bench) fill(ctx context.Context, dir, backend string) (err error) {
	s, err := disk.Open(disk.Options{Dir: dir, Entries: capacity(b.Entries)})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	const portion = 5000
	names := people(goodUser, 1, b.Entries, domain)
	rec := answer(backend, time.Now())
	for done := 0; done < b.Entries; {
		n := min(portion, b.Entries-done)
		for range n {
			if err := s.Put(ctx, string(names.Append(nil)), rec); err != nil {
				return err
			}
		}
		done += n
		for deadline := time.Now().Add(time.Minute); s.Stats().Entries < int64(done); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("%d of %d answers reached the disk", s.Stats().Entries, done)
			}
		}
	}
	return nil
}

// firstAnswer starts the gate, asks for one recipient and ends the gate again.
func (b *bench) firstAnswer(ctx context.Context, dir string) (time.Duration, error) {
	began := time.Now()
	gate, err := b.serve(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer gate.stop()
	r, err := b.askOnce(ctx, gate, 1, people(goodUser, 1, b.Entries, domain).Shuffled(), load.Plan{Count: 1})
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	if r.Accepted != 1 {
		return 0, fmt.Errorf("the gate that was started again in %s does not know its recipients%s", filepath.Base(dir), gate.log.tail())
	}
	return took, nil
}
