// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"rcptgate/check/script/star"
)

// testSuffix ends the names of files of tests, and testPrefix begins those of tests.
const (
	testSuffix = "_test.star"
	testPrefix = "test_"
	testSteps  = 10_000_000
	testTime   = 10 * time.Second // for one test
)

// tested is what came of one test.
type tested struct {
	File    string   `json:"file"`
	Name    string   `json:"test"`
	OK      bool     `json:"ok"`
	Failed  []string `json:"failed,omitempty"` // one a failed assert, with its line
	Elapsed float64  `json:"elapsed_ms"`
}

// testFiles are the files of tests beside a script.
func testFiles(script string) ([]string, error) {
	list, err := filepath.Glob(filepath.Join(filepath.Dir(script), "*"+testSuffix))
	slices.Sort(list)
	return list, err
}

// tester runs tests. Each runs with files that are read anew: what one does to counters,
// memories and fakes, another does not see.
type tester struct {
	config Config
	env    *star.Env // of the configuration; what tests may not touch is replaced
	cover  *coverage // nil: lines are not counted
}

// file runs the tests of one file. The error is that of the file itself.
func (ts *tester) file(ctx context.Context, path string) (list []tested, err error) {
	names, err := ts.names(path)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		start := time.Now()
		failed, err := ts.one(ctx, path, name)
		if err != nil {
			return nil, err
		}
		list = append(list, tested{filepath.Base(path), name, len(failed) == 0, failed, float64(time.Since(start).Microseconds()) / 1000})
	}
	return list, ctx.Err()
}

// names are the tests of a file, in its order.
func (ts *tester) names(path string) ([]string, error) {
	m, _, err := ts.load(path)
	if err != nil {
		return nil, err
	}
	var list []*starlark.Function
	for name, v := range m.globals {
		if f, ok := v.(*starlark.Function); ok && strings.HasPrefix(name, testPrefix) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *starlark.Function) int { return int(a.Position().Line) - int(b.Position().Line) })
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.Name()
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no function whose name begins with %s", path, testPrefix)
	}
	return names, nil
}

// load reads a file of tests, and what it loads.
func (ts *tester) load(path string) (*module, *bench, error) {
	f, err := openFolder(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	defer f.close()
	b := newBench(ts.env, filepath.Dir(path))
	l := &loader{folder: f, words: b.words(ts.config.Options), modules: make(map[string]*module), lint: newLint()}
	if ts.cover != nil {
		l.instrument, l.words[ranName] = ts.cover.instrument, ts.cover.word()
	}
	m, err := l.parse(filepath.Base(path), nil)
	if err != nil {
		return nil, nil, err
	}
	if err := l.lint.err(); err != nil {
		return nil, nil, err
	}
	return m, b, l.run(&star.Call{Env: b.env}, testSteps, int64(ts.config.Memory))
}

// one runs one test, and gives what failed in it.
func (ts *tester) one(ctx context.Context, path, name string) (failed []string, err error) {
	m, b, err := ts.load(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			failed = append(b.failed, fmt.Sprint(p))
		}
	}()
	c := &star.Call{Env: b.env, Ctx: ctx}
	t := c.NewThread(name)
	t.SetLocal(benchKey, b)
	t.SetMaxExecutionSteps(testSteps)
	stop := time.AfterFunc(testTime, func() { t.Cancel("a test that takes longer than " + testTime.String()) })
	defer stop.Stop()
	if _, err := starlark.Call(t, m.globals[name], nil, nil); err != nil {
		var e *starlark.EvalError
		if errors.As(err, &e) {
			return append(b.failed, fmt.Sprintf("%v: %s", place(e), e.Msg)), nil
		}
		return append(b.failed, err.Error()), nil
	}
	return b.failed, nil
}

// verifyTests runs the tests beside the script of a configuration.
func verifyTests(ctx context.Context, cfg Config) error {
	list, err := testFiles(cfg.File)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range list {
		results, err := (&tester{config: cfg, env: cfg.part.env}).file(ctx, path)
		errs = append(errs, err)
		for _, r := range results {
			if !r.OK {
				errs = append(errs, fmt.Errorf("script: test %s fails: %s", r.Name, strings.Join(r.Failed, "; ")))
			}
		}
	}
	return errors.Join(errs...)
}

// tap writes results as the Test Anything Protocol has them (testanything.org, version 14).
func tap(w io.Writer, list []tested) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(list))
	for i, r := range list {
		word := "ok"
		if !r.OK {
			word = "not ok"
		}
		fmt.Fprintf(&b, "%s %d - %s: %s\n", word, i+1, r.File, r.Name)
		for _, f := range r.Failed {
			for line := range strings.SplitSeq(f, "\n") {
				fmt.Fprintf(&b, "# %s\n", line)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// isDir reports whether a path is a folder.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
