// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/kit/testkit"
)

// box makes a Maildir with messages of 100 octets each, whose names say so.
func box(t testing.TB, dir string, messages int) {
	t.Helper()
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range messages {
		put(t, filepath.Join(dir, "cur", fmt.Sprintf("%d.lab,S=100:2,S", i)), "")
	}
}

// age sets the modification time of a file or folder back.
func age(t testing.TB, name string, d time.Duration) {
	t.Helper()
	at := time.Now().Add(-d)
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestParseQuotaFile(t *testing.T) {
	t.Parallel()
	const head = "1000S,10C\n"
	limits := total{1000, 10}
	for _, c := range []struct {
		name, text string
		want       quotaSums
	}{
		{"two lines", head + "          100           1\n         -50           0\n", quotaSums{limits, total{50, 1}, 2, true}},
		{"last line is being written", head + "100 1\n200", quotaSums{limits, total{100, 1}, 1, true}},
		{"only line is being written", head + "100 1", quotaSums{limits, total{}, 0, false}},
		{"no lines", head, quotaSums{limits, total{}, 0, false}},
		{"negative sum", head + "100 1\n-200 -1\n", quotaSums{limits, total{-100, 0}, 2, false}},
		{"negative messages", head + "100 1\n0 -2\n", quotaSums{limits, total{100, -1}, 2, false}},
		{"a word", head + "100 one\n", quotaSums{limits, total{}, 0, false}},
		{"three words", head + "100 1 1\n", quotaSums{limits, total{}, 0, false}},
		{"an empty line", head + "100 1\n\n", quotaSums{limits, total{100, 1}, 1, false}},
		{"too large a number", head + "9999999999999999999 1\n", quotaSums{limits, total{}, 0, false}},
		{"NUL", head + "100 1\n\x00\n", quotaSums{}},
		{"empty", "", quotaSums{}},
		{"no line end", "1000S", quotaSums{}},
		{"other order, unknown letter", "5C,7X,99S\n1 1\n", quotaSums{total{99, 5}, total{1, 1}, 1, true}},
		{"no limits", "\n1 1\n", quotaSums{total{}, total{1, 1}, 1, true}},
		{"limits of 0", "0S,0C\n1 1\n", quotaSums{total{}, total{1, 1}, 1, true}},
		{"bad limit", "xS\n1 1\n", quotaSums{}},
		{"negative limit", "-1S\n1 1\n", quotaSums{}},
		{"5,119 octets", head + strings.Repeat("1 1\n", (5119-len(head))/4), quotaSums{limits, total{1277, 1277}, 1277, true}},
		{"5,120 octets", head + strings.Repeat("1 1\n", (5120-len(head))/4) + "1 "[:(5120-len(head))%4], quotaSums{limits, total{}, 0, false}},
	} {
		if got := parseQuotaFile([]byte(c.text)); got != c.want {
			t.Errorf("%s (%d octets): %+v, want %+v", c.name, len(c.text), got, c.want)
		}
	}
}

// What the file says is believed, or the Maildir is counted, and the file stays as it is.
func TestMaildirsize(t *testing.T) {
	t.Parallel()
	// The Maildir holds five messages of 100 octets.
	for _, c := range []struct {
		name, file string
		old        time.Duration
		config     string
		state      wire.State
		used, hard int64
	}{
		{"believed", "1000S\n300 3\n", time.Hour, "", wire.Room, 300, 1000},
		{"believed although many lines", "1000S\n300 3\n100 1\n-50 0\n", time.Hour, "", wire.Room, 350, 1000},
		{"5,120 octets: counted", "1000S\n" + strings.Repeat("          1            1\n", 230), 0, "", wire.Room, 500, 1000},
		{"cut short: the last line does not count", "1000S\n300 3\n900 1", 0, "", wire.Room, 300, 1000},
		{"negative: counted", "1000S\n-5 3\n", 0, "", wire.Room, 500, 1000},
		{"unparsable: counted", "1000S\nfive 3\n", 0, "", wire.Room, 500, 1000},
		{"NUL: counted, limit not believed", "1000S\n5 3\x00\n", 0, `limit = "2000"`, wire.Room, 500, 2000},
		{"missing: counted", "", 0, `limit = "2000"`, wire.Room, 500, 2000},
		{"over, one line, young: believed", "1000S\n1100 3\n", time.Minute, "", wire.Full, 1100, 1000},
		{"over, two lines: counted", "1000S\n1100 3\n1 0\n", time.Minute, "", wire.Room, 500, 1000},
		{"over, old: counted", "1000S\n1100 3\n", 16 * time.Minute, "", wire.Room, 500, 1000},
		{"over by count, old: counted", "4C\n10 4\n", 16 * time.Minute, "", wire.Full, 500, 0},
		{"over, old, and it is", "400S\n1100 3\n", 16 * time.Minute, "", wire.Full, 500, 400},
		{"limit of the file wins", "1000S\n300 3\n", 0, `limit = "2000"`, wire.Room, 300, 1000},
		{"limit of the configuration wins", "1000S\n300 3\n", 0, "limit = \"2000\"\noverride = true", wire.Room, 300, 2000},
		{"no limit in the file", "0S\n300 3\n", 0, `limit = "2000"`, wire.Room, 300, 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			dir, name := filepath.Join(root, "example.org/ann"), filepath.Join(root, "example.org/ann/maildirsize")
			box(t, dir, 5)
			if c.file != "" {
				put(t, name, c.file)
				age(t, name, c.old)
			}
			a, _, _ := open(t, section("maildirsize", root, root+"/{domain}/{local}", c.config))
			says(t, one(a, "ann@example.org"), c.state, c.used, c.hard)
			if text, _ := os.ReadFile(name); string(text) != c.file {
				t.Errorf("the file was written: %q", text)
			}
			says(t, one(a, "bob@example.org"), wire.Unknown, -1, -1)
		})
	}
}

