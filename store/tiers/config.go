// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"cmp"
	"log/slog"
	"time"

	"rcptgate/config/setting"
	"rcptgate/kit/notice"
	"rcptgate/store"
	"rcptgate/store/ram"
)

// Config is how much is remembered: part of section [cache].
type Config struct {
	// Entries is the most records kept in RAM, refusals included, which have a tenth
	// of them. A record takes about 200 octets.
	Entries int `toml:"entries" restart:"true" min:"1000" max:"100000000" doc:"maximum number of recipients remembered in memory; refusals take at most a tenth"`
	// DiskEntries is the most records kept on disk, below the state directory. A
	// record takes about 300 octets. 0 keeps nothing on disk: a restart forgets.
	DiskEntries int `toml:"disk_entries" restart:"true" min:"0" max:"100000000" doc:"maximum number of recipients remembered on disk, at least 1000; 0 keeps nothing on disk, so that a restart forgets everything"`
}

// minDiskEntries is the least bound of a disk store that is there.
const minDiskEntries = 1000

// DefaultConfig is a million records in RAM and twice as many on disk.
func DefaultConfig() Config { return Config{Entries: 1_000_000, DiskEntries: 2_000_000} }

// Validate says what is wrong with the settings, if anything, that their ranges do not.
func (c Config) Validate() error {
	if c.DiskEntries > 0 && c.DiskEntries < minDiskEntries {
		return setting.Keyf("disk_entries", "%d is too few: 0 keeps nothing on disk, otherwise at least %d", c.DiskEntries, minDiskEntries)
	}
	return nil
}

// DiskOptions are what a [Disk] needs.
type DiskOptions struct {
	Dir     string // the state directory
	Entries int    // the most records kept
	Log     *slog.Logger
	Notices *notice.Board // nil: trouble is logged only
	// Renewed is called when the contents are gone, because the file was damaged or removed. It
	// must not block.
	Renewed func()
}

// Disk opens the place that outlives the process.
type Disk func(DiskOptions) (store.Store, error)

// Options say where the tiers are and what else they need.
type Options struct {
	// State is the state directory.
	State string
	// Disk opens the place in it; nil keeps nothing on disk. It is not package store/disk itself,
	// so that only what keeps something on disk is built with a database.
	Disk Disk
	// Log gets reports of trouble and of what other gateways have forgotten; nil discards them.
	Log *slog.Logger
	// Notices is the board for trouble that lasts; nil: it is logged only.
	Notices *notice.Board
	// Budget is Timing's; 0 is the default.
	Budget time.Duration
}

// Open makes the tiers of one daemon: RAM, between in order, and the disk store in the
// state directory. One of those in between may be a store.Shared: it is joined. It owns
// the places in between, also when it fails. It fails when the state directory is another
// daemon's or another user's (store.ErrOwner), or cannot be written to (store.ErrReadOnly). A disk in any other trouble is logged, and tried again as long as
// the process lives.
func Open(c Config, o Options, between ...store.Store) (*Tiers, error) {
	places, renewed := between, make(chan struct{}, 1)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	onDisk := c.DiskEntries > 0 && o.Disk != nil
	if onDisk {
		d, err := o.Disk(DiskOptions{Dir: o.State, Entries: c.DiskEntries, Log: o.Log, Notices: o.Notices, Renewed: func() {
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
	if onDisk {
		last := t.local.places[len(t.local.places)-1]
		t.background.Go(func() { t.local.refillWhen(renewed, last, t.quit) })
	}
	timing := DefaultTiming()
	timing.Budget = cmp.Or(o.Budget, timing.Budget)
	if t.shared != nil {
		t.shared.orders.log = o.Log
	}
	t.Join(timing)
	return t, nil
}
