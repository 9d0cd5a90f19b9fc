// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"regexp"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/check/script/keep"
	"rcptgate/check/script/star"
	"rcptgate/kit/notice"
	"rcptgate/pattern"
)

// program compiles a script without a host.
func program(tb testing.TB, script string, change func(*Config)) *Program {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.File = files(tb, map[string]string{"filter.star": script}) + "/filter.star"
	if change != nil {
		change(&cfg)
	}
	env := &star.Env{Keep: keep.New(keep.Options{}), Language: &pattern.Language{Delimiters: "+"}, Now: time.Now}
	p, err := compile(cfg, options{env: env})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.close)
	return p
}

// wide makes x and y, equal, small, and of 10^21 elements when they are compared; deep makes
// an x that has 2^60 when it is a key.
const (
	wide = "def recipient(r):\n  x = [0] * 1000\n  y = [0] * 1000\n  for i in range(6):\n    x = [x] * 1000\n    y = [y] * 1000\n"
	deep = "def recipient(r):\n  x = (1, 2)\n  for i in range(60): x = (x, x)\n"
)

// TestHostileScripts holds that a call that does not end, or grows without end, fails by
// itself: within its bounds, and without harm to the process.
func TestHostileScripts(t *testing.T) {
	for name, tc := range map[string]struct{ script, want string }{
		"an endless loop":           {"def recipient(r):\n  for a in range(1000000):\n    for b in range(1000000): pass", "too many steps"},
		"recursion":                 {"def f(g): return g(g)\ndef recipient(r): return f(f)", "recursively"},
		"doubling strings":          {"def recipient(r):\n  x = 'x'\n  for i in range(100): x = x + x", "a string may have"},
		"doubling by +=":            {"def recipient(r):\n  x = 'x'\n  for i in range(100): x += x", "a string may have"},
		"doubling in a dictionary":  {"def recipient(r):\n  d = {'x': 'x'}\n  for i in range(100): d['x'] += d['x']", "a string may have"},
		"doubling lists":            {"def recipient(r):\n  x = [1]\n  for i in range(100): x = x + x", "elements"},
		"doubling by extend":        {"def recipient(r):\n  x = [1]\n  for i in range(100): x.extend(x)", "elements"},
		"a long string":             {"def recipient(r): return reject('x' * 1000000000)", "a string may have"},
		"a long list":               {"def recipient(r): return reject(str([0] * 1000000000))", "elements"},
		"a long list, turned":       {"def recipient(r): return reject(str(1000000000 * [0]))", "elements"},
		"a long range":              {"def recipient(r): return reject(str(max(range(1 << 60))))", "elements"},
		"join":                      {"def recipient(r):\n  x = 'x' * 1000000\n  x = ','.join([x] * 1000)", "a string may have"},
		"splitlines":                {"def recipient(r):\n  x = '\\n' * 2000000\n  x = x.splitlines()\n  fail('it ended')", "elements"},
		"replace":                   {"def recipient(r):\n  x = 'x' * 100000\n  x = x.replace('x', x)", "a string may have"},
		"format":                    {"def recipient(r):\n  x = 'x' * 1000000\n  x = '{0}{0}{0}{0}{0}{0}'.format(x)", "a string may have"},
		"percent":                   {"def recipient(r):\n  x = 'x' * 1000000\n  x = '%s%s%s%s%s%s' % (x, x, x, x, x, x)", "a string may have"},
		"large numbers":             {"def recipient(r):\n  x = 3\n  for i in range(100): x = x * x", "bits"},
		"a small value that prints": {"def recipient(r):\n  x = [1]\n  for i in range(60): x = [x, x]\n  return reject(str(x))", "cannot be written out"},
		"the same by %":             {"def recipient(r):\n  x = [1]\n  for i in range(60): x = [x, x]\n  return reject('%s' % x)", "cannot be written out"},
		"the same by log":           {"def recipient(r):\n  x = [1]\n  for i in range(60): x = [x, x]\n  log(x)", "cannot be written out"},
		"the same as JSON":          {"def recipient(r):\n  x = [1]\n  for i in range(60): x = [x, x]\n  json.encode(x)", "cannot be written out"},
		"deep JSON":                 {"def recipient(r): json.decode('[' * 900000)", "nested"},
		"10^6 counters":             {"def recipient(r):\n  for i in range(1000000): counter('c' + str(i), '1h')", "top of the file"},
		"a regular expression":      {"X = re('(x+x+)+y')\ndef recipient(r):\n  for i in range(100000): X.search('x' * 10000)\n  fail('it ended')", "too many steps"},
		"notes without end":         {"def recipient(r):\n  for i in range(1000): r.notes[str(i)] = 1", "notes are full"},
		"a large note":              {"def recipient(r): r.notes['a'] = 'x' * 100000", "notes are full"},
		"a wrong return":            {"def f(): return 5\ndef recipient(r): return f()", "a value of type int"},
		"comparing":                 {wide + "  a = x == y", "cannot be compared"},
		"comparing in a list":       {wide + "  a = x in [1, y]", "cannot be compared"},
		"not in":                    {wide + "  a = x not in [1, y]", "cannot be compared"},
		"ordering":                  {wide + "  a = x < y", "cannot be compared"},
		"sorting":                   {wide + "  return sorted([x, y])", "cannot be compared"},
		"sorting by a key":          {wide + "  return sorted([1, 2], key = lambda i: x if i == 1 else y)", "cannot be compared"},
		"the largest":               {wide + "  return max(x, y)", "cannot be compared"},
		"the smallest of a list":    {wide + "  return min([x, y], key = lambda i: i)", "cannot be compared"},
		"looking for":               {wide + "  return [y].index(x)", "cannot be compared"},
		"removing":                  {wide + "  return [y].remove(x)", "cannot be compared"},
		"comparing long strings":    {"def recipient(r):\n  x = ['x' * 4000000] * 1000000\n  a = x == ['x' * 4000000] * 1000000", "cannot be compared"},
		"a deep key":                {deep + "  a = {x: 1}", "cannot be a key"},
		"a deep key in a loop":      {deep + "  a = {k: 1 for k in [x]}", "cannot be a key"},
		"a deep index":              {deep + "  return {}[x]", "cannot be a key"},
		"a deep index written":      {deep + "  d = {}\n  d[x] = 1", "cannot be a key"},
		"a deep index that grows":   {deep + "  d = {}\n  d[x] += 'x'", "cannot be a key"},
		"a deep key of get":         {deep + "  return {}.get(x)", "cannot be a key"},
		"a deep key of update":      {deep + "  return {}.update([(x, 1)])", "cannot be a key"},
		"a deep key of dict":        {deep + "  return dict([(x, 1)])", "cannot be a key"},
		"a deep key, found":         {deep + "  a = x in {}", "cannot be a key"},
		"a deep element":            {deep + "  return set([x])", "cannot be a key"},
		"a deep element added":      {deep + "  return set().add(x)", "cannot be a key"},
		"a deep element of a union": {deep + "  return set().union([x])", "cannot be a key"},
		"printing":                  {deep + "  print(x)", "cannot be written out"},
		"zip":                       {"def recipient(r): return zip(*([range(1000000)] * 1000))", "elements"},
		"split":                     {"def recipient(r): return ('x,' * 2000000).split(',')", "elements"},
		"the characters":            {"def recipient(r): return list(('x' * 4000000).elems())", "elements"},
		"a number of many digits":   {"def recipient(r): return int('9' * 4000000)", "digits"},
		"a method by its name":      {"def recipient(r): return getattr(',', 'join')(['x' * 1000000] * 1000)", "a string may have"},
		"a method as a value":       {"def recipient(r):\n  join = ','.join\n  return join(['x' * 1000000] * 1000)", "a string may have"},
		"a large set to strip":      {"def recipient(r): return ('x' * 4000000).lstrip('é' * 1000000 + 'x')", "at most 256"},
		"many prefixes":             {"def recipient(r):\n  x = 'x' * 4000000\n  return (x + 'a').startswith(tuple([x + 'b'] * 100000))", "cannot be compared"},
		"many suffixes, by a name":  {"def recipient(r):\n  x = 'x' * 4000000\n  return getattr('a' + x, 'endswith')(tuple(['b' + x] * 100000))", "cannot be compared"},
		"a search of many states":   {"X = re('(x?){500}x{500}y')\ndef recipient(r): return X.search('x' * 1000000)", "too many steps"},
		"a large text in patterns":  {"X = patterns(['*a*b*c*d@', '/x+y/'])\ndef recipient(r):\n  a = ('x' * 4000000) in X", "at most 4096"},
		"a dictionary of the top":   {"D = {}\ndef recipient(r): D['a'] = 1", "frozen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := program(t, tc.script, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // generous: machines are busy
			defer cancel()
			start := time.Now()
			_, err := p.functions["recipient"].Check(ctx, question("a@b.example"))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "filter.star:") {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if took := time.Since(start); took > 2*time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A word that takes long is ended within its work, and not only behind it.
func TestLongWordsAreEnded(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	err := w.WriteHeader(&tar.Header{Name: "a", Size: 40 << 20, Mode: 0o644})
	for range 40 {
		if err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
	}
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	part := "--x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(packed.Bytes()) + "\r\n"
	for name, tc := range map[string]struct {
		steps int
		time  time.Duration
		want  string
	}{"by steps": {steps: 20_000, time: time.Minute, want: "too many steps"}, "by time": {steps: 1_000_000_000, time: 50 * time.Millisecond, want: "its time is over|deadline exceeded"}} {
		p := program(t, "def message(m):\n  for p in m.parts: p.zip_names()\n", func(c *Config) { c.Steps = tc.steps })
		q := at(rcptgate.StageMessage, question("a@b.example"))
		q.Message = rcptgate.ReadMessage([]byte("Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat(part, 20) + "--x--\r\n"))
		ctx, cancel := context.WithTimeout(t.Context(), tc.time)
		_, err := p.functions["message"].Check(ctx, q)
		cancel()
		if err == nil || !regexp.MustCompile(tc.want).MatchString(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A call that is ended leaves nothing behind for the next one on the same connection.
func TestEndedCallsLeaveNothing(t *testing.T) {
	p := program(t, "def recipient(r):\n  if r.address == 'slow@b.example':\n    for a in range(1000000):\n      for b in range(1000000): pass\n  return reject('done')", nil)
	for range 3 {
		if _, err := p.functions["recipient"].Check(t.Context(), question("slow@b.example")); err == nil || !strings.Contains(err.Error(), "too many steps") {
			t.Fatalf("got %v", err)
		}
		if v, err := p.functions["recipient"].Check(t.Context(), question("fast@b.example")); err != nil || v.Text != "done" {
			t.Errorf("the next call: %+v, %v", v, err)
		}
	}
}

// Counters and memories have bounds in names.
func TestManyNames(t *testing.T) {
	if _, err := open(t, "for i in range(1000): counter('c' + str(i), '1h')", ""); err == nil || !strings.Contains(err.Error(), "more than 100") {
		t.Errorf("got %v", err)
	}
}

// A script that writes a line for everything does not fill the log.
func TestLogLinesAreBounded(t *testing.T) {
	var lines lockedBuffer
	cfg := DefaultConfig()
	cfg.File = files(t, map[string]string{"filter.star": "def recipient(r):\n  for i in range(700):\n    log('a', n=i)\n    print('b')"}) + "/filter.star"
	env := &star.Env{Keep: keep.New(keep.Options{}), Log: star.NewLog(slog.New(slog.NewTextHandler(&lines, nil)))}
	p, err := compile(cfg, options{env: env, report: newReporter(slog.New(slog.DiscardHandler), notice.New(slog.New(slog.DiscardHandler)))})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := p.functions["recipient"].Check(t.Context(), question("a@b.example")); err != nil {
		t.Fatal(err)
	}
	text := lines.String()
	if n := strings.Count(text, "script says"); n < 1000 || n > 1100 {
		t.Errorf("%d lines of 1,400 were written", n)
	}
	if n := strings.Count(text, "leaving some out"); n != 1 {
		t.Errorf("%d lines say that lines are left out", n)
	}
}

// A failing function is logged with its backtrace, once a minute and line; all are counted.
func TestFailuresAreLogged(t *testing.T) {
	var lines lockedBuffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	report := newReporter(log, notice.New(slog.New(slog.DiscardHandler)))
	cfg := DefaultConfig()
	cfg.File = files(t, map[string]string{"filter.star": "def inner(x): return x['a']\ndef recipient(r): return inner({})\ndef sender(m): fail('no')"}) + "/filter.star"
	p, err := compile(cfg, options{env: &star.Env{Keep: keep.New(keep.Options{})}, report: report})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for range 5 {
		_, _ = p.functions["recipient"].Check(t.Context(), question("a@b.example"))
		_, _ = p.functions["sender"].Check(t.Context(), at(rcptgate.StageMail, question("a@b.example")))
	}
	text := lines.String()
	if n := strings.Count(text, "a function of the script failed"); n != 2 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	for _, want := range []string{"filter.star:1:23", "in inner", "filter.star:2:31", "in recipient", "fail: no"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if c := report.of("recipient"); c.calls.Load() != 5 || c.failed.Load() != 5 {
		t.Errorf("counted %d calls, %d failures", c.calls.Load(), c.failed.Load())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What calls keep alive together has a bound: all of them are ended.
func TestMemoryIsBounded(t *testing.T) {
	p := program(t, "def recipient(r):\n  x = []\n  for i in range(400): x.append('x' * 1000000 + str(i))\n  for i in range(1000000):\n    for b in range(1000): pass\n", func(c *Config) { c.Memory, c.Steps = 32<<20, 1_000_000_000 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := p.functions["recipient"].Check(ctx, question("a@b.example"))
	if err == nil || !strings.Contains(err.Error(), "memory has grown") {
		t.Errorf("got %v", err)
	}
}

// A deadline ends a call, and its runner is not used again.
func TestDeadline(t *testing.T) {
	p := program(t, "def recipient(r):\n  if r.address == 'slow@b.example':\n    for a in range(1000000):\n      for b in range(1000000): pass\n  return reject('done')", func(c *Config) { c.Steps = 1_000_000_000 })
	var wg sync.WaitGroup
	var wrong atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				name := "fast@b.example"
				if i == 0 && n%5 == 0 {
					name = "slow@b.example"
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if name[0] == 's' {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
				}
				v, err := p.functions["recipient"].Check(ctx, question(name))
				if (name[0] == 's') != (err != nil) || err == nil && v.Text != "done" {
					wrong.Add(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d calls came out wrong", wrong.Load())
	}
}

// A call of a question without a deadline is ended by the watch, a minute later.
func TestTheWatchEndsCalls(t *testing.T) {
	p := program(t, "def recipient(r):\n  for a in range(1000000):\n    for b in range(1000000): pass", func(c *Config) { c.Steps = 1_000_000_000_000 })
	began, ended := time.Now(), make(chan error, 1)
	go func() {
		_, err := p.functions["recipient"].Check(context.WithoutCancel(t.Context()), question("slow@b.example"))
		ended <- err
	}()
	heap := newHeap(1 << 40)
	for !p.runners.look(time.Now(), heap) {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended by itself: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	p.runners.look(began.Add(farOff+time.Second), heap)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "its time is over") {
		t.Errorf("%v", err)
	}
}

// A panic in a word is a failed call.
func TestPanicsAreErrors(t *testing.T) {
	p := program(t, "def recipient(r): return r.exists()", nil)
	p.env.Exists = func(context.Context, *rcptgate.Query) rcptgate.Verdict { panic("hostile") }
	_, err := p.functions["recipient"].Check(t.Context(), question("a@b.example"))
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Text, "hostile") {
		t.Errorf("got %v", err)
	}
	p.env.Exists = nil
	if v, err := p.functions["recipient"].Check(t.Context(), question("a@b.example")); err == nil || v.Action != rcptgate.Continue {
		t.Errorf("after it: %+v, %v", v, err)
	}
}

// The names of metrics that the watch reads exist.
func TestHeapMetricsExist(t *testing.T) {
	have := map[string]bool{}
	for _, d := range metrics.All() {
		have[d.Name] = true
	}
	if !have[heapObjects] || !have[heapLive] {
		t.Errorf("%s or %s is unknown to this Go", heapObjects, heapLive)
	}
}