// A stray file with a dot in front is not a folder; a folder that cannot be read is an error
// of this mailbox only; a file that is a pipe holds nobody up.
func TestStrayFilesInMaildir(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, user := range []string{"ann", "bob", "carl", "dora"} {
		box(t, filepath.Join(root, user), 2)
	}
	put(t, filepath.Join(root, "ann/.dovecot.sieve"), "keep;")
	put(t, filepath.Join(root, "ann/dovecot.index"), "x")
	put(t, filepath.Join(root, "ann/.empty/maildirfolder"), "")
	put(t, filepath.Join(root, "ann/cur/.nfs0001"), "hidden")
	put(t, filepath.Join(root, "bob/.Sent/cur"), "not a folder")
	if err := syscall.Mkfifo(filepath.Join(root, "carl/maildirsize"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(root, "dora/.Shared")); err != nil {
		t.Fatal(err)
	}
	a, _, _ := open(t, section("maildirsize", root, "{local}", ""))
	says(t, one(a, "ann"), wire.Room, 200, wire.NotKnown)
	if got := one(a, "bob"); got.State != wire.Error {
		t.Errorf("%+v", got)
	}
	says(t, one(a, "carl"), wire.Room, 200, wire.NotKnown)
	says(t, one(a, "dora"), wire.Room, 200, wire.NotKnown)
	put(t, filepath.Join(root, "quotas.txt"), "not a mailbox")
	says(t, one(a, "quotas.txt"), wire.Unknown, -1, -1)
}

func TestMaildirFolders(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	ann := filepath.Join(root, "ann")
	box(t, ann, 2)
	put(t, filepath.Join(ann, "new/1.lab"), strings.Repeat("x", 33)) // no size in its name
	put(t, filepath.Join(ann, "new/2.lab,S=x,S=7"), "four")          // nor here
	put(t, filepath.Join(ann, "new/3.lab,S=50,W=60"), "")
	put(t, filepath.Join(ann, ".Sent/cur/1.lab,S=1000:2,S"), "")
	put(t, filepath.Join(ann, ".Trash/cur/1.lab,S=5000:2,S"), "")
	put(t, filepath.Join(ann, ".Trash.old/cur/1.lab,S=5000:2,S"), "")
	put(t, filepath.Join(ann, ".Sent/maildirfolder"), "")
	put(t, filepath.Join(ann, "tmp/9.lab,S=9999"), "")
	a, _, _ := open(t, section("maildir", root, "{local}", `limit = "1TB"`))
	says(t, one(a, "ann"), wire.Room, 200+33+4+50+1000, 1<<40)
	a, _, _ = open(t, section("maildir", root, "{local}", `ignore = []`))
	says(t, one(a, "ann"), wire.Room, 200+33+4+50+1000+10000, wire.NotKnown)
	a, _, _ = open(t, section("maildir", root, "{local}/.Sent", ""))
	says(t, one(a, "ann"), wire.Room, 200+33+4+50+1000, wire.NotKnown) // a folder leads to its Maildir
}

// A Maildir is counted once and then followed: of what does not change nothing is read again,
// sizes are asked from the file system once.
func TestMaildirIsFollowed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	ann, cur, fresh := filepath.Join(root, "ann"), filepath.Join(root, "ann/cur"), filepath.Join(root, "ann/new")
	box(t, ann, 1000)
	for i := range 500 { // without a size in the name
		put(t, filepath.Join(cur, fmt.Sprintf("%d.old:2,", i)), "1234567890")
	}
	a, at, _ := open(t, section("maildir", root, "{local}", ""))
	ask := func(names, stats uint64, used int64) {
		t.Helper()
		at.add(2 * keepFor)
		n, s := a.counts.scanned.Load(), a.counts.stats.Load()
		says(t, one(a, "ann"), wire.Room, used, wire.NotKnown)
		if n, s = a.counts.scanned.Load()-n, a.counts.stats.Load()-s; n != names || s != stats {
			t.Errorf("%d names were read and %d sizes asked, want %d and %d", n, s, names, stats)
		}
	}
	age(t, cur, time.Minute)
	age(t, fresh, time.Minute)
	ask(1500, 500, 105000)
	ask(0, 0, 105000)

	put(t, filepath.Join(fresh, "1.lab,S=50"), "") // a message comes: cur is not read
	age(t, fresh, 50*time.Second)
	ask(1, 0, 105050)
	ask(0, 0, 105050)

	// It is read, and another loses its flag: names are read, sizes are known.
	for from, to := range map[string]string{filepath.Join(fresh, "1.lab,S=50"): filepath.Join(cur, "1.lab,S=50:2,S"), filepath.Join(cur, "7.old:2,"): filepath.Join(cur, "7.old:2,S")} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	age(t, cur, 40*time.Second)
	age(t, fresh, 40*time.Second)
	ask(1501, 0, 105050)
	ask(0, 0, 105050)
	if err := os.Remove(filepath.Join(cur, "7.old:2,S")); err != nil {
		t.Fatal(err)
	}
	age(t, cur, 30*time.Second)
	ask(1500, 0, 105040)

	// A folder that has just changed may change again within a tick of its clock.
	age(t, cur, -time.Minute) // in the future of the agent's clock
	ask(1500, 0, 105040)
	ask(1500, 0, 105040)
}

