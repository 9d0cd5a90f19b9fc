// SPDX-License-Identifier: BSD-2-Clause

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIsFrom(t *testing.T) {
	for line, want := range map[string]bool{
		"From a@b Sat Nov 28 10:00:00 2026": true, "From - Sat Nov 28 10:00 1999": true, "From a@b Sat Nov 28 10:00:00 +0200 2026": true,
		"From a@b Sat Nov 28 10:00:0 2026": false, "From a@b Sat Nov 28 10.00 2026": false, "From a@b Sat Nov 28 ab:cd 2026": false, "From a@b Sat Nov 28 10:00:000 2026": false,
		"From a@b Sat Nove 28 10:00 2026": false, "From a@b Sat ovD 28 10:00 2026": false, "From a@b Sat JanF 28 10:00 2026": false, "From a@b Sat Nov 28 10:00 2126": false, "From a@b Sat Nov 28 10:00 20xx": false,
		"From a@b Sat Nov 28 2026": false, "From:a@b Sat Nov 28 10:00:00 2026": false, "From ": false,
	} {
		if isFrom([]byte(line)) != want {
			t.Errorf("%q: %v", line, !want)
		}
	}
}

// TestTheCallersErrorEndsTheWalk, wherever the message stands.
func TestTheCallersErrorEndsTheWalk(t *testing.T) {
	dir := t.TempDir()
	box := write(t, from+"A: 1\n\n\n"+from+"A: 2\n\n", dir, "box")
	single := write(t, "A: 1\n\n", dir, "single")
	for _, f := range []string{"cur/1", "cur/2", "new/3"} {
		write(t, "A: 1\n\n", dir, "md", f)
	}
	write(t, "A: 1\n\n", dir, "mh", "1")
	write(t, "A: 1\n\n", dir, "mh", "2")
	ours := errors.New("ours")
	for _, paths := range [][]string{{box, box}, {single, box}, {filepath.Join(dir, "md"), box}, {filepath.Join(dir, "mh"), box}, {dir}} {
		count := 0
		err := Walk(context.Background(), paths, Options{Recurse: true}, func(*Message) error { count++; return ours })
		if !errors.Is(err, ours) || count != 1 {
			t.Errorf("%s: %v after %d messages", paths, err, count)
		}
	}
}

// TestWhatIsNoMessage: folders and links among messages are passed over, and what cannot be listed is
// named.
func TestWhatIsNoMessage(t *testing.T) {
	dir := t.TempDir()
	write(t, "A: 1\n\n", dir, "md", "new", "1")
	write(t, "A: no\n\n", dir, "md", "new", "folder", "2")
	if err := os.Symlink(filepath.Join(dir, "md", "new", "1"), filepath.Join(dir, "md", "new", "link")); err != nil {
		t.Fatal(err)
	}
	write(t, "a file", dir, "md", "cur")
	got, problems := read(t, Options{}, filepath.Join(dir, "md"))
	if len(got) != 1 || len(problems) != 1 || !strings.Contains(problems[0], "cur") {
		t.Errorf("%q, problems %q", got, problems)
	}
}

// TestContentLengths: one that leads nowhere does not count.
func TestContentLengths(t *testing.T) {
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	inner := from + "xyz\n"
	next := "\n" + from + "A: 2\n\n"
	for _, length := range []string{"5000", "99999999999", "-1", "x", "0"} {
		file := from + "Content-Length: " + length + "\n\none\n" + next
		if got, problems := read(t, Options{}, write(t, file, t.TempDir(), "box")); len(got) != 2 || len(problems) > 0 {
			t.Errorf("%s: %q, %q", length, got, problems)
		}
	}
	file := crlf(from + fmt.Sprintf("Content-Length: %d\n\n", len(crlf(inner))) + inner + next)
	if got, _ := read(t, Options{}, write(t, file, t.TempDir(), "box")); len(got) != 2 || !strings.HasSuffix(got[0], crlf(inner)) {
		t.Errorf("CRLF: %q", got)
	}
}

func TestProgress(t *testing.T) {
	file := strings.Repeat(from+"A: 1\n\n"+strings.Repeat("x", 1000)+"\n\n", 1000)
	seen := int64(0)
	got, _ := read(t, Options{Progress: func(_ string, octets int64) { seen = octets }}, write(t, file, t.TempDir(), "box"))
	if len(got) != 1000 || seen != int64(len(file)) {
		t.Errorf("%d messages, %d octets of %d", len(got), seen, len(file))
	}
}
