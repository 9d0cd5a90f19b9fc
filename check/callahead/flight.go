// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"hash/maphash"
	"sync"
	"time"

	"rcptgate/store"
)

// maxFlights bounds the probes in progress, those that nobody waits for included.
const maxFlights = 20_000

const flightShards = 64

// flightKey is what makes two questions equal: the recipient, and who would be asked.
type flightKey struct{ key, route string }

// flight is one probe in progress. Whoever asks the same waits for its end.
type flight struct {
	flightKey
	began time.Time
	done  chan struct{}

	// Set before done is closed.
	out    outcome
	rec    store.Record // what is known after it
	source string       // where rec is from when another gateway asked; out is then zero
}

type flights struct {
	seed   maphash.Seed
	shards [flightShards]struct {
		sync.Mutex
		m map[flightKey]*flight
	}
}

func newFlights() *flights {
	f := &flights{seed: maphash.MakeSeed()}
	for i := range f.shards {
		f.shards[i].m = make(map[flightKey]*flight)
	}
	return f
}

// join gives the flight in progress under k, or a new one that the caller must see
// to its end. It is nil when there are too many.
func (s *State) join(k flightKey, now time.Time) (f *flight, isNew bool) {
	shard := &s.flights.shards[maphash.String(s.flights.seed, k.key)%flightShards]
	shard.Lock()
	defer shard.Unlock()
	if f = shard.m[k]; f != nil {
		return f, false
	}
	if s.inFlight.Add(1) > maxFlights {
		s.inFlight.Add(-1)
		return nil, false
	}
	f = &flight{flightKey: k, began: now, done: make(chan struct{})}
	shard.m[k] = f
	return f, true
}

// end publishes what a flight found out.
func (s *State) end(f *flight) {
	shard := &s.flights.shards[maphash.String(s.flights.seed, f.key)%flightShards]
	shard.Lock()
	if shard.m[f.flightKey] == f { // else it was forgotten
		delete(shard.m, f.flightKey)
	}
	shard.Unlock()
	s.inFlight.Add(-1)
	close(f.done)
}

// asking reports whether the recipient under key is being asked about.
func (s *State) asking(key string) bool {
	shard := &s.flights.shards[maphash.String(s.flights.seed, key)%flightShards]
	shard.Lock()
	defer shard.Unlock()
	for k := range shard.m {
		if k.key == key {
			return true
		}
	}
	return false
}

// Forget keeps later questions from joining a probe that began before an answer was
// forgotten. Call it after the memory has forgotten; the memory itself drops what
// such probes find out.
func (s *State) Forget(p store.Pattern) {
	for i := range s.flights.shards {
		shard := &s.flights.shards[i]
		shard.Lock()
		for k := range shard.m {
			if p.Matches(k.key) {
				delete(shard.m, k)
			}
		}
		shard.Unlock()
	}
}
