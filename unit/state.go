// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"errors"
	"log/slog"
	"time"

	"rcptgate/config"
	"rcptgate/kit/notice"
	"rcptgate/metric"
	"rcptgate/route"
	"rcptgate/store/memcached"
	"rcptgate/view"
)

// Reloaded is what came of a reload.
type Reloaded struct {
	// Restart names the settings that differ from the start and need a restart.
	Restart []string `json:"restart,omitempty"`
}

// Reload reads the configuration again and makes it active. On an error nothing changes.
func (h *Host) Reload() (Reloaded, error) {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	done, err := h.reload()
	h.mu.Lock()
	h.failed = err
	h.mu.Unlock()
	if err != nil {
		h.Log.Error("reload failed, keeping the old configuration", "error", err) // each one: somebody has just asked for it
		h.Notices.Note(slog.LevelError, "reload", "reload failed, keeping the old configuration", "error", err)
		return done, err
	}
	h.Notices.Clear("reload", "")
	h.Notices.Clear("configuration", "")
	h.Notices.ClearAll(mtaMatter) // those files were read again, too
	c := h.Config()
	h.Log.Info("configuration reloaded", "configuration", c.Source(), "mode", h.Mode(), "needs_restart", done.Restart)
	return done, nil
}

// Rebuild makes the active configuration active again: for a unit whose settings stand in
// other files too, which have changed. On an error nothing changes.
func (h *Host) Rebuild() error {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	setup, err := h.build(h.Config())
	if err != nil {
		return err
	}
	if err := setup.verified(); err != nil {
		setup.close()
		return err
	}
	h.adopt(setup)
	h.Notices.Clear("configuration", "")
	return nil
}

func (h *Host) reload() (done Reloaded, err error) {
	if h.options.Reread == nil {
		return done, errNoConfiguration
	}
	c, err := h.options.Reread()
	if err != nil {
		return done, err
	}
	if c.Core().State != h.begun.Core().State { // it is not used before a restart, which would fail
		if err := c.checkState(); err != nil {
			return done, err
		}
	}
	setup, err := h.build(c)
	if err != nil {
		return done, err
	}
	if err := errors.Join(setup.lease.Unread()...); err != nil { // at a start it is served without
		setup.close()
		return done, err
	}
	if err := setup.verified(); err != nil {
		setup.close()
		return done, err
	}
	if err := h.reconfigureMemory(c); err != nil { // the last thing that can fail
		setup.close()
		return done, c.Place(err)
	}
	h.adopt(setup)
	done.Restart = h.restart(c)
	return done, nil
}

// restart names what a configuration changes but only a restart makes active.
func (h *Host) restart(c *Config) []string {
	names := config.NeedsRestart(h.begun.Composed, c.Composed)
	if h.Shared == nil && Part[memcached.Config](c).Active() { // other servers are active at once
		names = append(names, "cache.memcached")
	}
	return names
}

// Config is the active configuration.
func (h *Host) Config() *Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.config
}

// Hostname is the gateway's own name.
func (h *Host) Hostname() string { return h.Config().Core().Hostname }

// Show prints the active configuration, and what is known of the tables it names.
func (h *Host) Show() string {
	text := h.Config().Show()
	for _, f := range h.follows() {
		for _, o := range f.Source.Origins {
			text += "# " + view.Clean(f.Section+"."+o.String()) + "\n"
		}
	}
	for _, s := range h.Tables.States() {
		text += "# table " + view.Clean(s.String()) + "\n"
	}
	return text
}

// Mode says in a word whether the gate refuses: "enforcing", "rehearsing", or "mixed" where
// [[domain]] sections differ from the rest.
func (h *Host) Mode() string { return Mode(h.Config()) }

// Mode is Host.Mode of a configuration.
func Mode(c *Config) string {
	words := map[bool]string{true: "enforcing", false: "rehearsing"}
	enforce := c.Core().Enforce
	for _, d := range Domains[route.DomainConfig](c) {
		if d.Enforce != nil && *d.Enforce != enforce {
			return "mixed"
		}
	}
	return words[enforce]
}

// NotReady gives the reasons why no questions are taken; none means ready.
func (h *Host) NotReady() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.notReady != "" {
		return []string{h.notReady}
	}
	return nil
}

func (h *Host) setReady(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notReady = why
}

// Attention lists what needs a person: notices, and rows of what the units show.
func (h *Host) Attention() (list []notice.Notice) {
	list = h.Notices.List()
	said := make(map[string]bool)
	for _, n := range list {
		said[n.Key] = true
	}
	if h.Telemetry != nil {
		if t := h.Telemetry.Trouble(); t != nil {
			list = append(list, notice.Notice{Key: "log", Level: slog.LevelError, Text: t.String()})
		}
	}
	for _, t := range h.Views() {
		for _, r := range t.Rows {
			if r.Attention != "" && !said[r.Matter] {
				list = append(list, notice.Notice{Key: t.Name, Level: slog.LevelWarn, Text: r.Attention})
			}
		}
	}
	return list
}

// Status is what the daemon says of itself: "rcptgate status".
type Status struct {
	Version       string    `json:"version"`
	Hostname      string    `json:"hostname"`
	Started       time.Time `json:"started"`
	Mode          string    `json:"mode"` // enforcing, rehearsing, mixed
	NotReady      []string  `json:"not_ready,omitempty"`
	Configuration string    `json:"configuration"`
	Loaded        time.Time `json:"loaded"` // when the active configuration was read
	ReloadError   string    `json:"reload_error,omitempty"`
	Restart       []string  `json:"needs_restart,omitempty"`
	Domains       int       `json:"domains"` // [[domain]] sections
	Attention     []string  `json:"attention,omitempty"`
}

// Status describes the daemon.
func (h *Host) Status() Status {
	c := h.Config()
	h.mu.Lock()
	failed := h.failed
	h.mu.Unlock()
	s := Status{
		Version: h.options.Version, Hostname: c.Core().Hostname, Started: h.started, Mode: Mode(c), NotReady: h.NotReady(),
		Configuration: c.Source(), Loaded: c.Loaded, Restart: h.restart(c),
		Domains: len(Domains[route.DomainConfig](c)),
	}
	if failed != nil {
		s.ReloadError = failed.Error()
	}
	for _, n := range h.Attention() {
		s.Attention = append(s.Attention, n.Text)
	}
	return s
}

// metrics are about the host itself.
func (h *Host) metrics() []metric.Family {
	return []metric.Family{
		metric.Level("config_last_reload_successful", "1: the last reload, if there was one, made its configuration active.", func() float64 {
			h.mu.Lock()
			defer h.mu.Unlock()
			return metric.Bool(h.failed == nil)
		}),
		metric.Level("config_loaded_seconds", "When the active configuration was read, in seconds since 1970.", func() float64 {
			return float64(h.Config().Loaded.UnixMilli()) / 1000
		}),
		{Kind: metric.Gauge, Name: "mode", Help: "1 for the mode: enforcing, rehearsing, or mixed where [[domain]] sections differ.", Labels: []string{"mode"}, Read: func(emit metric.Emit) {
			for _, m := range []string{"enforcing", "rehearsing", "mixed"} {
				emit(metric.Bool(h.Mode() == m), m)
			}
		}},
		metric.Level("attention", "Matters that need a person.", func() float64 { return float64(len(h.Attention())) }),
	}
}
