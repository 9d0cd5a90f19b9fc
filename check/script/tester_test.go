// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/check/script/keep"
	"rcptgate/check/script/star"
)

// outside is the world outside tests: whatever asks it is an error.
type outside struct{ t *testing.T }

func (o outside) Records(_ context.Context, kind, name string) ([]string, error) {
	o.t.Errorf("DNS was asked for %s %s", kind, name)
	return nil, nil
}

func (o outside) Write(p []byte) (int, error) {
	o.t.Errorf("logged: %s", p)
	return len(p), nil
}

// env is what a configured script works with.
func (o outside) env() *star.Env {
	env := *envOf(o.t)
	language := *env.Language
	language.Local = func(_ context.Context, domain string) (bool, error) {
		o.t.Errorf("%s: asked whether it is local", domain)
		return false, nil
	}
	env.Language, env.DNS, env.Keep = &language, o, keep.New(keep.Options{})
	env.Now = func() time.Time { o.t.Error("the real clock was read"); return time.Now() }
	env.Exists = func(context.Context, *rcptgate.Query) rcptgate.Verdict {
		o.t.Error("mailboxes were asked for")
		return rcptgate.Verdict{}
	}
	env.Scan = func(context.Context, *rcptgate.Query) { o.t.Error("a scanner was asked") }
	env.Trusted = func(netip.Addr) bool { o.t.Error("trusted networks were asked"); return true }
	env.Blocklist = func(name string) rcptgate.Blocklist {
		o.t.Errorf("the list %s was opened", name)
		return nil
	}
	env.Log = star.NewLog(slog.New(slog.NewTextHandler(o, nil)))
	return &env
}

// Tests ask nobody and keep nothing: all that they see is what they say.
func TestTestsAskNobody(t *testing.T) {
	dir := files(t, map[string]string{
		"filter.star": `
C = counter("c", "1h")
L = blocklist("x")
P = patterns(["@$local"])
def recipient(r):
    log("said")
    seen = [now().unix, time.now().unix, dns.a("a.example"), dns.mx("none.example"), dns.txt("down.example"), r.exists()]
    seen += [r.client.trusted, r.client.ip in L, C.add("k"), r.address in P]
    return reject(str(seen))
def message(m): return reject(scan(m))
`,
		"filter_test.star": `
load("filter.star", "recipient", said = "message")
def test_fakes():
    clock.set("2001-02-03 04:05")
    clock.advance("1m")
    dns.fake({"a a.example": ["192.0.2.5"], "txt down.example": None})
    exists.fake({"ann@example.org": "full"})
    site.fake(local = ["example.org"])
    viruses.fake(["Eicar"])
    assert.eq(recipient(rcpt("ann@example.org")).text, '[981173160, 981173160, ["192.0.2.5"], [], None, "full", False, False, 1, True]')
    assert.eq(said(message("Subject: Eicar\n\nx")).text, "Eicar")
def test_nothing():
    site.fake(local = [])
    assert.eq(recipient(rcpt("ann@example.org")).text, '[1795867200, 1795867200, [], [], [], "unchecked", False, False, 1, False]')
`,
	})
	env := outside{t}.env()
	results, err := (&tester{config: DefaultConfig(), env: env}).file(t.Context(), filepath.Join(dir, "filter_test.star"))
	if err != nil || len(results) != 2 {
		t.Fatalf("%+v, %v", results, err)
	}
	for _, r := range results {
		if !r.OK {
			t.Errorf("%s: %q", r.Name, r.Failed)
		}
	}
	if list := env.Keep.Stats(); len(list) != 0 {
		t.Errorf("tests have left %+v", list)
	}
}

// Coverage counts every line with a statement once, wherever it stands in a function.
func TestCoverageOfEachLine(t *testing.T) {
	dir := files(t, map[string]string{
		"filter.star": `X = 1
def recipient(r):
    for a in ["x"]:
        if a == "y":
            return reject("y")
        else:
            b = a; c = a
    def inner():
        return None
    def other():
        return None
    if r.size:
        return inner()
    other()
    return accept()
`,
		"filter_test.star": "load('filter.star', 'recipient')\ndef test_it():\n  recipient(rcpt())\ndef test_more():\n  if False:\n    fail('x')\n",
	})
	ts := &tester{config: DefaultConfig(), env: envOf(t), cover: newCoverage()}
	if _, err := ts.file(t.Context(), filepath.Join(dir, "filter_test.star")); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	want := "# " + dir + "/filter.star: 9 of 12 lines, not 5, 9, 13\n"
	if err := ts.cover.print(&out); err != nil || out.String() != want {
		t.Errorf("%v\n%swant %s", err, out.String(), want)
	}
}

