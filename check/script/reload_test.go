// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/check/rules"
	"rcptgate/kit/notice"
	"rcptgate/unit"
	"rcptgate/view"
)

// reloading opens a host, and gives what writes another script and reloads.
func reloading(t *testing.T, script, toml string, tests map[string]string) (*unit.Host, func(script string) error) {
	t.Helper()
	texts := map[string]string{"filter.star": script}
	for name, text := range tests {
		texts[name] = text
	}
	dir := files(t, texts)
	file := filepath.Join(dir, "filter.star")
	units := []unit.Unit{rules.Unit(), Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	text := "state = \"" + t.TempDir() + "\"\nenforce = true\n[script]\nfile = \"" + file + "\"\n" + toml
	read := func() (*unit.Config, error) { return unit.Parse(schema, "test.toml", text) }
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(context.Background(), units, c, unit.Options{Offline: true, Stderr: io.Discard, Reread: read})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	return h, func(script string) error {
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := h.Reload()
		return err
	}
}

// A reload whose script cannot be used, or whose tests fail, changes nothing: not what is
// answered, not what is shown, and no notice goes.
func TestFailedReload(t *testing.T) {
	const fails = "def sender(m): fail('broken')\n"
	h, reload := reloading(t, fails+"def recipient(r): return reject('one')", "tests = true\n", map[string]string{
		"filter_test.star": "load('filter.star', 'recipient')\ndef test_it(): assert.true(recipient(rcpt()).text in ['one', 'three'])",
	})
	state := func() (says string, shown, failing bool) {
		shown = slices.ContainsFunc(h.Views(), func(v view.Table) bool { return v.Name == "script" })
		failing = slices.ContainsFunc(h.Notices.List(), func(n notice.Notice) bool { return strings.Contains(n.Text, "a function of the script fails") })
		return h.Gate.Ask(t.Context(), question("ann@example.org")).Text, shown, failing
	}
	h.Gate.Ask(t.Context(), at(rcptgate.StageMail, question("ann@example.org")))
	for name, script := range map[string]string{
		"a typing error": "def recipient(r): return )", "a top that fails": "X = {}['a']\ndef recipient(r): return reject('two')",
		"a wrong return": "def recipient(r): return 5", "a test that fails": "def recipient(r): return reject('two')",
	} {
		if err := reload(script); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if says, shown, failing := state(); says != "one" || !shown || !failing {
			t.Errorf("after %s: it says %q, shown %v, failing %v", name, says, shown, failing)
		}
	}
	if err := reload("def recipient(r): return reject('three')"); err != nil {
		t.Fatal(err)
	}
	if says, shown, failing := state(); says != "three" || !shown || failing {
		t.Errorf("after a good one: it says %q, shown %v, failing %v", says, shown, failing)
	}
}

// Counters and memories outlive a reload under their names, each its own; one with another
// window, life or size begins anew.
func TestReloadKeepsCountersAndMemories(t *testing.T) {
	const script = `
C = counter("c", "1h")
D = counter("d", "1h")
M = memory("m", "1h")
N = memory("n", "1h")
def recipient(r):
    if r.address.local == "add":
        C.add("k")
        M.set("k", "v")
    return reject("%d %d %s %s" % (C.get("k"), D.get("k"), M.get("k"), N.get("k")))
`
	h, reload := reloading(t, script, "", nil)
	ask := func(local, want string) {
		t.Helper()
		if got := h.Gate.Ask(t.Context(), question(local+"@example.org")).Text; got != want {
			t.Errorf("%s: %q, want %q", local, got, want)
		}
	}
	change := func(pairs ...string) {
		t.Helper()
		if err := reload(strings.NewReplacer(pairs...).Replace(script)); err != nil {
			t.Fatal(err)
		}
	}
	ask("add", "1 0 v None")
	change("return reject(", "return reject('' + ")
	ask("get", "1 0 v None")
	change(`counter("c", "1h")`, `counter("c", "1h", per = 10)`)
	ask("get", "0 0 v None")
	change(`memory("m", "1h")`, `memory("m", "2h")`)
	ask("add", "1 0 v None") // the counter is as it was at first, and has begun anew again
	change(`counter("c", "1h")`, `counter("c", "2h")`)
	ask("get", "0 0 None None")
}

// What a call that fails means, of the script itself and of a rule that calls a function.
func TestOnError(t *testing.T) {
	const script = "def sender(m): fail('x')\ndef quiet(r): fail('x')"
	const rule = "[[rule]]\naction = \"call\"\ncall = \"quiet\"\n"
	for setting, want := range map[string]rcptgate.Action{
		"": rcptgate.Tempfail, "on_error = \"tempfail\"\n": rcptgate.Tempfail, "on_error = \"continue\"\n": rcptgate.Continue,
	} {
		h, _ := reloading(t, script, setting+rule, nil)
		if v := h.Gate.Ask(t.Context(), at(rcptgate.StageMail, question("ann@example.org"))); v.Action != want {
			t.Errorf("%q: a function is called by itself: %+v", setting, v)
		}
		if v := h.Gate.Ask(t.Context(), question("ann@example.org")); v.Action != want {
			t.Errorf("%q: a rule calls it: %+v", setting, v)
		}
	}
}

// A line of the script that fails is logged again a minute later, other lines at once, and all
// of them after a reload, which takes their notices off the board.
func TestFailuresAreLoggedEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines lockedBuffer
		board := notice.New(slog.New(slog.DiscardHandler))
		report := newReporter(slog.New(slog.NewTextHandler(&lines, nil)), board)
		f := &function{p: new(Program), name: "recipient"}
		logged := func(place string, want int) {
			t.Helper()
			report.failed(f, &Error{Function: f.name, Place: place, Text: "no"})
			if n := strings.Count(lines.String(), "a function of the script failed"); n != want {
				t.Errorf("%s: %d lines, want %d", place, n, want)
			}
		}
		logged("x.star:1:1", 1)
		logged("x.star:2:1", 2)
		time.Sleep(59 * time.Second)
		logged("x.star:1:1", 2)
		time.Sleep(time.Second)
		logged("x.star:1:1", 3)
		logged("x.star:1:1", 3)
		if n := len(board.List()); n != 2 {
			t.Errorf("%d notices of 2 lines", n)
		}
		report.renewed()
		if n := len(board.List()); n != 0 {
			t.Errorf("%d notices after a reload", n)
		}
		logged("x.star:1:1", 4)
	})
}
