// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.starlark.net/starlark"

	"rcptgate"
)

// held keeps values alive until the end of a test.
type held [][]byte

func (h *held) more(octets int) { *h = append(*h, make([]byte, octets)) }

// The watch counts what calls keep alive, and neither garbage nor what was there before them,
// and finds growth that no collection has seen yet.
func TestGrowthIsMeasured(t *testing.T) {
	const limit = 8 << 20
	var before, during held
	before.more(2 * limit)
	for range 3 { // what other tests have left goes in several
		runtime.GC()
	}
	h := newHeap(limit)
	is := func(what string, least, most uint64) {
		t.Helper()
		if n := h.excess(time.Now()); n < least || n > most {
			t.Errorf("%s: grown by %d octets beyond the limit", what, n)
		}
	}
	during.more(limit * 3 / 4)
	runtime.GC()
	is("below the limit", 0, 0)
	during.more(limit * 3 / 4)
	runtime.GC()
	is("above it", limit*5/4, limit*7/4)

	p := program(t, "def recipient(r): pass", nil)
	p.runners.look(time.Now(), h) // there is no call: it is what the process needs
	is("at rest", 0, 0)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range 10 {
		new(held).more(limit)
	}
	h.checked = time.Time{}
	is("garbage", 0, 0)
	for range 10 {
		during.more(limit)
	}
	h.checked = time.Time{}
	is("without a collection", 9*limit, 11*limit)
	runtime.KeepAlive(before)
	runtime.KeepAlive(during)
}

// The limit is that of [script] memory, at the top of files too.
func TestMemoryOfTops(t *testing.T) {
	dir := files(t, map[string]string{"filter.star": "X = []\nfor i in range(100000): X.append('x' * 1000000 + str(i))"})
	_, err := openIn(t, dir, "[script]\nmemory = \"16MiB\"\nfile = \""+dir+"/filter.star\"\n")
	if err == nil || !strings.Contains(err.Error(), "[script] memory is 16MB") {
		t.Errorf("got %v", err)
	}
	p := program(t, "def recipient(r): pass", func(c *Config) { c.Memory = 16 << 20 })
	if p.runners.memory != 16<<20 {
		t.Errorf("calls may take %d octets", p.runners.memory)
	}
}

// eternal makes a program whose recipient() does not end.
func eternal(t *testing.T) *Program {
	t.Helper()
	return program(t, "def recipient(r):\n  for a in range(1000000):\n    for b in range(1000000): pass", func(c *Config) { c.Steps = 1_000_000_000_000 })
}

// ends wants a call to end because its time is over.
func ends(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "its time is over") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}

// A call that waits for a lane ends with its time.
func TestWaitingForALaneEnds(t *testing.T) {
	p := eternal(t)
	for range cap(p.runners.lanes) {
		p.runners.lanes <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := p.functions["recipient"].Check(ctx, question("a@b.example"))
		ended <- err
	}()
	ends(t, ended)
}

// A long call lets others go first after each of its slices: on one processor, another goroutine has
// its turn as often. Searches count as the steps that they would be.
func TestLongCallsLetOthersGoFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, script := range map[string]string{
		"steps":    "def recipient(r):\n  for a in range(1000000): pass",
		"searches": "X = re('y(x?){60}x{60}')\ndef recipient(r):\n  for a in range(100): X.search('x' * 4000)",
	} {
		p := program(t, script, func(c *Config) { c.Steps = 30 * shortSteps })
		turns, ended := 0, make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = p.functions["recipient"].Check(context.WithoutCancel(t.Context()), question("a@b.example"))
		}()
		for running := true; running; {
			select {
			case <-ended:
				running = false
			default:
				turns++
				runtime.Gosched()
			}
		}
		if turns < 25 {
			t.Errorf("%s: others had %d turns during 30 slices", name, turns)
		}
	}
}

// A call that does not end gives its lane to those that wait for one.
func TestLanesAreShared(t *testing.T) {
	p := program(t, "def recipient(r):\n  for a in range(40000): pass", func(c *Config) { c.Steps = 1_000_000_000_000 })
	endless := eternal(t)
	endless.runners.lanes = p.runners.lanes
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range cap(p.runners.lanes) {
		running.Go(func() { _, _ = endless.functions["recipient"].Check(ctx, question("a@b.example")) })
	}
	for len(p.runners.lanes) < cap(p.runners.lanes) {
		time.Sleep(time.Millisecond)
	}
	long, stop := context.WithTimeout(t.Context(), 20*time.Second)
	if _, err := p.functions["recipient"].Check(long, question("long@b.example")); err != nil {
		t.Error(err)
	}
	stop()
	cancel()
	running.Wait()
}

// The watch ends a call at the deadline of its question, not before and not later.
func TestTimeIsTheQuestions(t *testing.T) {
	for _, deadline := range []time.Duration{farOff / 2, 10 * farOff} {
		p, heap := eternal(t), newHeap(1<<40)
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		over, _ := ctx.Deadline()
		ended := make(chan error, 1)
		go func() {
			_, err := p.functions["recipient"].Check(ctx, question("a@b.example"))
			ended <- err
		}()
		for !p.runners.look(time.Now(), heap) {
			time.Sleep(time.Millisecond)
		}
		p.runners.look(over.Add(-time.Second), heap)
		if !p.runners.look(over.Add(-time.Second), heap) {
			t.Errorf("%v: it was ended before its time", deadline)
		}
		p.runners.look(over.Add(time.Second), heap)
		ends(t, ended)
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := program(t, "def recipient(r): return accept()", nil)
	if v, err := p.functions["recipient"].Check(ctx, question("a@b.example")); err == nil {
		t.Errorf("a question whose time is over: %+v", v)
	}
}

// The top of a file may take ten seconds.
func TestTopsTakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		thread := new(starlark.Thread)
		defer watchLoad(thread, 1<<40)()
		run := func() error {
			_, err := starlark.ExecFileOptions(dialect(), thread, "x.star", "x = 1", nil)
			return err
		}
		time.Sleep(loadTime - time.Second)
		if err := run(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if err := run(); err == nil || !strings.Contains(err.Error(), "longer than 10s") {
			t.Errorf("after the time: %v", err)
		}
	})
}

