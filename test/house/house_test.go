// SPDX-License-Identifier: BSD-2-Clause

// Package house holds the rules of the house as tests: which way imports point,
// how long functions and files may be, what every file and package must say. They
// parse the source, so that a rule is broken by a red test and not by a habit.
package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

const (
	module          = "rcptgate"
	root            = "../.." // of the module
	maxFunctionLine = 100
	maxFileLines    = 500
)

// source is one parsed Go file of the module.
type source struct {
	path  string // relative to the module, with slashes
	dir   string // package folder; "" for the root package
	test  bool
	text  string
	file  *ast.File
	files *token.FileSet
}

// sources are all Go files of the module. They are read once.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d Go files: looking in the wrong place?", len(all))
	}
	return all
}

var parsed = sync.OnceValues(func() (all []source, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := filepath.ToSlash(filepath.Dir(rel))
		if dir == "." {
			dir = ""
		}
		all = append(all, source{path: rel, dir: dir, test: strings.HasSuffix(path, "_test.go"), text: string(text), file: file, files: set})
		return nil
	})
	return all, err
})

// allowed says what each part of the tree may import of the module, by prefix. The
// first entry that fits the importing folder holds; "" is the root package.
var allowed = []struct {
	from string
	to   []string
}{
	{"cmd", []string{"*"}},
	{"test", []string{"*"}},
	{"bench", []string{"*"}},
	{"demo", []string{"*"}},
	{"gossip", []string{"", "unit", "backend", "store", "config/setting", "config", "kit", "view", "metric"}},
	{"unit", []string{"", "address", "mta", "pattern", "route", "backend", "table", "store", "config", "kit", "view", "metric", "telemetry"}},
	{"front", []string{"", "unit", "front/listen", "address", "route", "backend", "table", "store", "config/setting", "config", "kit", "view", "metric", "telemetry"}},
	{"check", []string{"", "unit", "address", "mail", "mta", "names", "pattern", "route", "backend", "table", "store", "config/setting", "config", "kit", "view", "metric"}},
	{"pattern", []string{"", "address", "table", "config/setting"}},
	{"names", []string{"", "unit", "address", "table", "store", "config/setting", "config", "kit", "view", "metric"}},
	{"quotad", []string{"", "unit", "check/quota/wire", "check/quota/dovecot", "check/quota/room", "check/quota/source", "address", "config/setting", "config", "kit", "view", "metric", "front/listen"}},
	{"route", []string{"", "address", "mta", "table", "backend", "config/setting", "kit", "metric", "view"}},
	{"table", []string{"", "address", "config/setting", "kit", "metric", "view"}},
	{"store", []string{"", "address", "config/setting", "kit", "metric", "view"}},
	{"backend", []string{"", "address", "config/setting", "kit", "metric", "view"}},
	{"telemetry", []string{"", "kit", "metric", "config/setting"}},
	{"mta", []string{"kit", "address", "table"}},
	{"kit", []string{""}},
	{"view", []string{""}},
	{"metric/exposition", []string{"metric"}},
	{"metric", []string{""}},
	{"config/setting", []string{""}},
	{"config", []string{"config/setting"}},
	{"report", []string{"", "unit", "mail", "kit", "view"}},
	{"mail/part", []string{""}},
	{"mail", nil},
	{"doctor", []string{"", "unit", "address", "mta", "table", "route", "backend", "kit", "view"}},
	{"address", []string{""}},
	{"", nil},
}

func within(dir, prefix string) bool {
	if prefix == "" {
		return dir == ""
	}
	return dir == prefix || strings.HasPrefix(dir, prefix+"/")
}

// unitOf is the folder that is one unit: check/callahead, front/milter.
func unitOf(dir string) string {
	parts := strings.Split(dir, "/")
	if len(parts) > 2 {
		parts = parts[:2]
	}
	return strings.Join(parts, "/")
}

