// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"
	"log/slog"
	"time"

	"rcptgate/check/callahead"
	"rcptgate/config/setting"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/telemetry"
)

// shared is the memory that other gateways write to as well.
type shared struct {
	client *memcached.Client
	store  *memcached.Store // the tiers own it
}

// openShared makes what speaks to the memcached servers that the configuration names; nil
// when it names none. What was forgotten is exchanged every so often; 0 is the store's default. It
// asks nobody yet.
func openShared(cfg *Config, every time.Duration, log *slog.Logger) (*shared, error) {
	if !cfg.Cache.Active() {
		return nil, nil //nolint:nilnil // nothing is shared, and that is no error
	}
	client, err := memcached.NewClient(cfg.Cache.MemcachedConfig, log)
	if err != nil {
		return nil, inCache(err)
	}
	return &shared{client, memcached.New(client, memcached.Options{Life: longestLife(cfg), Every: every})}, nil
}

// places are the tiers between RAM and disk.
func (s *shared) places() []store.Store {
	if s == nil {
		return nil
	}
	return []store.Store{s.store}
}

// configure puts other servers and keys in force. From nothing shared to something is
// for a restart.
func (s *shared) configure(cfg *Config) error {
	if s == nil {
		return checkKeyFile(cfg)
	}
	if err := s.client.Configure(cfg.Cache.MemcachedConfig); err != nil {
		return inCache(err)
	}
	return nil
}

func (s *shared) close() {
	if s != nil {
		_ = s.client.Close()
	}
}

// inCache names the option of [cache] that err is about.
func inCache(err error) error {
	return &setting.KeyError{Key: "cache.memcached_key_file", Err: err}
}

// checkKeyFile reads the key file, if there is one: a dry run shows what is wrong with it.
func checkKeyFile(cfg *Config) error {
	if _, err := memcached.ReadKeys(cfg.Cache.KeyFile); err != nil {
		return inCache(err)
	}
	return nil
}

// longestLife is how long any answer is remembered at most.
func longestLife(cfg *Config) time.Duration {
	lives := &cfg.Cache.Lives
	most := max(lives.Valid.Expire, lives.Unknown.Expire, lives.Full.Expire, lives.Refused.Expire, lives.Deferred.Expire, lives.AcceptAll.Expire)
	for i := range cfg.Domain {
		d := &cfg.Domain[i]
		if d.Valid != nil && d.Valid.Expire != nil {
			most = max(most, *d.Valid.Expire)
		}
		for _, life := range []*callahead.LifeChange{d.Unknown, d.Full, d.Refused, d.Deferred, d.AcceptAll} {
			if life != nil && life.Expire != nil {
				most = max(most, *life.Expire)
			}
		}
	}
	return most.Std()
}

// registerMemcached makes metrics of what the client counts.
func (d *daemon) registerMemcached(number registrar) error {
	if d.shared == nil {
		return nil
	}
	var errs []error
	perServer := func(kind telemetry.Kind, name, help string, f func(s *memcached.ServerStats) float64) {
		errs = append(errs, d.telemetry.Register(kind, name, help, []string{"server"}, func(emit telemetry.Emit) {
			for _, st := range d.shared.client.Stats() {
				emit(f(&st), st.Name)
			}
		}))
	}
	perServer(telemetry.Gauge, "memcached_up", "0: the server is dead and is not asked.", func(s *memcached.ServerStats) float64 {
		if s.Alive {
			return 1
		}
		return 0
	})
	perServer(telemetry.Counter, "memcached_hits_total", "Keys found, leases included.", func(s *memcached.ServerStats) float64 { return float64(s.Hits) })
	perServer(telemetry.Counter, "memcached_misses_total", "Keys not found.", func(s *memcached.ServerStats) float64 { return float64(s.Misses) })
	perServer(telemetry.Counter, "memcached_errors_total", "Questions without a usable reply.", func(s *memcached.ServerStats) float64 { return float64(s.Errors) })
	errs = append(errs,
		d.telemetry.Register(telemetry.Counter, "memcached_bad_values_total", "Values not believed: mac, not sealed with a key of ours; form, not as documented.", []string{"server", "why"}, func(emit telemetry.Emit) {
			for _, st := range d.shared.client.Stats() {
				emit(float64(st.BadMAC), st.Name, "mac")
				emit(float64(st.BadForm), st.Name, "form")
			}
		}),
		d.telemetry.RegisterHistogram("memcached_seconds", "How long questions to a server took, failed ones included.", []string{"server"}, func(emit telemetry.EmitHistogram) {
			for _, st := range d.shared.client.Stats() {
				emit(telemetry.Histogram{Bounds: memcached.LatencyBounds[:], Counts: st.Latency.Counts[:], Sum: st.Latency.Sum}, st.Name)
			}
		}))
	number(telemetry.Gauge, "memcached_queue", "Records not yet written to memcached.", func() float64 { return float64(d.shared.store.Queue().Waiting) })
	number(telemetry.Counter, "memcached_queue_dropped_total", "Records not written to memcached: the queue was full.", func() float64 { return float64(d.shared.store.Queue().Dropped) })
	number(telemetry.Counter, "memcached_writes_failed_total", "Records not written to memcached: no server took them.", func() float64 { return float64(d.shared.store.Queue().Failed) })
	number(telemetry.Gauge, "memcached_tombstones", "Forgotten patterns that all gateways are told of.", func() float64 { return float64(d.shared.store.Tombstones()) })
	return errors.Join(errs...)
}