// A call takes as many steps as [script] steps says, the top of a file ten times as many, and
// values that are large when they are made count as many.
func TestStepsAreCounted(t *testing.T) {
	p := program(t, "def recipient(r):\n  for i in range(int(r.address.local)): pass", func(c *Config) { c.Steps = 1000 })
	for n, want := range map[int]bool{100: true, 500: false} {
		if _, err := p.functions["recipient"].Check(t.Context(), question(fmt.Sprint(n)+"@b.example")); (err == nil) != want {
			t.Errorf("%d turns: %v", n, err)
		}
	}
	p = program(t, "def recipient(r):\n  for i in range(int(r.address.local)): x = 'x' * 100000", func(c *Config) { c.Steps = 10_000 })
	for n, want := range map[int]bool{10: true, 20: false} {
		if _, err := p.functions["recipient"].Check(t.Context(), question(fmt.Sprint(n)+"@b.example")); (err == nil) != want {
			t.Errorf("%d long strings: %v", n, err)
		}
	}
	for n, want := range map[int]bool{1000: true, 5000: false} {
		cfg := DefaultConfig()
		cfg.Steps, cfg.File = 1000, files(t, map[string]string{"filter.star": fmt.Sprintf("for i in range(%d): pass", n)})+"/filter.star"
		p, err := compile(cfg, options{})
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "too many steps") {
			t.Errorf("%d turns at the top: %v", n, err)
		}
		if err == nil {
			p.close()
		}
	}
}

// TestMatchBounds holds what re(), cidr() and patterns() refuse, and that they take all else.
func TestMatchBounds(t *testing.T) {
	most := uint64(64 << 20)
	if testing.Short() {
		most *= 4 // the race detector's memory counts too
	}
	const top = "X = re('x')\nN = cidr(['192.0.2.0/24', '2001:db8::/32'])\nP = patterns(['a@'])\n"
	for expr, want := range map[string]string{
		"str(len(X.findall('x' * 20000)))":       "10000",
		"str(bool(X.search('y' * 1048576)))":     "False",
		"str(X.search('y' * 1048577))":           "at most 1048576",
		"X.sub('yy', 'x' + 'z' * 1000)[:3]":      "yyz",
		"X.sub('y' * 4194300, 'x' + 'z' * 1000)": "a string may have",
		"X.sub('y' * 10000, 'x' * 10000)":        "a string may have",
		"str(X.match('xy'))":                     "None",
		"X.search('x').group(1)":                 "no group 1: there are 0",
		"X.search('x').group(-1)":                "no group -1",
		"str([i in N for i in ['192.0.2.0', '192.0.2.255', '192.0.3.0', '2001:db9::', '']])": "[True, True, False, False, False]",
		"str(5 in N)":                 "expected an IP address",
		"str('a@' + 'b' * 4094 in P)": "True",
		"str('a@' + 'b' * 4095 in P)": "at most 4096",
	} {
		p := program(t, top+"def recipient(r): return reject('>' + "+expr+")", nil)
		var start, end runtime.MemStats
		runtime.ReadMemStats(&start)
		v, err := p.functions["recipient"].Check(t.Context(), question("a@b.example"))
		runtime.ReadMemStats(&end)
		if n := end.TotalAlloc - start.TotalAlloc; n > most {
			t.Errorf("%s: it took %d octets of memory", expr, n)
		}
		if v.Text != ">"+want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", expr, v.Text, err, want)
		}
	}
	for expr, want := range map[string]string{
		"re('x' * 4096)": "", "re('x' * 4097)": "at most 4096", "cidr(['10.0.0.0/8', '10.0.0.0/33'])": "10.0.0.0/33", "cidr(['10.0.0.0/8', 5])": "a value of type int",
		"cidr(5)": "expected a list", "patterns(['a@', 'a b@'])": "a b@", "patterns(['a@', 5])": "a value of type int", "patterns('a@', kind='x')": "is not a kind",
	} {
		_, err := open(t, "X = "+expr, "")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", expr, err, want)
		}
	}
}

// A message is scanned once, whatever came of it and whoever had it scanned.
func TestScanOnce(t *testing.T) {
	p := program(t, "def message(m): return reject('>%s %s<' % (scan(m), scan(m)))", nil)
	for name, tc := range map[string]struct {
		done, virus, unscanned, want string
		asked                        int
	}{
		"clean": {want: " ", asked: 1}, "infected": {virus: "Eicar", want: "Eicar Eicar", asked: 1}, "no answer": {unscanned: "down", want: "None None", asked: 1},
		"scanned before": {done: "yes", virus: "Eicar", want: "Eicar Eicar"},
	} {
		asked := 0
		p.env.Scan = func(_ context.Context, q *rcptgate.Query) {
			asked++
			q.Message.Scanned, q.Message.Virus, q.Message.Unscanned = true, tc.virus, tc.unscanned
		}
		q := at(rcptgate.StageMessage, question("a@b.example"))
		q.Message = letter(mixed())
		if tc.done != "" {
			q.Message.Scanned, q.Message.Virus = true, tc.virus
		}
		v, err := p.functions["message"].Check(t.Context(), q)
		if err != nil || v.Text != ">"+tc.want+"<" || asked != tc.asked {
			t.Errorf("%s: %q, %v, asked %d times", name, v.Text, err, asked)
		}
	}
}
