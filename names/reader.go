// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"

	"rcptgate/store"
	"rcptgate/table"
	"rcptgate/table/aliases"
)

// How long a copy of what memcached said is used, and how much of it is kept.
const (
	foundLife  = time.Minute      // of a name that is published
	absentLife = 30 * time.Second // of one that is not
	maxFound   = 16 << 20         // octets, about
	maxAbsent  = 4 << 20
	entrySize  = 128 // octets of an entry beside its name and value, about
)

// takenValue stands for a published name whose value is not shared. It is no alias
// that any MTA could hold, and counts as accepted wherever it is met.
const takenValue = ":taken:"

// Reader is the table of the names that other gateways publish. It is safe for concurrent
// use, and outlives configurations.
type Reader struct {
	names store.Names
	now   func() time.Time
	// The found are kept apart from the absent: a flood of random names must not evict
	// those in use.
	found, absent *otter.Cache[string, copied]
	counts        *stats.Counter

	hits, misses, failures atomic.Uint64
}

// copied is what memcached said of a name.
type copied struct {
	value  string
	fresh  time.Time // until then it is used without asking
	expire time.Time // until then it is used when memcached cannot be asked; zero for absent names
}

var _ table.Table = (*Reader)(nil)

// NewReader makes a table of names.
func NewReader(names store.Names) *Reader {
	counts := stats.NewCounter()
	copies := func(octets uint64) *otter.Cache[string, copied] {
		return otter.Must(&otter.Options[string, copied]{
			MaximumWeight: octets, StatsRecorder: counts,
			Weigher: func(key string, c copied) uint32 { return uint32(len(key) + len(c.value) + entrySize) }, //nolint:gosec // bounded
		})
	}
	return &Reader{names: names, now: time.Now, found: copies(maxFound), absent: copies(maxAbsent), counts: counts}
}

// Lookup implements table.Table. Value is an alias's right-hand side with addresses and
// local names only, or counts as accepted. An error says that memcached could not be asked;
// whoever decides about mail takes it as absence, which proves nothing either.
func (r *Reader) Lookup(ctx context.Context, key string) (value string, found bool, err error) {
	value, _, found, err = r.Find(ctx, key, key, nil)
	return value, found, err
}

// Find looks for a key in lower case, then as it was written. If memcached must be asked,
// it is asked for further keys too, since they are likely to be looked up next.
func (r *Reader) Find(ctx context.Context, folded, written string, further []string) (value, key string, found bool, err error) {
	value, key, found, known := r.recall(folded, written, false)
	if !known {
		keys := []string{folded, written}
		for _, k := range further {
			keys = append(keys, strings.ToLower(k), k)
		}
		if err = r.ask(ctx, keys); err != nil {
			r.failures.Add(1)
		}
		value, key, found, known = r.recall(folded, written, true)
	}
	switch {
	case found:
		r.hits.Add(1)
		return value, key, true, nil
	case known:
		r.misses.Add(1)
		return "", key, false, nil
	}
	if err == nil { // evicted at once
		err = store.ErrNotFound
	}
	return "", key, false, fmt.Errorf("published names: %w", err)
}

// recall looks for copies of both spellings. Known says that neither need be asked for.
func (r *Reader) recall(folded, written string, stale bool) (value, key string, found, known bool) {
	value, found, known = r.copyOf(folded, stale)
	if found || written == folded || (!known && !stale) {
		return value, folded, found, known
	}
	value, found, too := r.copyOf(written, stale)
	return value, written, found, found || known && too
}

// copyOf looks for a copy. Known says that it need not be asked for; old copies of
// names that were found are known when stale is set.
func (r *Reader) copyOf(key string, stale bool) (value string, found, known bool) {
	now := r.now()
	if c, ok := r.found.GetIfPresent(key); ok && now.Before(c.expire) && (stale || now.Before(c.fresh)) {
		return c.value, true, true
	}
	if c, ok := r.absent.GetIfPresent(key); ok && now.Before(c.fresh) {
		return "", false, true
	}
	return "", false, false
}

// ask asks memcached for keys, except for those that are known.
func (r *Reader) ask(ctx context.Context, all []string) error {
	keys := make([]string, 0, len(all))
	for _, key := range all {
		if _, _, known := r.copyOf(key, false); !known && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	found, err := r.names.Find(ctx, keys)
	now := r.now()
	for _, key := range keys {
		if n, ok := found[key]; ok {
			if !Shareable(n.Value) { // a stranger may have written it
				n.Value = takenValue
			}
			r.absent.Invalidate(key)
			r.found.Set(key, copied{n.Value, now.Add(foundLife), n.Expire})
		} else if err == nil {
			r.found.Invalidate(key)
			r.absent.Set(key, copied{fresh: now.Add(absentLife)})
		}
	}
	return err
}

// Stats describes the copies in RAM: entries are names found.
func (r *Reader) Stats() store.Stats {
	return store.Stats{
		Name: "names", Entries: int64(r.found.EstimatedSize()), Hits: r.hits.Load(), Misses: r.misses.Load(), Errors: r.failures.Load(),
		Evicted: r.counts.Snapshot().Evictions,
	}
}

// Shareable reports whether other gateways can follow the value of an alias as this one
// would: it has addresses and local names only. Files, programs and lists are this
// machine's own, and a name with such a target is accepted in any case.
func Shareable(value string) bool {
	if value == "" || len(value) > store.MaxNameValue {
		return false
	}
	targets, err := aliases.Parse(value)
	if err != nil {
		return false
	}
	for i := range targets {
		if k := targets[i].Kind; k != aliases.Address && k != aliases.Local && k != aliases.Escaped {
			return false
		}
	}
	return true
}
