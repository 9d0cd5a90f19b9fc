// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestManualNamesEveryReason: each word that a decision can have as its reason stands in the
// daemon's manual page, and no other.
func TestManualNamesEveryReason(t *testing.T) {
	p, err := newProgram(units())
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(p.serve().Long, "\nReasons:\n\n")
	documented := map[string]bool{}
	for line := range strings.Lines(list) {
		word, doc, _ := strings.Cut(strings.TrimSpace(line), " ")
		if documented[word] || strings.TrimSpace(doc) == "" {
			t.Errorf("%q stands twice in the manual, or without its meaning", word)
		}
		documented[word] = true
	}
	used := reasonsInSource(t)
	for word, where := range used {
		if !documented[word] {
			t.Errorf("%s: the manual page of serve does not name the reason %q: see rcptgate.Reasons and unit.Unit", where, word)
		}
	}
	for word := range documented {
		if used[word] == "" {
			t.Errorf("the manual page of serve names %q, which is not a reason", word)
		}
	}
	if len(used) < 15 {
		t.Errorf("found %d reasons", len(used))
	}
}

// reasonsInSource finds the reasons of the program: constants of the type, conversions to it, and
// fields of that name in a literal.
func reasonsInSource(t *testing.T) map[string]string {
	t.Helper()
	found, files := map[string]string{}, token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasSuffix(d.Name(), "test") || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, value := range reasonValues(n) {
				if word := wordOf(value); word != "" {
					found[word] = files.Position(value.Pos()).String()
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wordOf is the text of a literal, and of one with a name behind it: "rule:NAME".
func wordOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			word, _ := strconv.Unquote(e.Value) // the parser has accepted it
			return word
		}
	case *ast.BinaryExpr:
		if prefix := wordOf(e.X); prefix != "" {
			return prefix + "NAME"
		}
	}
	return ""
}

// reasonValues are the expressions of a node that are reasons.
func reasonValues(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.ValueSpec:
		if isReason(n.Type) {
			return n.Values
		}
	case *ast.CallExpr:
		if isReason(n.Fun) {
			return n.Args
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Reason" {
			return []ast.Expr{n.Value}
		}
	}
	return nil
}

// isReason recognises the type.
func isReason(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "Reason"
	case *ast.SelectorExpr:
		from, ok := e.X.(*ast.Ident)
		return ok && from.Name == "rcptgate" && e.Sel.Name == "Reason"
	}
	return false
}

// TestUnknownCommands: a command that does not exist is an error at every level, and the one that was
// probably meant is named.
func TestUnknownCommands(t *testing.T) {
	for args, want := range map[string]string{
		"statsu":          `unknown command "statsu" for "rcptgate"; did you mean "status"?`,
		"cache forgte x":  `unknown command "forgte" for "rcptgate cache"; did you mean "forget"?`,
		"config chekc":    `unknown command "chekc" for "rcptgate config"; did you mean "check"?`,
		"table gte":       `unknown command "gte" for "rcptgate table"; did you mean "get"?`,
		"table something": `unknown command "something" for "rcptgate table"`,
		"cache forget":    `forget takes recipients and domains`,
	} {
		var out, errs strings.Builder
		code := run(t.Context(), units(), strings.Fields(args), &out, &errs)
		if code != 64 || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, want 64 and %q\n%s%s", args, code, want, &out, &errs)
		}
	}
	for _, args := range []string{"", "cache", "config", "table", "--version", "version"} {
		var out, errs strings.Builder
		if code := run(t.Context(), units(), strings.Fields(args), &out, &errs); code != 0 || !strings.Contains(out.String(), "rcptgate ") {
			t.Errorf("%q: exit code %d\n%s%s", args, code, &out, &errs)
		}
	}
}
