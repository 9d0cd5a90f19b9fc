// SPDX-License-Identifier: BSD-2-Clause

package live

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Run follows the file until ctx ends, whose error it returns. Only one Run of a
// Live may run.
func (l *Live) Run(ctx context.Context) error {
	watch := l.watch()
	defer watch.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	dirty := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, ok := <-watch.events:
			if !ok {
				watch.events = nil
				continue
			}
			if watch.names[filepath.Clean(event.Name)] && event.Op != fsnotify.Chmod && !dirty {
				dirty = true
				timer.Reset(settle)
			}
		case err, ok := <-watch.errors:
			if !ok {
				watch.errors = nil
				continue
			}
			l.log.Debug("table notifications lost", "table", l.cfg.Spec.String(), "error", err)
			dirty = true
			timer.Reset(settle)
		case <-timer.C:
			err := l.refresh(ctx, dirty)
			if errors.Is(err, ErrBusy) {
				timer.Reset(again)
				continue
			}
			dirty = false
			timer.Reset(l.cfg.Poll)
		}
	}
}

// watcher is what notifies, if anything does.
type watcher struct {
	*fsnotify.Watcher
	events chan fsnotify.Event
	errors chan error
	names  map[string]bool
}

// watch watches the directory, since the file itself may be replaced, and the one
// that a symbolic link leads to. Where that cannot be had, looking once a second does.
func (l *Live) watch() *watcher {
	w := &watcher{names: map[string]bool{filepath.Clean(l.path): true}}
	if real, err := filepath.EvalSymlinks(l.path); err == nil {
		w.names[real] = true
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		l.log.Debug("table without notifications", "table", l.cfg.Spec.String(), "error", err)
		return w
	}
	w.Watcher, w.events, w.errors = notify, notify.Events, notify.Errors
	for name := range w.names {
		if err := notify.Add(filepath.Dir(name)); err != nil {
			l.log.Debug("table without notifications", "table", l.cfg.Spec.String(), "error", fmt.Errorf("%s: %w", filepath.Dir(name), err))
		}
	}
	return w
}

func (w *watcher) close() {
	if w.Watcher != nil {
		_ = w.Close()
	}
}
