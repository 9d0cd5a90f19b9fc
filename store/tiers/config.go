// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/ram"
)

// Config is how much is remembered: part of section [cache].
type Config struct {
	// Entries is the most records kept in RAM, refusals included, which have a tenth
	// of them. A record takes about 200 octets.
	Entries int `toml:"entries" restart:"true" doc:"recipients remembered in memory; refusals take a tenth at most"`
	// DiskEntries is the most records kept on disk, below the state directory. A
	// record takes about 300 octets. 0 keeps nothing on disk: a restart forgets.
	DiskEntries int `toml:"disk_entries" restart:"true" doc:"recipients remembered on disk; 0 keeps nothing on disk, and a restart forgets"`

	// Budget is Timing's; 0 is the default. It is no option: tests on busy machines that
	// are not about time ask for more.
	Budget time.Duration `toml:"-"`
}

// The bounds of both settings; DiskEntries may also be 0.
const (
	MinEntries = 1000
	MaxEntries = 100_000_000
)

// DefaultConfig is a million records in RAM and twice as many on disk.
func DefaultConfig() Config { return Config{Entries: 1_000_000, DiskEntries: 2_000_000} }

// Validate tells what is wrong with the settings, if anything.
func (c Config) Validate() error {
	if c.Entries < MinEntries || c.Entries > MaxEntries {
		return fmt.Errorf("[cache] entries = %d: want a number from %d to %d", c.Entries, MinEntries, MaxEntries)
	}
	if c.DiskEntries != 0 && (c.DiskEntries < MinEntries || c.DiskEntries > MaxEntries) {
		return fmt.Errorf("[cache] disk_entries = %d: want 0 (nothing on disk) or a number from %d to %d",
			c.DiskEntries, MinEntries, MaxEntries)
	}
	return nil
}

// Open makes the tiers of one daemon: RAM, between in order, and the disk store in
// directory state. One of those in between may be a store.Shared: it is joined. It owns the places in between, also when it fails. The only
// failure is another daemon in the same directory (disk.ErrLocked): a disk in
// trouble is logged, and tried again as long as the process lives.
func Open(c Config, state string, log *slog.Logger, between ...store.Store) (*Tiers, error) {
	places, renewed := between, make(chan struct{}, 1)
	if c.DiskEntries > 0 {
		d, err := disk.Open(disk.Options{Dir: state, Entries: c.DiskEntries, Log: log, Renewed: func() {
			select {
			case renewed <- struct{}{}:
			default: // one is enough
			}
		}})
		if err != nil {
			for _, p := range between {
				_ = p.Close()
			}
			return nil, err
		}
		places = append(places[:len(places):len(places)], d)
	}
	t := New(ram.New(ram.Options{Entries: c.Entries}), places...)
	if c.DiskEntries > 0 {
		t.refillWhen(renewed, t.places[len(t.places)-1])
	}
	timing := DefaultTiming()
	timing.Budget = cmp.Or(c.Budget, timing.Budget)
	t.Join(timing)
	return t, nil
}
