// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"fmt"
	"io"
	"time"

	"rcptgate/kit/term"
)

// Trouble is what keeps log lines from their target.
type Trouble struct {
	Target string
	Err    error
	Since  time.Time
}

// String says it for people.
func (t *Trouble) String() string {
	return fmt.Sprintf("log lines are dropped since %s: the target %q cannot be written to: %v", t.Since.Format(time.RFC3339), t.Target, t.Err)
}

// Trouble gives what keeps lines from the target at the moment; nil: nothing does.
func (s *Telemetry) Trouble() *Trouble { return s.lines.trouble.Load() }

// tellEvery is the least time between two beginnings that are reported, for a target that
// comes and goes.
const tellEvery = time.Minute

// teller reports on standard error when a target begins to fail and when it works again:
// the log itself cannot. It belongs to the goroutine of lines.
type teller struct {
	name  string
	out   io.Writer // nil: standard error is itself the target
	last  time.Time // when a beginning was reported
	spoke bool      // the last beginning was
}

func (t *teller) begins(trouble *Trouble) {
	t.spoke = t.out != nil && trouble.Since.Sub(t.last) >= tellEvery
	if !t.spoke {
		return
	}
	t.last = trouble.Since
	_, _ = fmt.Fprintf(t.out, "rcptgate: %s\n", trouble)
}

func (t *teller) ends(trouble *Trouble, dropped uint64) {
	if t.spoke {
		_, _ = fmt.Fprintf(t.out, "rcptgate: the log target %q works again after %v; %s dropped\n",
			t.name, time.Since(trouble.Since).Round(time.Millisecond), term.Count(dropped, "line"))
	}
}

// judge notes whether the target works, after a write.
func (l *lines) judge() {
	was, err := l.trouble.Load(), l.target.trouble()
	switch {
	case err != nil && was == nil:
		l.before = l.dropped.Load() - l.pending
		now := &Trouble{Target: l.teller.name, Err: err, Since: time.Now()}
		l.trouble.Store(now)
		l.teller.begins(now)
	case err == nil && was != nil:
		l.trouble.Store(nil)
		l.teller.ends(was, l.dropped.Load()-l.before)
	}
}
