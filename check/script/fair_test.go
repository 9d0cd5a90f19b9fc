// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/unit"
)

// asking is a client behind a socket, as an MTA is, with a server that asks the gate.
func asking(t *testing.T, h *unit.Host) func(recipient string) time.Duration {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close(); _ = l.Close() })
	go func() {
		lines := bufio.NewScanner(server)
		for lines.Scan() {
			q := question(lines.Text())
			q.Trace.Explain = false
			v := h.Gate.Ask(context.Background(), q)
			_, _ = server.Write([]byte(v.Action.String() + "\n"))
		}
	}()
	answers := bufio.NewScanner(client)
	return func(recipient string) time.Duration {
		start := time.Now()
		if _, err := client.Write([]byte(recipient + "\n")); err != nil || !answers.Scan() || answers.Text() != "continue" {
			t.Errorf("%s: %q, %v, %v", recipient, answers.Text(), err, answers.Err())
		}
		return time.Since(start)
	}
}

// hostile runs calls of a function, several at a time, until it is told to stop.
func hostile(h *unit.Host, calls int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range calls {
		running.Go(func() {
			for ctx.Err() == nil {
				q := question("slow@b.example")
				q.Trace.Explain = false
				h.Gate.Ask(ctx, q)
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// slow makes a script whose recipient slow@b.example runs a body.
func slow(body string) string {
	return "C = counter('c', '1h')\nX = re('(x?){60}x{60}y')\ndef f(g, x): return g(g, x)\n" +
		strings.Replace(ten, "\n    if r.client.auth_user:", "\n    if r.address == 'slow@b.example':\n      "+strings.ReplaceAll(body, "\n      ", "\n          ")+"\n    if r.client.auth_user:", 1)
}

const endless = "for a in range(1000000):\n      for b in range(1000000): pass"

// TestOthersAreNotSlowed holds that recipients beside calls that do not end, or grow without
// end, are answered in at most twice the time, however many such calls there are. It compares
// the medians of turns with and without them; on a busy machine it tries again.
func TestOthersAreNotSlowed(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("one processor is shared with one of the calls: see TestManyDoNotSlowMoreThanOne")
	}
	const many, one = 8, 1 // those that fail at once are not more than a busy client
	for name, tc := range map[string]struct {
		calls int
		body  string
	}{
		"endless loops":    {many, endless},
		"doubling strings": {many, "for a in range(1000000):\n      x = 'x'\n      for b in range(22): x = x + x"},
		"growing lists":    {many, "for a in range(1000000):\n      x = []\n      for b in range(100000): x.append([b])"},
		"searches":         {many, "for a in range(1000000): X.search('x' * 4000)"},
		"counters":         {many, "for a in range(1000000): C.add(str(a))"},
		"recursion":        {one, "f(f, 1)"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "searches" && testing.Short() {
				t.Skip("the race detector's own code, where a search is most of the time then, cannot be interrupted")
			}
			h := mustOpen(t, slow(tc.body), "on_error = \"continue\"\n")
			notSlowed(t, h, asking(t, h), 0, tc.calls)
		})
	}
}

// On one processor there is none left beside a call that does not end. But many such calls slow
// others, which wait for their turn, no more than one does.
func TestManyDoNotSlowMoreThanOne(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	h := mustOpen(t, slow(endless), "on_error = \"continue\"\nsteps = 1_000_000_000\n")
	notSlowed(t, h, func(recipient string) time.Duration {
		start := time.Now()
		runtime.Gosched()
		q := question(recipient)
		q.Trace.Explain = false
		if v := h.Gate.Ask(t.Context(), q); v.Action != rcptgate.Continue {
			t.Errorf("%+v", v)
		}
		return time.Since(start)
	}, 1, 8)
}

// notSlowed compares recipients beside some calls that do not end with those beside more.
func notSlowed(t *testing.T, h *unit.Host, ask func(recipient string) time.Duration, some, more int) {
	t.Helper()
	var got []time.Duration
	for range 5 {
		got = turns(ask, h, some, more)
		if got[1] <= 2*got[0] {
			return
		}
	}
	t.Errorf("%v instead of %v", got[1], got[0])
}

// turns are the medians of turns beside some hostile calls, and of as many beside more.
func turns(ask func(string) time.Duration, h *unit.Host, some, more int) []time.Duration {
	var turns [2][]time.Duration
	for range 5 {
		for with, calls := range []int{some, more} {
			stop := hostile(h, calls)
			for range 3 { // all calls begin at one time, which is not what is measured
				ask("bob@example.org")
			}
			var took []time.Duration
			for began := time.Now(); len(took) < 40 && (time.Since(began) < 200*time.Millisecond || len(took) < 5); {
				took = append(took, ask("bob@example.org"))
			}
			stop()
			turns[with] = append(turns[with], median(took))
		}
	}
	return []time.Duration{median(turns[0]), median(turns[1])}
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}
