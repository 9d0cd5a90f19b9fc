// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// TestTheNoticeEndsWhenTheSocketIsMade: at first a directory that is not empty lies where
// the socket belongs.
func TestTheNoticeEndsWhenTheSocketIsMade(t *testing.T) {
	state := filepath.Join(testkit.Dir(t), "state")
	if err := os.MkdirAll(filepath.Join(state, "admin.sock", "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	units := []unit.Unit{Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\n", state))
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Look: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	has := func() bool {
		for _, n := range h.Notices.List() {
			if strings.Contains(n.Text, "no admin socket") {
				return true
			}
		}
		return false
	}
	if !has() {
		t.Errorf("notices: %+v", h.Notices.List())
	}
	if err := os.RemoveAll(filepath.Join(state, "admin.sock")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the end of the notice", func() bool { return !has() })
	if _, err := os.Stat(SocketOf(c).Address); err != nil {
		t.Error(err)
	}
}
