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

// TestOthersAreNotSlowed holds that recipients beside calls that do not end, or grow without
// end, are answered in at most twice the time, however many such calls there are. It compares
// the medians of turns with and without them; on a busy machine it tries again.
func TestOthersAreNotSlowed(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("one processor is shared with the calls that do not end")
	}
	const many, one = 8, 1 // those that fail at once are not more than a busy client
	for name, tc := range map[string]struct {
		calls int
		body  string
	}{
		"endless loops":    {many, "for a in range(1000000):\n      for b in range(1000000): pass"},
		"doubling strings": {many, "for a in range(1000000):\n      x = 'x'\n      for b in range(22): x = x + x"},
		"growing lists":    {many, "for a in range(1000000):\n      x = []\n      for b in range(100000): x.append([b])"},
		"counters":         {many, "for a in range(1000000): C.add(str(a))"},
		"recursion":        {one, "f(f, 1)"},
	} {
		t.Run(name, func(t *testing.T) {
			script := "C = counter('c', '1h')\ndef f(g, x): return g(g, x)\n" + strings.Replace(ten, "\n    if r.client.auth_user:", "\n    if r.address == 'slow@b.example':\n      "+strings.ReplaceAll(tc.body, "\n      ", "\n          ")+"\n    if r.client.auth_user:", 1)
			h := mustOpen(t, script, "on_error = \"continue\"\n")
			ask := asking(t, h)
			var got []time.Duration
			for range 12 {
				got = turns(ask, h, tc.calls)
				if got[1] <= 2*got[0] {
					return
				}
			}
			t.Errorf("%v instead of %v", got[1], got[0])
		})
	}
}

// turns are the medians without and with hostile calls.
func turns(ask func(string) time.Duration, h *unit.Host, calls int) (medians []time.Duration) {
	var took [2][]time.Duration
	for round := range 5 {
		for with := range took {
			stop := func() {}
			if with == 1 {
				stop = hostile(h, calls)
				time.Sleep(2 * time.Millisecond)
			}
			for began := time.Now(); len(took[with]) < 300*(round+1) && time.Since(began) < 200*time.Millisecond; {
				took[with] = append(took[with], ask("bob@example.org"))
			}
			stop()
		}
	}
	for _, list := range took {
		slices.Sort(list)
		medians = append(medians, list[len(list)/2])
	}
	return medians
}