func mayImport(from, to string) bool {
	if unitOf(from) == unitOf(to) || (from != "" && within(to, from)) || (to != "" && within(from, to)) {
		return true // inside one unit
	}
	if !strings.Contains(from, "/") && from != "" && within(to, from) {
		return true
	}
	for _, rule := range allowed {
		if !within(from, rule.from) {
			continue
		}
		for _, prefix := range rule.to {
			if prefix == "*" || within(to, prefix) {
				return true
			}
		}
		// The folders of a family (store/ram, store/tiers) may build on each other,
		// but a check never imports another check, nor a front another front except for
		// the sockets that they have in common.
		family := strings.Split(from, "/")[0]
		return within(to, family) && family != "check" && family != "front" && family != ""
	}
	return false
}

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ours := strings.CutPrefix(path, module)
			if !ours {
				if s.dir == "" && !s.test && strings.Contains(strings.Split(path, "/")[0], ".") {
					t.Errorf("%s imports %s: the root package uses the standard library only", s.path, path)
				}
				continue
			}
			if s.test {
				continue // tests may use simulated servers and real stores
			}
			if to = strings.TrimPrefix(to, "/"); !mayImport(s.dir, to) {
				t.Errorf("%s imports %s: imports point the other way (DESIGN.md, Shape)", s.path, path)
			}
		}
	}
}

// home names the folders that know a library, by the beginning of its import path. Others use
// what these folders make of it, so that a library can be changed, and a test program of the
// others is linked without it.
var home = map[string][]string{
	"github.com/prometheus/": {"metric/exposition"},
	"modernc.org/sqlite":     {"store/disk", "check/script"},
	"go.starlark.net/":       {"check/script"},
	"github.com/go-ldap/":    {"check/quota/directory"},
	"github.com/maypok86/":   {"store/ram", "names"},
}

func TestLibrariesAreKnownInOnePlace(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			for library, dirs := range home {
				if !strings.HasPrefix(strings.Trim(spec.Path.Value, `"`), library) {
					continue
				}
				used[library] = true
				if !slices.ContainsFunc(dirs, func(dir string) bool { return within(s.dir, dir) }) {
					t.Errorf("%s imports %s: only %s may", s.path, spec.Path.Value, strings.Join(dirs, " and "))
				}
			}
		}
	}
	for library := range home {
		if !used[library] {
			t.Errorf("nothing imports %s", library)
		}
	}
}

func TestLengths(t *testing.T) {
	for _, s := range sources(t) {
		if n := strings.Count(s.text, "\n"); n > maxFileLines && !s.test {
			t.Errorf("%s has %d lines, at most %d are allowed", s.path, n, maxFileLines)
		}
		for _, decl := range s.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.files.Position(fn.End()).Line - s.files.Position(fn.Pos()).Line; n > maxFunctionLine {
				t.Errorf("%s: %s has %d lines, at most %d are allowed", s.path, fn.Name.Name, n, maxFunctionLine)
			}
		}
	}
}

func TestEveryFileHasItsLicence(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.text, "// SPDX-License-Identifier: BSD-2-Clause\n") {
			t.Errorf("%s does not begin with the licence line", s.path)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	said, seen := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.test && !strings.HasPrefix(s.dir, "test") {
			continue
		}
		seen[s.dir] = true
		if s.file.Doc != nil && len(s.file.Doc.Text()) > 80 {
			said[s.dir] = true
		}
	}
	for dir := range seen {
		if !said[dir] {
			t.Errorf("package in %q has no package comment that says what it is for", dir)
		}
	}
}

// TestNoHiddenState finds init functions and assignments to package-level variables.
func TestNoHiddenState(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, decl := range s.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function: register in builtin.go", s.path)
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				assign, ok := n.(*ast.AssignStmt)
				if !ok || assign.Tok == token.DEFINE {
					return true
				}
				for _, lhs := range assign.Lhs {
					if name := packageVariable(s.file, lhs); name != "" {
						t.Errorf("%s: %s assigns to the package variable %s", s.path, fn.Name.Name, name)
					}
				}
				return true
			})
		}
	}
}

// packageVariable names the package-level variable of this file that an expression
// assigns to, if it does.
func packageVariable(file *ast.File, lhs ast.Expr) string {
	ident, ok := lhs.(*ast.Ident)
	if !ok || ident.Obj == nil || file.Scope.Lookup(ident.Name) != ident.Obj {
		return ""
	}
	return ident.Name
}

var forbidden = regexp.MustCompile(`(?i)\b(todo|fixme|xxx|not implemented|for now)\b|/home/[a-z]+/`)

// promising reports whether a line is worth a look with forbidden, which is slow.
func promising(line string) bool {
	line = strings.ToLower(line)
	return slices.ContainsFunc([]string{"todo", "fixme", "xxx", "not implemented", "for now", "/home/"}, func(word string) bool { return strings.Contains(line, word) })
}

func TestNoPromises(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir == "test/house" {
			continue
		}
		for i, line := range strings.Split(s.text, "\n") {
			if !promising(line) {
				continue
			}
			if m := forbidden.FindString(line); m != "" {
				t.Errorf("%s:%d says %q", s.path, i+1, m)
			}
		}
	}
}

