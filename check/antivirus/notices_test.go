// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/check/antivirus/clamd"
	"rcptgate/kit/notice"
)

// TestNoticesOfAServer: each test of a server puts on the board what it found out, and takes off
// what no longer holds. What cannot be known while the server is silent is not claimed.
func TestNoticesOfAServer(t *testing.T) {
	silent, small := errors.New("refused"), errors.New("size limit exceeded")
	fresh, old := clamd.Version{Signatures: time.Now()}, clamd.Version{Signatures: time.Now().Add(-2 * oldAfter)}
	p := &pool{cfg: &Config{}, board: notice.New(slog.New(slog.DiscardHandler))}
	s := &server{name: "one"}
	for i, c := range []struct {
		report report
		want   string
	}{
		{report{err: silent}, "down"},
		{report{version: old}, "blind old"},
		{report{err: silent}, "down"},
		{report{version: fresh, proven: 1, short: small}, "limit"},
		{report{version: fresh, same: true}, "limit"},
		{report{version: old, same: true}, "limit old"},
		{report{version: fresh, same: true}, "limit"},
		{report{version: fresh, proven: 1}, ""},
		{report{version: old, proven: 1, short: small}, "limit old"},
		{report{err: silent}, "down"},
		{report{version: fresh}, "blind"},
		{report{version: fresh, proven: 1, short: small}, "limit"},
		{report{version: fresh}, "blind"},
		{report{version: fresh, proven: 1}, ""},
	} {
		p.tell(s, &c.report)
		var got []string
		for _, n := range p.board.List() {
			got = append(got, strings.Fields(n.Key)[1])
		}
		if slices.Sort(got); strings.Join(got, " ") != c.want {
			t.Errorf("report %d: the board has %q, want %q", i+1, got, c.want)
		}
	}
}
