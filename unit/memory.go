// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"rcptgate/config/setting"
	"rcptgate/kit/exit"
	"rcptgate/metric"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/store/ram"
	"rcptgate/store/tiers"
	"rcptgate/view"
)

// openMemory opens what remembers answers: RAM, what gateways share, disk.
func (h *Host) openMemory(c *Config) (err error) {
	if h.options.Offline {
		h.Memory = tiers.New(ram.New(ram.Options{}))
		return nil
	}
	if err := c.checkState(); err != nil {
		return exit.With(exit.Config, err)
	}
	shared, cache := *Part[memcached.Config](c), *Part[tiers.Config](c)
	limits := c.limits()
	var places []store.Store
	if shared.Active() {
		if h.Shared, err = memcached.NewClient(shared, h.Log, memcached.ClientOptions{Timeout: h.options.Wait, Notices: h.Notices}); err != nil {
			return exit.With(exit.Config, c.Place(inKeyFile(err)))
		}
		h.exchange = memcached.New(h.Shared, memcached.Options{
			Life: slices.Max(limits[:]), Every: h.options.Every, Gateway: c.Core().Hostname,
		})
		places = append(places, h.exchange)
	}
	if h.Memory, err = tiers.Open(cache, tiers.Options{
		State: c.Core().State, Disk: h.options.Disk, Log: h.Log, Notices: h.Notices, Budget: h.options.Wait,
	}, places...); err != nil {
		code := exit.Unavailable
		if errors.Is(err, store.ErrOwner) || errors.Is(err, store.ErrReadOnly) {
			code = exit.Config // starting again does not help
		}
		return exit.With(code, fmt.Errorf("state: %w", err))
	}
	h.Memory.Limit(limits)
	return nil
}

// reconfigureMemory makes other servers and keys active. From nothing shared to something
// needs a restart.
func (h *Host) reconfigureMemory(c *Config) error {
	cfg := *Part[memcached.Config](c)
	if h.Shared == nil {
		if _, err := memcached.ReadKeys(cfg.KeyFile); err != nil {
			return inKeyFile(err)
		}
	} else if err := h.Shared.Configure(cfg); err != nil {
		return inKeyFile(err)
	}
	h.Memory.Limit(c.limits())
	return nil
}

// inKeyFile names the option that err is about.
func inKeyFile(err error) error {
	if err == nil {
		return nil
	}
	return &setting.KeyError{Key: "cache.memcached_key_file", Err: err}
}

// patience is how long one answer may wait for memory that gateways share.
func (h *Host) patience() time.Duration {
	if h.Shared == nil {
		return 0
	}
	return h.Memory.Patience()
}

// memoryMetrics are about the places that remember, and the servers that gateways share.
func (h *Host) memoryMetrics() []metric.Family {
	per := func(kind metric.Kind, name, help string, of func(*store.Stats) float64) metric.Family {
		return metric.Each(kind, name, help, "place", h.Memory.Stats, func(s *store.Stats) (float64, string) { return of(s), s.Name })
	}
	list := []metric.Family{
		per(metric.Gauge, "cache_records", "Records remembered.", func(s *store.Stats) float64 { return float64(s.Entries) }),
		per(metric.Gauge, "cache_refusals", "Records that only refuse.", func(s *store.Stats) float64 { return float64(s.Refusals) }),
		per(metric.Counter, "cache_hits_total", "Look-ups that found something.", func(s *store.Stats) float64 { return float64(s.Hits) }),
		per(metric.Counter, "cache_misses_total", "Look-ups that found nothing.", func(s *store.Stats) float64 { return float64(s.Misses) }),
		per(metric.Counter, "cache_errors_total", "Look-ups and writes that failed.", func(s *store.Stats) float64 { return float64(s.Errors) }),
		per(metric.Counter, "cache_evicted_total", "Records dropped before their end.", func(s *store.Stats) float64 { return float64(s.Evicted) }),
	}
	if h.Shared != nil {
		list = append(list, memcached.Metrics(h.Shared, h.exchange)...)
	}
	return list
}

// memoryShow describes the places, and the servers of the shared one.
func (h *Host) memoryShow() []view.Table {
	places := memoryTable()
	servers := memcachedTable()
	for _, s := range h.Memory.Stats() {
		if s.Capacity == 0 { // a shared place does not know what it holds
			places.Add("", s.Name, nil, nil, nil, s.Hits, s.Misses, s.Errors, s.Evicted, s.Detail)
		} else {
			places.Add("", s.Name, s.Entries, s.Refusals, s.Capacity, s.Hits, s.Misses, s.Errors, s.Evicted, s.Detail)
		}
		for _, v := range s.Servers {
			attention := ""
			if !v.Alive {
				attention = "memcached server " + v.Name + " does not answer: " + v.Error
			}
			servers.Add(attention, v.Name, v.Alive, v.Since, v.Hits, v.Misses, v.Errors, v.Bad, v.Latency, v.Error)
			servers.About(memcached.Matter(v.Name))
		}
	}
	if h.Shared == nil {
		return []view.Table{places}
	}
	return []view.Table{places, servers}
}

// ErrNoOp says that a unit does not answer a command.
var ErrNoOp = errors.New("this daemon does not have that command")

// InputError is the error of a command whose arguments are wrong, not the daemon. The program
// ends with exit code 65.
type InputError struct{ Err error }

// Error is the text of Err.
func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *InputError) Unwrap() error { return e.Err }

// ConfigError is the error of a command about something that the active configuration does not
// have. The program ends with exit.Config.
type ConfigError struct{ Err error }

// Error is the text of the error within.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap gives the error within.
func (e *ConfigError) Unwrap() error { return e.Err }

// PartError is the error of a command that was done on this gateway and not, or not yet, on
// the others. The program ends with exit code 75.
type PartError struct{ Err error }

// Error is the text of Err.
func (e *PartError) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *PartError) Unwrap() error { return e.Err }

// memoryTable is the table "memory" without rows.
func memoryTable() view.Table {
	return view.Table{
		Name: "memory", Title: "Memory",
		Doc: "what is remembered of recipients, and where",
		Columns: view.Explained(
			"place", "Place", "ram, disk or memcached",
			"entries", "Recipients", "recipients that the place holds; memcached does not say",
			"refusals", "Refusals", "of these, recipients of whom only a refusal is known",
			"capacity", "Capacity", "most recipients that it holds",
			"hits", "Hits", "look-ups that found something",
			"misses", "Misses", "look-ups that found nothing",
			"errors", "Errors", "look-ups and writes that failed",
			"evicted", "Evicted", "recipients dropped before their end to make room for others",
			"detail", "Detail", "what else is to be said, such as a damaged file that was set aside",
		),
	}
}

// memcachedTable is the table "memcached" without rows.
func memcachedTable() view.Table {
	return view.Table{
		Name: "memcached", Title: "memcached servers", Empty: "none are configured ([cache] memcached): this gateway's memory is its own",
		Doc: "the servers of [cache] memcached; not shown without any",
		Columns: view.Explained(
			"server", "Server", "its address",
			"alive", "Alive", "no: it does not answer, and is tried again in the background",
			"since", "Since", "when Alive last changed",
			"hits", "Hits", "look-ups that found something",
			"misses", "Misses", "look-ups that found nothing",
			"errors", "Errors", "look-ups and writes that failed",
			"disbelieved", "Not believed", "values passed over because they are damaged, or not signed with a key of memcached_key_file",
			"latency", "Latency", "moving average of the time that one exchange takes",
			"error", "Error", "the last failure",
		),
	}
}