// A large Maildir (of 100,000 messages in a long run) is counted once, then followed: a message
// that arrives is one name to read.
func TestLargeMaildirIsCountedOnce(t *testing.T) {
	t.Parallel()
	root, n := t.TempDir(), testkit.Rounds(5_000, 100_000)
	box(t, filepath.Join(root, "ann"), n)
	fresh := filepath.Join(root, "ann/new")
	age(t, filepath.Join(root, "ann/cur"), time.Minute)
	age(t, fresh, time.Minute)
	a, at, _ := open(t, section("maildir", root, "{local}", ""))
	for i, c := range []struct{ names, used int64 }{{int64(n), 100 * int64(n)}, {0, 100 * int64(n)}, {1, 100*int64(n) + 50}, {0, 100*int64(n) + 50}} {
		if c.names == 1 {
			put(t, filepath.Join(fresh, "1.lab,S=50"), "")
			age(t, fresh, 50*time.Second)
		}
		before := a.counts.scanned.Load()
		at.add(keepFor)
		says(t, one(a, "ann"), wire.Room, c.used, wire.NotKnown)
		if n := a.counts.scanned.Load() - before; n != uint64(c.names) {
			t.Errorf("question %d: %d names were read, want %d", i, n, c.names)
		}
	}
}

// A folder's cache is bounded, and forgets what was not asked for longest.
func TestDirCache(t *testing.T) {
	t.Parallel()
	c := newDirCache(10 * 256)
	for i := range 1000 {
		c.put(fmt.Sprint(i), &dirEntry{})
		if c.get("0") == nil {
			t.Fatalf("what is in use was dropped at %d", i)
		}
	}
	if n := len(c.young) + len(c.old); n > 22 {
		t.Errorf("%d folders are kept", n)
	}
	if c.get("1") != nil {
		t.Error("what is not in use is kept")
	}
}

func FuzzMaildirsize(f *testing.F) {
	f.Add([]byte("10000000S,1000C\n        100           1\n        -50           0\n"))
	f.Add([]byte("5C,7X,99S\n1 1\n2"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := parseQuotaFile(text)
		if got.limits.octets < 0 || got.limits.messages < 0 || (got.good && (got.sum.octets < 0 || got.sum.messages < 0 || len(text) >= maxQuotaFile)) {
			t.Fatalf("%q: %+v", text, got)
		}
	})
}

func FuzzList(f *testing.F) {
	f.Add([]byte(csv))
	f.Add([]byte("# octets\nann 10 20\nbob@example.org 30 20 15\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		users, err := parseList(text, true)
		for user, a := range users {
			if err != nil || a.Used < 0 || a.Hard < 0 || a.State != wire.Room {
				t.Fatalf("%q: %+v, %v", user, a, err)
			}
		}
	})
}
