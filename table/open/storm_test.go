// SPDX-License-Identifier: BSD-2-Clause

package open_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/table"
	"rcptgate/table/live"
	"rcptgate/table/open"
	"rcptgate/table/tabletest"
	"rcptgate/test/lab"
)

// stormTime is how long each of the seven storms lasts at least; a minute with RCPTGATE_TABLE_BIG=1.
func stormTime() time.Duration {
	if tabletest.Big() {
		return time.Minute
	}
	return 300 * time.Millisecond
}

const stormNames = 2000

// The storms wait more than they compute.
func TestMain(m *testing.M) {
	testkit.Overlap(4)
	m.Run()
}

// stormText is one generation of a table: the numbered names are in all, "even" and "odd" in turn, and every value
// names the generation.
func stormText(generation int, between string) string {
	var b strings.Builder
	for i := range stormNames {
		fmt.Fprintf(&b, "name%d%s g%d\n", i, between, generation)
	}
	fmt.Fprintf(&b, "%s%s g%d\n", []string{"even", "odd"}[generation%2], between, generation)
	return b.String()
}

// storm lets a rebuild run in a loop while look-ups run. Every answer is the old or the
// new one: values of one look-up after another never go back, no name that is in all generations
// is ever missing, and in the end the last one is active.
func storm(t *testing.T, cfg live.Config, rebuild func(generation int)) {
	t.Helper()
	rebuild(0)
	l, err := open.Live(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var finished atomic.Int64 // generations whose rebuild has ended
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = l.Run(ctx) })
	var asked atomic.Int64
	wg.Go(func() { lookUps(ctx, t, l, &finished, &asked) })
	generation := 0
	// A storm in which nothing is loaded shows nothing: a busy machine gets more time.
	for begun := time.Now(); !t.Failed() && (time.Since(begun) < stormTime() || l.Status().Loads < 2 && time.Since(begun) < time.Minute); {
		generation++
		finished.Store(int64(generation))
		rebuild(generation)
	}
	within(t, l, fmt.Sprintf("g%d", generation))
	st := l.Status()
	t.Logf("%d rebuilds, %d loads, %d waits, %d failures, %d look-ups; last error %v", generation, st.Loads, st.Waits, st.Failures, asked.Load(), st.Err)
	if st.Loads < 2 || st.Err != nil {
		t.Errorf("status after the storm: %+v", st)
	}
}

// lookUps asks without end, one name after the other.
func lookUps(ctx context.Context, t *testing.T, l *live.Live, begun, asked *atomic.Int64) {
	last := -1
	for i := 0; ctx.Err() == nil; i++ {
		index := l.Index() // one generation: what it holds must fit together
		value, found, err := l.Lookup(ctx, fmt.Sprintf("name%d", i%stormNames))
		generation := 0
		if _, scanErr := fmt.Sscanf(value, "g%d", &generation); err != nil || !found || scanErr != nil {
			t.Errorf("name%d: %q, %v, %v", i%stormNames, value, found, err)
			return
		}
		if generation < last || int64(generation) > begun.Load() {
			t.Errorf("generation %d after %d, begun %d", generation, last, begun.Load())
			return
		}
		last = generation
		first, _ := index.Get("name0")
		_, even := index.Get("even")
		_, odd := index.Get("odd")
		end, _ := index.Get(fmt.Sprintf("name%d", stormNames-1))
		if first != end || even == odd {
			t.Errorf("half a rebuild: %q and %q, even %v, odd %v", first, end, even, odd)
			return
		}
		asked.Add(1)
		if i%64 == 0 {
			time.Sleep(time.Millisecond) // two cores, and the tool needs one
		}
	}
}

// within waits until the value is active: 2 s are promised, a loaded machine gets more.
func within(t *testing.T, l *live.Live, want string) {
	t.Helper()
	start := time.Now()
	for {
		value, _, _ := l.Lookup(context.Background(), "name1")
		if value == want {
			t.Logf("active after %v", time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("after a minute %q is active, not %q: %+v", value, want, l.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func spec(t testing.TB, s string) table.Spec {
	t.Helper()
	spec, err := table.ParseSpec(s)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestStormNewaliases(t *testing.T) {
	t.Parallel()
	s := newSendmail(t)
	storm(t, live.Config{Spec: spec(t, "hash:"+s.aliases), Aliases: true}, func(generation int) {
		put(t, s.aliases, stormText(generation, ":"))
		out := s.rebuild(t)
		if !strings.Contains(out, fmt.Sprint(stormNames+1, " aliases")) {
			t.Errorf("newaliases was refused: %s", out)
		}
	})
}

// TestNewaliasesBesideText rebuilds while the text itself is followed: a lock on it would have newaliases give up.
func TestNewaliasesBesideText(t *testing.T) {
	t.Parallel()
	s := newSendmail(t)
	text := func(generation int) { // as editors that write a new file do
		put(t, s.aliases+".new", stormText(generation, ":"))
		if err := os.Rename(s.aliases+".new", s.aliases); err != nil {
			t.Fatal(err)
		}
	}
	storm(t, live.Config{Spec: spec(t, "text:"+s.aliases), Aliases: true}, func(generation int) {
		text(generation)
		// Long enough for the text to be read meanwhile: it must have been quiet for half a second.
		for begun := time.Now(); time.Since(begun) < 600*time.Millisecond; {
			if out := s.rebuild(t); !strings.Contains(out, fmt.Sprint(stormNames+1, " aliases")) {
				t.Errorf("newaliases was refused: %s", out)
			}
		}
	})
}

func TestStormPostmap(t *testing.T) {
	t.Parallel()
	postmap := postfix(t, "postmap")
	for _, kind := range []string{"hash", "cdb", "lmdb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(testkit.Dir(t), "map")
			storm(t, live.Config{Spec: spec(t, kind+":"+name)}, func(generation int) {
				put(t, name, stormText(generation, " "))
				postmap.run(t, filepath.Dir(name), nil, postmap.args(kind+":"+name)...)
			})
		})
	}
}

func TestStormPostalias(t *testing.T) {
	t.Parallel()
	postalias := postfix(t, "postalias")
	name := filepath.Join(testkit.Dir(t), "aliases")
	storm(t, live.Config{Spec: spec(t, "hash:"+name), Aliases: true}, func(generation int) {
		put(t, name, stormText(generation, ":"))
		postalias.run(t, filepath.Dir(name), nil, postalias.args("hash:"+name)...)
	})
}

func TestStormMakemap(t *testing.T) {
	t.Parallel()
	s := newSendmail(t)
	makemap := need(t, lab.SendmailKit, "usr/libexec/sendmail/makemap")
	name := filepath.Join(s.dir, "map")
	storm(t, live.Config{Spec: spec(t, "btree:"+name)}, func(generation int) {
		makemap.run(t, s.dir, []byte(stormText(generation, " ")), "-C", s.cf, "btree", name)
	})
}