// failing are tests that fail, each with what it says.
var failing = [][2]string{
	{"assert.eq(1, 2)", "got 1, want 2"}, {"assert.ne(1, 1)", "got 1, want anything but 1"},
	{"assert.lt(2, 2)", "2 is not less than 2"}, {"assert.lt('a', 2)", "string < int"}, {"assert.true(0, '5%d')", "0 is false 5%d"}, {"assert.true(0)", "0 is false"}, {"assert.false(1)", "1 is true"},
	{"assert.contains('abc', 'x')", "does not contain"}, {"assert.contains([1], 2)", "[1] does not contain 2"},
	{"assert.action(accept(), 'reject')", "got \"accept\", want \"reject\""}, {"assert.action(None, 'accept')", "got \"continue\""}, {"assert.action(reject('a'), 'reject', text = 'b')", "without \"b\""},
	{"assert.fails(lambda: 1)", "did not fail"}, {"assert.fails(lambda: fail('a'), 'b')", "without \"b\""},
	{"fail('x')", "fail: x"}, {"[][1]", "index 1"},
	{"[0 for i in range(1000000) for j in range(1000000) if j < 0]", "too many steps"}, {"rcpt().address in PANICS", "hostile"},
}

// A test that fails is never shown as one that passes: not in TAP, not in JSON, and not by the
// exit code.
func TestResultsOfFailingTests(t *testing.T) {
	env := *envOf(t)
	language := *env.Language
	language.Local = func(context.Context, string) (bool, error) { panic("hostile") }
	env.Language = &language
	text := "PANICS = patterns(['@$local'])\ndef test_0(): pass\n"
	for i, f := range failing {
		text += fmt.Sprintf("def test_%d(): %s\n", i+1, f[0])
	}
	dir := files(t, map[string]string{"bad_test.star": text, "good_test.star": "def test_0():\n  assert.eq(1, 1)\n  assert.lt(1, 2)"})
	run := func(name string, asJSON bool) (string, error) {
		var out bytes.Buffer
		cmd := new(cobra.Command)
		cmd.SetOut(&out)
		cmd.SetContext(t.Context())
		err := runTests(cmd, &tester{config: DefaultConfig(), env: &env}, []string{filepath.Join(dir, name)}, asJSON)
		return out.String(), err
	}
	if out, err := run("good_test.star", false); err != nil || out != "TAP version 14\n1..1\nok 1 - good_test.star: test_0\n" {
		t.Errorf("a good one: %v\n%s", err, out)
	}
	out, err := run("bad_test.star", false)
	if err == nil {
		t.Error("TAP: the exit code is that of tests that pass")
	}
	plan := fmt.Sprintf("TAP version 14\n1..%d\nok 1 - bad_test.star: test_0\nnot ok 2 - ", len(failing)+1)
	if !strings.HasPrefix(out, plan) {
		t.Fatalf("%v\n%s\ndoes not begin with %s", err, out, plan)
	}
	asJSON, err := run("bad_test.star", true)
	if err == nil {
		t.Error("JSON: the exit code is that of tests that pass")
	}
	sameResults(t, out, asJSON)
}

// sameResults wants the failing tests in both forms.
func sameResults(t *testing.T, out, asJSON string) {
	t.Helper()
	lines := slices.DeleteFunc(strings.Split(out, "\n"), func(s string) bool { return !strings.HasPrefix(s, "ok ") && !strings.HasPrefix(s, "not ok ") })
	objects := json.NewDecoder(strings.NewReader(asJSON))
	for i := range len(failing) + 1 {
		var r struct {
			Test   string
			OK     *bool
			Failed []string
		}
		if err := objects.Decode(&r); err != nil || r.OK == nil || *r.OK != (i == 0) || r.Test != fmt.Sprintf("test_%d", i) {
			t.Fatalf("object %d: %+v, %v\n%s", i, r, err, asJSON)
		}
		if i == 0 {
			continue
		}
		if want := fmt.Sprintf("not ok %d - bad_test.star: test_%d", i+1, i); len(lines) != len(failing)+1 || lines[i] != want {
			t.Errorf("no %q in\n%s", want, out)
		}
		if want := failing[i-1][1]; len(r.Failed) != 1 || !strings.Contains(r.Failed[0], want) {
			t.Errorf("%s: %q, want %q", failing[i-1][0], r.Failed, want)
		}
	}
}
