// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"

	"rcptgate/mta/mtaconf"
)

// TestNoticesOfAConfigurationEnd: what the board says of a configuration stays until the cause
// is gone, and no longer.
func TestNoticesOfAConfigurationEnd(t *testing.T) {
	var unread, unmet error // what reading and verifying the configuration give
	fussy := Unit{Name: "fussy", Open: Steps(func(s *Setup) error {
		s.Verify(func(context.Context) error { return unmet })
		return nil
	})}
	schema, err := Compose([]Unit{fussy})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(schema, "test.toml", fmt.Sprintf("state = %q\n", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	unmet = errors.New("an expectation is not met")
	h, err := Open(t.Context(), []Unit{fussy}, c, Options{Stderr: io.Discard, Reread: func() (*Config, error) { return c, unread }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	board := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, n := range h.Notices.List() {
			got = append(got, n.Key)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: the board has %q, want %q", when, got, want)
		}
	}
	reload := func() { _, _ = h.Reload() }
	follow := func(same bool, err error) {
		h.read(Followed{Section: "routes", Source: &mtaconf.Source{}, Again: func() (*mtaconf.Source, bool, error) { return &mtaconf.Source{}, same, err }})
	}
	board("begun with an expectation that is not met", "configuration")
	reload()
	board("still not met", "configuration", "reload")
	_ = h.Rebuild()
	board("not met by what is built anew", "configuration", "reload")
	follow(false, nil)
	board("nor with the MTA's new files", "configuration", "mta-configuration routes", "reload")
	unmet = nil
	_ = h.Rebuild()
	board("met by what is built anew", "mta-configuration routes", "reload")
	follow(false, nil)
	board("the MTA's new files are active", "reload")
	reload()
	board("reloaded")

	h.Notices.Raise(slog.LevelError, "configuration", "as at the start")
	follow(false, errors.New("main.cf cannot be read"))
	board("the MTA's files are unreadable", "configuration", "mta-configuration routes")
	follow(true, nil)
	board("they are as they were", "configuration")
	follow(false, errors.New("main.cf cannot be read"))
	unread = errors.New("rcptgate.toml cannot be read")
	reload()
	board("nothing can be read", "configuration", "mta-configuration routes", "reload")
	unread = nil
	reload()
	board("everything was read again")
}
