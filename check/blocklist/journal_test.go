// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/kit/notice"
	"rcptgate/kit/testkit"
)

// someEntry is an entry of 198.51.100.N at a time.
func someEntry(n int, now time.Time) *entry {
	a := netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
	return &entry{Listing: rcptgate.Listing{Network: netip.PrefixFrom(a, 32), First: now, Last: now, Until: now.Add(time.Hour), Count: 1}, life: time.Hour}
}

func TestJournal(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	folder := filepath.Join(testkit.Dir(t), "state")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	board := notice.New(slog.New(slog.DiscardHandler))
	held := []*entry{someEntry(1, now)}
	all := func(f func(*entry) bool) {
		for _, e := range held {
			if !f(e) {
				return
			}
		}
	}
	j := &journal{path: filepath.Join(folder, "list"), notices: board}
	lines := func() int {
		text, _ := os.ReadFile(j.path)
		return strings.Count(string(text), "\n")
	}
	none := func(e *entry) { t.Errorf("loaded %+v", e) }

	j.load(now, time.Hour, none)
	j.save(nil, now, all, 1) // there was no file
	info, err := os.Stat(j.path)
	if err != nil || info.Mode() != 0o600 || lines() != 1 || len(board.List()) != 0 {
		t.Fatalf("%v, %v, %d lines", err, info, lines())
	}
	most := 0
	for range journalSlack + 3 {
		j.save(held, now, all, 1)
		most = max(most, lines())
	}
	if again, _ := os.Stat(j.path); most != journalSlack+3 || lines() != 1 || os.SameFile(info, again) { // one more than twice the entries and the slack
		t.Errorf("%d lines at most, %d at last", most, lines())
	}
	j.save(held, now, all, 1)
	info, _ = os.Stat(j.path)
	j.save(nil, now, all, 1)
	j.save(held, now, all, 1)
	if again, _ := os.Stat(j.path); lines() != 3 || !os.SameFile(info, again) {
		t.Errorf("%d lines: changes are to be added", lines())
	}
	loaded := 0
	j = &journal{path: j.path, notices: board}
	j.load(now, time.Hour, func(*entry) { loaded++ })
	if j.save(nil, now, all, 1); loaded != 3 || j.lines != 3 || lines() != 3 || len(board.List()) != 0 {
		t.Errorf("%d entries in %d lines are loaded, %d are there; %v", loaded, j.lines, lines(), board.List())
	}

	// Somebody removes the file, then the folder.
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	j.save(held, now, all, 1)
	if list := board.List(); len(list) != 1 || list[0].Level != slog.LevelWarn {
		t.Errorf("notices: %v", list)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	held = append(held, someEntry(2, now))
	j.save(held[1:], now.Add(journalRetry-1), all, 2)
	if lines() != 0 {
		t.Error("tried again too soon")
	}
	j.save(nil, now.Add(journalRetry), all, 2)
	if lines() != 2 || len(board.List()) != 0 {
		t.Errorf("%d lines, notices: %v", lines(), board.List())
	}
}

// TestDamagedJournals has a journal that says that it is to be written anew only if
// something is wrong with it.
func TestDamagedJournals(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good := string(appendEntry(nil, someEntry(1, now)))
	for text, bad := range map[string]string{
		good: "", "": "", good + good[:40]: "bad_lines=1", "x\n" + good + "y\n": "bad_lines=2", "x\n": "bad_lines=1",
	} {
		path := filepath.Join(testkit.Dir(t), "list")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		j := &journal{path: path, notices: notice.New(slog.New(slog.NewTextHandler(&log, nil)))}
		loaded := 0
		j.load(now, time.Hour, func(*entry) { loaded++ })
		if j.fresh != (bad != "") || !strings.Contains(log.String(), bad) || bad == "" && log.Len() > 0 || loaded != strings.Count(text, good) {
			t.Errorf("%.60q: fresh %v, %d entries, log %s", text, j.fresh, loaded, log.String())
		}
	}
	j := &journal{path: testkit.Dir(t), notices: notice.New(slog.New(slog.DiscardHandler))} // a folder
	if j.load(now, time.Hour, func(*entry) {}); len(j.notices.List()) != 1 || !j.fresh {
		t.Errorf("a folder: %+v", j.notices.List())
	}
}

// TestAFailureLeavesTheOldFile writes half of a file.
func TestAFailureLeavesTheOldFile(t *testing.T) {
	folder := testkit.Dir(t)
	path := filepath.Join(folder, "list")
	write := func(text string, err error) error {
		return replaceFile(path, 0o644, func(w *bufio.Writer) error { return errors.Join(err, ignore(w.WriteString(text))) })
	}
	if err := write("one", nil); err != nil {
		t.Fatal(err)
	}
	if err := write("two", fs.ErrInvalid); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("the error is %v", err)
	}
	text, err := os.ReadFile(path)
	info, _ := os.Stat(path)
	if files, _ := os.ReadDir(folder); err != nil || string(text) != "one" || len(files) != 1 || info.Mode() != 0o644 {
		t.Errorf("%v, %q, %v", err, text, files)
	}
}

