// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"errors"
	"log/slog"
	"testing"

	"rcptgate/kit/notice"
)

// TestNoticesOfASourceEnd when it answers again; all of them when other settings are active, which
// may have mended what was wrong.
func TestNoticesOfASourceEnd(t *testing.T) {
	board := notice.New(slog.New(slog.DiscardHandler))
	s := NewSet(board)
	t.Cleanup(s.Close)
	g, err := s.Get("udp:127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	has := func(when string, want int) {
		t.Helper()
		if list := board.List(); len(list) != want {
			t.Errorf("%s: the board has %+v", when, list)
		}
	}
	down := func() {
		for range failures {
			g.note(errors.New("no answer"))
		}
	}
	for range failures - 1 {
		g.note(errors.New("no answer"))
	}
	has("before the breaker opens", 0)
	down()
	has("it does not answer", 1)
	g.note(nil)
	has("it answers again", 0)
	down()
	for _, what := range []string{"mailbox ", "refuses ", "implausible ", "shrunk "} {
		board.Warn("quota: "+what+g.Name, "as the check says")
	}
	board.Warn("quota: mailbox udp:127.0.0.1:10", "another source")
	has("all there is", 6)
	s.Configure(Settings{})
	has("other settings are active", 1)
}
