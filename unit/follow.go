// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"rcptgate/mta/mtaconf"
)

// Followed are settings that were taken from the MTA's own configuration. When its files
// change and mean something else, the active configuration is built anew, as by a reload.
type Followed struct {
	// Section is where the settings would stand otherwise: "aliases".
	Section string
	// Source is what was read. The host alone uses it from then on.
	Source *mtaconf.Source
	// Again reads once more, and reports whether everything still means the same.
	Again func() (later *mtaconf.Source, same bool, err error)
}

// Follow has the origins of settings shown, warnings given, and changes followed while the
// setup is active.
func (s *Setup) Follow(f Followed) { s.followed = append(s.followed, f) }

// lookEvery is how often the MTA's own configuration is looked at for changes.
const lookEvery = time.Second

// follow has the setup built anew when the MTA's configuration has changed, until ctx ends.
// One that cannot be used leaves the old one active.
func (h *Host) follow(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(h.options.Look, lookEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, f := range h.follows() {
			if f.Source.Changed() && h.read(f) {
				break // all are those of a new setup now
			}
		}
	}
}

// mtaMatter begins the keys of notices about the MTA's own files.
const mtaMatter = "mta-configuration "

// read reads a configuration that has changed, and reports whether the setup was built anew.
func (h *Host) read(f Followed) (rebuilt bool) {
	key := mtaMatter + f.Section
	later, same, err := f.Again()
	switch {
	case err != nil:
	case same: // only what is of no concern has changed
		f.Source.Renew(later)
		h.Notices.Clear(key, "")
		return false
	default:
		err = h.Rebuild()
	}
	if err != nil {
		h.Notices.Raise(slog.LevelError, key, "the MTA's configuration has changed but cannot be used, keeping the old one", "section", f.Section, "error", err)
		return false
	}
	h.Notices.Clear(key, "")
	h.Log.Info("the MTA's configuration has changed and is active", "section", f.Section)
	return true
}

// follows are the active setup's settings from the MTA's configuration.
func (h *Host) follows() []Followed {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.followed
}
