// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/config/setting"
	"rcptgate/view"
)

// TestWhatIsSaved has more change at once than waits for the journal, and reads it once.
func TestWhatIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
		l := w.list("virus").(*List)
		l.log = slog.New(slog.DiscardHandler)
		l.load()
		l.save()
		for i := range changedMax + 5 {
			if _, err := l.list(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), "Win.X", "", 0); err != nil {
				t.Fatal(err)
			}
		}
		l.save()
		text, err := os.ReadFile(l.journal.path)
		if n := strings.Count(string(text), "\n"); err != nil || n != changedMax+5 {
			t.Errorf("%v, %d lines", err, n)
		}
		before, _ := os.Stat(l.journal.path)
		l.save()
		if after, _ := os.Stat(l.journal.path); !os.SameFile(before, after) {
			t.Error("written anew without a change")
		}
		lines := l.journal.lines
		l.load() // again
		if l.journal.lines != lines {
			t.Error("read twice")
		}
		time.Sleep(2 * time.Hour) // nothing of it matters any more
		again := newState("virus", &l.cfg, l.log, time.Now)
		again.journal = journal{path: l.journal.path, notices: l.notices}
		fresh := *l
		fresh.state = again
		if fresh.load(); fresh.table.Load().count.Load() != 0 || fresh.journal.lines != changedMax+5 {
			t.Errorf("%d entries of %d lines", fresh.table.Load().count.Load(), fresh.journal.lines)
		}
	})
}

// TestResize holds what a reload leaves as it is, and what it makes anew.
func TestResize(t *testing.T) {
	s := newState("virus", &Config{Entries: 1000, IPv6Prefix: 64, For: setting.Duration(time.Hour)}, slog.New(slog.DiscardHandler), time.Now)
	now := time.Now()
	for i := range 100 {
		e := someEntry(i, now)
		s.table.Load().update(e.Network, 1000, func(*entry) *entry { return e })
	}
	s.table.Load().evicted.Store(5)
	table, traffic := s.table.Load(), s.traffic.Load()
	s.resize(1000, 64, time.Hour)
	if s.table.Load() != table || s.traffic.Load() != traffic {
		t.Error("the same bounds make another table")
	}
	s.resize(1000, 64, 2*time.Hour)
	if s.table.Load() != table || s.traffic.Load() == traffic || s.traffic.Load().half != time.Hour {
		t.Error("another window")
	}
	s.resize(1000, 48, 2*time.Hour)
	if s.table.Load() == table || s.table.Load().count.Load() != 100 || s.table.Load().evicted.Load() != 5 {
		t.Errorf("other networks: %d entries, %d evicted", s.table.Load().count.Load(), s.table.Load().evicted.Load())
	}
	table = s.table.Load()
	s.resize(100_000, 48, 2*time.Hour)
	if s.table.Load() == table || s.table.Load().count.Load() != 100 {
		t.Error("more entries")
	}
	s.resize(50, 48, 2*time.Hour)
	if n := s.table.Load().count.Load(); n != 50 || s.table.Load().evicted.Load() != 55 {
		t.Errorf("fewer entries: %d, %d evicted", n, s.table.Load().evicted.Load())
	}
}

// TestShorten ends what lasts too long, and nothing else.
func TestShorten(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n")
	l := w.list("virus").(*List)
	now := time.Now()
	for i, hours := range []int{1, 5, 5} {
		e := someEntry(i, now)
		e.Until, e.life = now.Add(time.Duration(hours)*time.Hour), time.Duration(hours)*time.Hour
		l.table.Load().update(e.Network, 100, func(*entry) *entry { return e })
	}
	same := l.table.Load().get(netip.MustParseAddr("198.51.100.0"))
	l.shorten()
	for i := range 3 {
		e := l.table.Load().get(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
		if !e.Until.Equal(now.Add(time.Hour)) || e.life != time.Hour || i == 0 && e != same {
			t.Errorf("%d: until %v, for %v", i, e.Until.Sub(now), e.life)
		}
	}
}

// TestWhatCommandsShow holds states, limits and errors of commands.
func TestWhatCommandsShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nfor_max = \"4h\"\n[[blocklist]]\nname = \"dry\"\nenforce = false\n")
		says := func(want string, op string, args ...string) []view.Table {
			t.Helper()
			tables, err := w.do(op, args...)
			said := fmt.Sprint(err)
			if err == nil {
				said = ""
				for _, row := range tables[0].Rows {
					said += fmt.Sprintln(row.Cells...)
				}
			}
			if !strings.Contains(said, want) {
				t.Errorf("%s %q: %q, want %q", op, args, said, want)
			}
			return tables
		}
		for i := range 60 {
			w.add("virus", fmt.Sprintf("198.51.100.%d", i))
		}
		w.add("dry", "198.51.100.1")
		if tables := says("198.51.100.1", "list"); len(tables[0].Rows) != 61 || tables[0].More != 0 {
			t.Errorf("%d rows, %d more", len(tables[0].Rows), tables[0].More)
		}
		if tables := says("198.51.100.1", "list", "dry"); len(tables[0].Rows) != 1 {
			t.Errorf("%d rows", len(tables[0].Rows))
		}
		if tables := w.host.Live("blocklist").Show(); len(tables) != 2 || len(tables[1].Rows) != shownMax || tables[1].More != 61-shownMax {
			t.Errorf("the page has %d rows, %d more", len(tables[1].Rows), tables[1].More)
		}
		says(`there is no blocklist "none"; there are: virus, dry`, "list", "none")
		says("dry listed, rehearsed", "show", "198.51.100.1")
		says("virus listed 198.51.100.1 1h0m0s", "show", "198.51.100.1")
		says("missing", "show")
		says("not a network of the size", "show", "198.51.100.0/24")
		says("missing", "remove", "virus")
		says("not an address", "add", "virus", "198.51.100.0/24")
		says("--for", "add", "virus", "198.51.100.1", "--for=soon")
		says("added by hand", "add", "virus", "198.51.100.99", "--for=4h")
		time.Sleep(2 * time.Hour)
		says("virus ended 198.51.100.1", "show", "198.51.100.1")
		says("is not on blocklist", "remove", "virus", "198.51.100.1")
		for _, row := range says("virus refuses 1 61", "stats")[0].Rows[1:] {
			if fmt.Sprint(row.Cells[1], row.Cells[2]) != "rehearses0" && fmt.Sprint(row.Cells[1], " ", row.Cells[2]) != "rehearses 0" {
				t.Errorf("%v", row.Cells)
			}
		}
		if _, err := w.do("nonsense", "virus"); err == nil || strings.Contains(err.Error(), "missing") {
			t.Error(err)
		}
	})
}