func ignore(_ int, err error) error { return err }

// TestWhenExportsAreWritten holds when files for other programs are written anew.
func TestWhenExportsAreWritten(t *testing.T) {
	folder := filepath.Join(testkit.Dir(t), "later")
	file := filepath.Join(folder, "virus.txt")
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\nexport = [{ format = \"text\", file = \""+file+"\" }, { format = \"text\", file = \""+file+"2\" }]\n")
	l := w.list("virus").(*List)
	now, files := time.Now(), exports{}
	written := func(after time.Duration) bool {
		t.Helper()
		_ = os.Remove(file)
		files.renew(l, now.Add(after))
		_, err := os.Stat(file)
		_, err2 := os.Stat(file + "2")
		return err == nil && err2 == nil
	}
	if written(0) {
		t.Error("written without a folder")
	}
	if n := len(w.host.Notices.List()); n != 2 {
		t.Errorf("%d notices", n)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what  string
		after time.Duration
		want  bool
	}{
		{"just after a failure", exportEvery - 1, false}, {"ten seconds after it", exportEvery, true}, {"without a change", time.Hour, false},
		{"a change", 2 * time.Hour, true}, {"a change again", 2*time.Hour + exportEvery - 1, false}, {"which waits", 2*time.Hour + exportEvery, true},
		{"other MX hosts", 3 * time.Hour, true}, {"the same ones", 4 * time.Hour, false}, {"a change, the clock set back", time.Hour, true},
	} {
		switch {
		case strings.HasPrefix(step.what, "a change"):
			l.edition.Add(1)
		case strings.HasSuffix(step.what, "MX hosts"), step.what == "the same ones":
			l.dns.setMX(map[string][]netip.Addr{"example.com": addrs("198.51.100.6")})
		}
		if got := written(step.after); got != step.want {
			t.Errorf("%s: written %v", step.what, got)
		}
	}
	if n := len(w.host.Notices.List()); n != 0 {
		t.Errorf("%d notices", n)
	}
}

// TestWhatExportsHold holds details of the formats.
func TestWhatExportsHold(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\ntext = \""+strings.Repeat("x", 300)+"\"\n")
	w.add("virus", "2001:db8:0:1::1")
	if err := w.list("virus").Add(netip.MustParseAddr("198.51.100.1"), "Win.X", "4Q1", time.Millisecond*1500); err != nil {
		t.Fatal(err)
	}
	text := func(format string) (text string) {
		tables, err := w.do("export", "virus", "--format="+format)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range tables[0].Rows {
			text += fmt.Sprintln(row.Cells...)
		}
		return text
	}
	for format, want := range map[string]string{
		"nft": "virus6 { 2001:db8:0:1::/64 timeout 3", "json": `"network": "198.51.100.1"`, "cidr": "2001:db8:0:1::/64 550 5.7.1 x", "text": "198.51.100.1\n2001:db8:0:1::/64\n",
		"rbldnsd": ":127.0.0.2:" + strings.Repeat("x", 200) + "\n", "texthash": "2001:db8:0:1 550",
	} {
		if got := text(format); !strings.Contains(got, want) {
			t.Errorf("%s: %s", format, got)
		}
	}
	if got := text("json"); !strings.Contains(got, `"evidence": "Eicar-Test"`) || !strings.Contains(got, `"queue_id": "4Q1"`) || !strings.Contains(got, `"count": 1`) {
		t.Error(got)
	}
	if got := text("nft"); !strings.Contains(got, "virus { 198.51.100.1 timeout 1s }") {
		t.Error(got)
	}
	for prefix, want := range map[string]string{
		"2001:db8:0:1::/64": "2001:db8:0:1", "2001:db8:1::/64": "2001:db8:1:0 2001:db8:1:", "2001:db8::/64": "2001:db8:0:0 2001:db8:", "2001:db8::/63": "", "::/0": "", "2001:db8::/32": "2001:db8",
		"2001:0:0:1::/64": "", "2001:0:1::/48": "2001:0:1", "198.51.100.1/32": "198.51.100.1",
	} {
		if got := strings.Join(accessKeys(netip.MustParsePrefix(prefix)), " "); got != want {
			t.Errorf("%s: %q, want %q", prefix, got, want)
		}
	}
}
