// SPDX-License-Identifier: BSD-2-Clause

package house

import (
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestPlurals holds that no sentence says "1 octets": a number that may be one is written
// with its noun by term.Count, or the sentence counts in another way. A number that is a
// constant is not one, and "3 of 7 lines" is a ratio.
func TestPlurals(t *testing.T) {
	all := sources(t)
	constants := map[string]bool{}
	for _, s := range all {
		for _, decl := range s.file.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.CONST {
				for _, spec := range gen.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						constants[name.Name] = true
					}
				}
			}
		}
	}
	for _, s := range all {
		if s.test || notRead(s.dir) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				for _, phrase := range miscounted(call, constants) {
					t.Errorf("%s says %q whatever the number is: use term.Count", s.files.Position(call.Pos()), phrase)
				}
			}
			return true
		})
	}
}

// notRead tells folders whose words only those see who change the program: load
// generators, suites, tests.
func notRead(dir string) bool {
	for _, prefix := range []string{"bench", "test", "backend/sim", "store/storetest", "table/tabletest", "unit/checktest", "unit/fronttest", "kit/testkit"} {
		if within(dir, prefix) {
			return true
		}
	}
	return strings.Contains(dir, "testdata")
}

var (
	verb = regexp.MustCompile(`%(%|[-+# 0-9.]*[a-zA-Z])`)
	// counted is what stands behind a number: at most one adjective and a plural.
	counted = regexp.MustCompile(`^ (?:(?:more|other|different|questions'|hexadecimal|leaf|unknown) )?([a-z]{2,}s)\b`)
	// verbs end in s as well.
	verbs = map[string]bool{"is": true, "has": true, "was": true, "does": true, "this": true, "lies": true, "reads": true,
		"refuses": true, "says": true, "its": true, "means": true, "begins": true, "ends": true, "misses": true, "lacks": true, "stands": true}
)

// miscounted gives the phrases of a call's format that hold a number, not a constant one,
// before a noun in the plural.
func miscounted(call *ast.CallExpr, constants map[string]bool) []string {
	var list []string
	for at, arg := range call.Args {
		lit, ok := arg.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		format, err := strconv.Unquote(lit.Value)
		if err != nil {
			continue
		}
		next := at
		for _, m := range verb.FindAllStringIndex(format, -1) {
			v := format[m[0]:m[1]]
			if v == "%%" {
				continue
			}
			next++
			noun := counted.FindStringSubmatch(format[m[1]:])
			if !strings.HasSuffix(v, "d") && v != "%v" || noun == nil || verbs[noun[1]] || strings.HasSuffix(format[:m[0]], " of ") || next >= len(call.Args) || isConstant(call.Args[next], constants) {
				continue
			}
			list = append(list, v+noun[0])
		}
		break // the first string is the format
	}
	return list
}

// isConstant tells a number that is fixed when the program is built, by its name.
func isConstant(e ast.Expr, constants map[string]bool) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return constants[e.Name]
	case *ast.SelectorExpr:
		return constants[e.Sel.Name]
	case *ast.BinaryExpr:
		return isConstant(e.X, constants) || isConstant(e.Y, constants)
	case *ast.ParenExpr:
		return isConstant(e.X, constants)
	}
	return false
}

// TestDurations holds that sentences write ages and times left in one way, that of
// view.Duration ("3m 12s"), and not as Go prints them ("3m12s"). A log line's field is no
// sentence: programs read it. Packages that may not import view are exempt.
func TestDurations(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || notRead(s.dir) || within(s.dir, "demo") || within(s.dir, "telemetry") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !formats(call) {
				return true
			}
			for _, arg := range call.Args {
				if rounded(arg) {
					t.Errorf("%s writes a rounded duration as Go does: use view.Duration", s.files.Position(arg.Pos()))
				}
			}
			return true
		})
	}
}

// formats tells calls whose first string is a format, by the name of the function.
func formats(call *ast.CallExpr) bool {
	for _, arg := range call.Args {
		if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, "%") {
			return true
		}
	}
	return false
}

// rounded tells d.Round(time.Second) and the like, also with String behind it.
func rounded(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch sel.Sel.Name {
	case "String":
		return rounded(sel.X)
	case "Round", "Truncate":
		if len(call.Args) == 1 {
			unit, ok := call.Args[0].(*ast.SelectorExpr)
			if !ok {
				return false
			}
			pkg, ok := unit.X.(*ast.Ident)
			return ok && pkg.Name == "time"
		}
	}
	return false
}