// TestUnits holds that the list of units is the only file of the program that names one,
// and that every unit in the tree stands in it.
func TestUnits(t *testing.T) {
	const list = "cmd/rcptgate/builtin.go"
	var builtin string
	units := map[string]string{} // folder → file with a Unit function
	for _, s := range sources(t) {
		if s.path == list {
			builtin = s.text
		}
		if s.test {
			continue
		}
		for _, spec := range s.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			to, ours := strings.CutPrefix(path, module+"/")
			if ours && within(s.dir, "cmd") && s.path != list && (within(to, "check") || within(to, "front")) {
				t.Errorf("%s imports %s: only %s names a unit", s.path, to, list)
			}
		}
		for _, decl := range s.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if ok && fn.Recv == nil && ast.IsExported(fn.Name.Name) && strings.HasSuffix(fn.Name.Name, "Unit") && returnsUnit(fn) && !strings.Contains(s.dir, "testdata") {
				units[filepath.Base(s.dir)+"."+fn.Name.Name] = s.path
			}
		}
	}
	for call, path := range units {
		if !strings.Contains(builtin, call+"()") {
			t.Errorf("%s: %s does not stand in %s", path, call, list)
		}
	}
	if len(units) < 9 {
		t.Errorf("found only %d units: looking for the wrong thing?", len(units))
	}
}

func returnsUnit(fn *ast.FuncDecl) bool {
	if fn.Type.Results == nil || len(fn.Type.Results.List) != 1 {
		return false
	}
	sel, ok := fn.Type.Results.List[0].Type.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Unit"
}

// maxProgram bounds package main: what grows belongs into a unit.
const maxProgram = 2300

func TestTheProgramIsSmall(t *testing.T) {
	n := 0
	for _, s := range sources(t) {
		if s.dir == "cmd/rcptgate" && !s.test {
			n += strings.Count(s.text, "\n")
		}
	}
	if n > maxProgram {
		t.Errorf("package main has %d lines, at most %d are allowed", n, maxProgram)
	}
}

// pathInComment finds files of the tree that a comment names.
var pathInComment = regexp.MustCompile(`\b(?:docs|test|cmd|check|front|store|table|config|kit|unit|backend|route)/[\w./-]*\w`)

// TestPathsInComments holds that a path that a comment names exists.
func TestPathsInComments(t *testing.T) {
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			text := group.Text()
			if !strings.Contains(text, "/") {
				continue // quicker than the expression
			}
			for _, path := range pathInComment.FindAllString(text, -1) {
				if found, _ := filepath.Glob(filepath.Join(root, path) + "*"); len(found) == 0 && !strings.Contains(path, "...") {
					t.Errorf("%s: a comment names %s, which does not exist", s.path, path)
				}
			}
		}
	}
}

// TestModuleIsTidy holds that go.mod, and that of the tools, name what is imported and nothing
// else. The module proxy may be away: then nothing is said.
func TestModuleIsTidy(t *testing.T) {
	for _, dir := range []string{".", "test/tools"} {
		cmd := exec.Command("go", "mod", "tidy", "-diff")
		cmd.Dir = filepath.Join(root, dir)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		switch {
		case out.Len() > 0:
			t.Errorf("%s: go mod tidy would change:\n%s", dir, out.String())
		case err != nil:
			t.Skipf("%s: go mod tidy: %v: %s", dir, err, errs.String())
		}
	}
}

// TestTestsInDocuments holds that a test that a document names exists.
func TestTestsInDocuments(t *testing.T) {
	have := map[string]bool{}
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && s.test {
				have[fn.Name.Name] = true
			}
		}
	}
	documents, _ := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	decisions, _ := filepath.Glob(filepath.Join(root, "docs", "decisions", "*.md"))
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	for _, path := range append(documents, decisions...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if !have[m[1]] {
				t.Errorf("%s names %s, which does not exist", filepath.Base(path), m[1])
			}
		}
	}
}

// TestDocumentsAreWrapped holds that people can read documents in a terminal: at most 100
// columns, tables and code aside.
func TestDocumentsAreWrapped(t *testing.T) {
	var list []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "test/*.md"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		list = append(list, found...)
	}
	for _, path := range list {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		long, fenced := 0, false
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if !fenced && utf8.RuneCountInString(line) > 100 && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "    ") {
				long++
			}
		}
		if long > 0 {
			t.Errorf("%s has %d lines over 100 columns", strings.TrimPrefix(path, root+"/"), long)
		}
	}
}
