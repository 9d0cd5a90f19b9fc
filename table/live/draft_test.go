// SPDX-License-Identifier: BSD-2-Clause

package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"rcptgate/table"
)

// numbered is a text of the names n0 to n(count-1).
func numbered(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "n%d=v%d\n", i, i)
	}
	return b.String()
}

func (f *fixture) defers(key string) {
	f.t.Helper()
	if value, found, err := f.Lookup(context.Background(), key); !errors.Is(err, ErrRebuild) {
		f.t.Errorf("%s: %q, %v, %v; want an error", key, value, found, err)
	}
}

// changed has the file changed and looked at.
func (f *fixture) changed(text string) {
	f.t.Helper()
	f.write(text)
	_ = f.refresh(f.t.Context(), false)
}

// later looks again after a while.
func (f *fixture) later(d time.Duration) {
	f.t.Helper()
	f.skew += d
	_ = f.refresh(f.t.Context(), false)
}

// TestTextWrittenWithPauses: a script that writes a text in place, with a pause after each
// part, has nobody refused who was there before.
func TestTextWrittenWithPauses(t *testing.T) {
	f := newFixture(t, table.Text, numbered(100))
	parts := strings.SplitAfter("new=1\n"+numbered(100), "\n")
	for n := 1; n < 100; n += 7 {
		f.changed(strings.Join(parts[:n], ""))
		f.later(2500 * time.Millisecond)
		if n > 1 {
			f.holds("new", "1") // what is there counts
			f.holds("n0", "v0")
		}
		f.defers("n99")
		f.lacks("never")
		if st := f.Status(); !st.Rebuilding || !errors.Is(st.Err, ErrRebuild) || st.Loads != 1 {
			t.Fatalf("%d lines: %+v", n, st)
		}
	}
	f.changed(strings.Join(parts, ""))
	f.holds("n99", "v99")
	f.holds("new", "1")
	if st := f.Status(); st.Err != nil || st.Loads != 2 {
		t.Errorf("when it is whole: %+v", st)
	}
	if n := f.lines("table not read"); n > 4 {
		t.Errorf("%d lines in the log: %s", n, f.log)
	}
}

// TestTextCutShort: the disk was full, and nobody completes the file.
func TestTextCutShort(t *testing.T) {
	f := newFixture(t, table.TextHash, numbered(100))
	whole := strings.Replace(numbered(100), "v4\n", "other\n", 1)
	f.changed(whole[:len(whole)-1]) // the line end alone is missing
	f.holds("n4", "other")
	f.holds("n99", "v99")
	f.changed(whole[:len(whole)-3])
	f.defers("n99") // its value may be cut
	f.changed(whole[:len(whole)/2] + "\nn999=v9")
	f.holds("n3", "v3")
	f.defers("n99")
	f.defers("n999")
	f.later(stillLong - time.Minute)
	f.defers("n99")
	f.later(time.Minute)
	f.lacks("n99")
	f.holds("n999", "v9")
	if f.lines("looks unfinished") != 1 || f.Status().Err != nil {
		t.Errorf("after ten minutes: %+v, log: %s", f.Status(), f.log)
	}
}

func TestEmptiedText(t *testing.T) {
	f := newFixture(t, table.Text, "a=1\n")
	f.changed("")
	f.defers("a")
	f.lacks("b")
	f.later(stillLong)
	f.lacks("a")
	f.changed("")
	f.lacks("a")
}

// TestTextThatComesBack: the old content again ends a draft, and costs no load.
func TestTextThatComesBack(t *testing.T) {
	f := newFixture(t, table.Text, numbered(50))
	f.changed(numbered(10))
	f.defers("n49")
	f.changed(numbered(50))
	f.holds("n49", "v49")
	if st := f.Status(); st.Err != nil || st.Loads != 1 {
		t.Errorf("%+v", st)
	}
}

// TestFewNamesRemoved: taking out a name is an everyday change. In place it is believed
// after ten seconds, in a new file at once.
func TestFewNamesRemoved(t *testing.T) {
	f := newFixture(t, table.Text, numbered(50))
	f.changed(numbered(49))
	f.holds("n48", "v48")
	f.defers("n49")
	f.later(2500 * time.Millisecond)
	f.defers("n49")
	f.later(stillShort)
	f.lacks("n49")

	if err := os.WriteFile(f.path+".new", []byte(numbered(45)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		t.Fatal(err)
	}
	f.later(quiet)
	f.lacks("n48")
	if err := f.Status().Err; err != nil {
		t.Error(err)
	}

	// Many are not believed in a new file either.
	if err := os.WriteFile(f.path+".new", []byte(numbered(20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		t.Fatal(err)
	}
	f.later(quiet)
	f.defers("n44")
}

// TestFirstTextCutShort: a gate that starts while a text is being written defers what it
// does not find.
func TestFirstTextCutShort(t *testing.T) {
	f := newFixture(t, table.Text, "")
	f.write("a=1\nb=2\nc=")
	_ = f.Load(t.Context())
	f.holds("a", "1")
	f.defers("c")
	f.defers("d")
	if f.Index() != nil || !f.Status().Loaded.IsZero() {
		t.Error("half a text is active")
	}
	f.changed("a=1\nb=2\nc=3\n")
	f.holds("c", "3")
	f.lacks("d")

	g := newFixture(t, table.Text, "")
	g.write("a=1\nb=2")
	g.skew += stillLong // it has been so for long
	g.load()
	g.holds("b", "2")
	g.lacks("d")
}

// TestDatabasesAreNoDrafts: their writers lock them, and what they lack is absent.
func TestDatabasesAreNoDrafts(t *testing.T) {
	f := newFixture(t, table.Hash, numbered(50))
	f.changed("n1=v1")
	f.lacks("n49")
}
