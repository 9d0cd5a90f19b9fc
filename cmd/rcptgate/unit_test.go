// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate/backend/sim"
	"rcptgate/check/trusted"
	"rcptgate/cmd/rcptgate/testdata/unit/greylist"
	"rcptgate/kit/exit"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// The program with one more unit has this name; see TestMain.
const withGreylist = "rcptgate-with-greylist"

// greylistMain is main with the unit of testdata.
func greylistMain() {
	os.Exit(run(context.Background(), greylistUnits(), os.Args[1:], os.Stdout, os.Stderr))
}

// greylistUnits are the units with that of testdata where TestAUnitIsALineOfBuiltin has it.
func greylistUnits() []unit.Unit {
	list := units()
	at := slices.IndexFunc(list, func(u unit.Unit) bool { return u.Name == trusted.Unit().Name })
	return slices.Insert(list, at, greylist.Unit())
}

// TestAUnitIsALineOfBuiltin adds one line to builtin.go, with its import, and has the types of
// package main checked. Nothing else is changed. To vet, build or link would take longer than all
// the rest.
func TestAUnitIsALineOfBuiltin(t *testing.T) {
	if testing.Short() {
		t.Skip("loads the whole program")
	}
	t.Parallel()
	list, err := os.ReadFile("builtin.go")
	if err != nil {
		t.Fatal(err)
	}
	text := string(list)
	for old, line := range map[string]string{
		"\t\ttrusted.Unit(),\n":          "\t\tgreylist.Unit(),\n\t\ttrusted.Unit(),\n",
		"\t\"rcptgate/check/trusted\"\n": "\t\"rcptgate/check/trusted\"\n\t\"rcptgate/cmd/rcptgate/testdata/unit/greylist\"\n",
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("builtin.go does not have %q once", old)
		}
		text = strings.Replace(text, old, line, 1)
	}
	exports, sources := compiled(t)
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range sources {
		var src any
		if name == "builtin.go" {
			src = text
		}
		f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	if p, err := conf.Check("rcptgate/cmd/rcptgate", fset, files, nil); err != nil || !slices.ContainsFunc(p.Imports(), func(p *types.Package) bool { return p.Name() == "greylist" }) {
		t.Fatalf("%d files: %v", len(files), err)
	}
}

// compiled gives the compiler's summaries of everything that package main imports, which has been
// compiled for this test, and main's own files.
func compiled(t *testing.T) (exports map[string]string, sources []string) {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}\t{{if not .DepOnly}}{{join .GoFiles \" \"}}{{end}}", ".", "./testdata/unit/greylist")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	exports = map[string]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if exports[f[0]] = f[1]; f[0] == "rcptgate/cmd/rcptgate" {
			sources = strings.Fields(f[2])
		}
	}
	return exports, sources
}

// TestAUnitIsOneFolderAndOneLine adds a unit from the outside, and finds everything that it
// brings: its section and its key in [[domain]], with their lines in errors; its step in the
// chain; its metric, status rows and notice; its command and manual pages.
func TestAUnitIsOneFolderAndOneLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := sim.New(sim.Config{Behaviour: testUsers()})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	file := filepath.Join(dir, "rcptgate.toml")
	configure := func(section, domain string) {
		text := smallText(dir, "", fmt.Sprintf("[greylist]\n%s\n[[domain]]\nname = %q\nbackend = [%q]\n[[domain]]\nname = \"open.example\"\nbackend = [%[3]q]\n%s\n", section, testDomain, server.Backend(), domain))
		text = strings.Replace(text, `http = ""`, `http = "unix:`+filepath.Join(dir, "h.sock")+`"`, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rcptgate := func(code int, args ...string) string {
		t.Helper()
		var out locked
		if got := run(t.Context(), greylistUnits(), append(args, "-c", file), &out, &out); got != code {
			t.Errorf("%v: exit code %d, want %d: %s", args, got, code, out.String())
		}
		return out.String()
	}
	want := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in:\n%s", w, text)
			}
		}
	}
	configure("active = true\ntext = \"\"", "greylist = 3")
	want(rcptgate(exit.Config, "config", "check"), "rcptgate.toml:9:1: greylist.text: an active greylist needs a text", "rcptgate.toml:16:1: domain[2].greylist: a whole number is not allowed here")
	configure("active = true\ntext = \"Come again\"", "greylist = false")
	want(rcptgate(exit.OK, "config", "example"), "[greylist]", "#text = \"Please try again later\"", "# put the first mail of every sender off", "#greylist = ")
	daemon := exec.Command(withGreylist, "serve", "-c", file)
	log := new(locked)
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	testkit.Eventually(t, "the daemon", func() bool { c, err := openMTA(filepath.Join(dir, "m.sock")); return err == nil && c.Close() == nil })
	want(rcptgate(exit.Tempfail, "check", "--sender", "a@b.example", "ann@"+testDomain), "450 4.7.1 Come again", "step     greylist: tempfail, greylist", "<a@b.example> has not been here before")
	rcptgate(exit.Tempfail, "check", "--sender", "a@b.example", "ann@"+testDomain) // asking is no mail
	mail, err := openMTA(filepath.Join(dir, "m.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })
	if err := wantCode(mail, "ann", 450); err != nil {
		t.Error(err)
	}
	want(rcptgate(exit.OK, "check", "--sender", "sender@example.org", "ann@"+testDomain), "reason   valid")
	rcptgate(exit.OK, "greylist", "forgive", "c@d.example")
	rcptgate(exit.OK, "check", "--sender", "c@d.example", "ann@"+testDomain)
	want(rcptgate(exit.UnknownUser, "check", "--sender", "e@f.example", "nobody@open.example"), "550 5.1.1")
	want(rcptgate(exit.Attention, "status"), "Greylist\n  Senders seen\n             2", "attention      greylisting is active (text Come again)")
	want(log.String(), "greylisting is active")
	want(get(t, filepath.Join(dir, "h.sock"), "/metrics"), "rcptgate_greylist_senders 2\n")
	want(get(t, filepath.Join(dir, "h.sock"), "/"), "<h2>Greylist</h2>", "greylisting is active")
	rcptgate(exit.OK, "man", dir)
	for page, word := range map[string]string{"rcptgate-greylist-forgive.1": "take the next mail of senders at once", "rcptgate.toml.5": ".SH [greylist]"} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Error(err)
		}
		want(string(text), word)
	}
}

// get reads a page over a unix socket.
func get(t *testing.T, socket, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: dialUnix(socket), DisableKeepAlives: true}}
	resp, err := client.Get("http://localhost" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
