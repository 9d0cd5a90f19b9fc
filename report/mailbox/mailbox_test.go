// SPDX-License-Identifier: BSD-2-Clause

package mailbox

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// read gives everything that Walk delivers, as text, and the problems.
func read(t testing.TB, o Options, paths ...string) (got, problems []string) {
	t.Helper()
	o.Problem = func(file string, offset int64, err error) {
		problems = append(problems, fmt.Sprintf("%s:%d: %v", filepath.Base(file), offset, err))
	}
	err := Walk(context.Background(), paths, o, func(m *Message) error {
		if m.Index != len(got)+1 {
			t.Errorf("index %d for message %d", m.Index, len(got)+1)
		}
		got = append(got, string(m.Data))
		return nil
	})
	if err != nil && !errors.Is(err, ErrNothing) {
		t.Fatal(err)
	}
	return got, problems
}

func write(t testing.TB, data string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const from = "From ann@example.org Sat Nov 28 10:00:00 2026\n"

func TestMbox(t *testing.T) {
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	cr := func(s string) string { return strings.ReplaceAll(s, "\n", "\r") }
	two := from + "A: 1\n\none\n\n" + from + "A: 2\n\ntwo\n\n"
	tests := []struct {
		name, file string
		want       []string
	}{
		{"two", two, []string{"A: 1\n\none\n", "A: 2\n\ntwo\n"}},
		{"crlf", crlf(two), []string{"A: 1\r\n\r\none\r\n", "A: 2\r\n\r\ntwo\r\n"}},
		{"bare CR", cr(two), []string{"A: 1\r\rone\r", "A: 2\r\rtwo\r"}},
		{"empty lines first", "\n\n" + two, []string{"A: 1\n\none\n", "A: 2\n\ntwo\n"}},
		{"no empty line between", from + "A: 1\n\none\n" + from + "A: 2\n\ntwo\n", []string{"A: 1\n\none\n", "A: 2\n\ntwo\n"}},
		{"last without LF", from + "A: 1\n\none", []string{"A: 1\n\none"}},
		{"an empty message", from + "\n" + from + "A: 2\n\ntwo\n", []string{"\n", "A: 2\n\ntwo\n"}},
		{"mboxo", from + "A: 1\n\n>From here\n", []string{"A: 1\n\nFrom here\n"}},
		{"mboxrd", from + "A: 1\n\n>>From here\n> From\n>from x\n", []string{"A: 1\n\n>From here\n> From\n>from x\n"}},
		{"mboxrd with bare CR", cr(from + "A: 1\n\n>>From here\n> From\n>From there\n"), []string{"A: 1\r\r>From here\r> From\rFrom there\r"}},
		{"mboxrd with CRLF", crlf(from + "A: 1\n\n>>From here\n>From there\n"), []string{"A: 1\r\n\r\n>From here\r\nFrom there\r\n"}},
		{"text that begins with From", from + "A: 1\n\n\nFrom here on it rains at 10:00\n\n", []string{"A: 1\n\n\nFrom here on it rains at 10:00\n"}},
		{"mboxcl2", from + "Content-Length: 50\n\n" + from + "xyz\n\n" + from + "A: 2\n\n", []string{"Content-Length: 50\n\n" + from + "xyz\n", "A: 2\n\n"}},
		{"a wrong Content-Length", from + "Content-Length: 3\n\none\n\n" + from + "A: 2\n\ntwo\n", []string{"Content-Length: 3\n\none\n", "A: 2\n\ntwo\n"}},
		{"zones and no seconds", "From - Sat Nov 28 10:00 2026\nA: 1\n\nx\n\nFrom a@b Sat Nov 28 10:00:00 +0200 2026\nA: 2\n\ny\n",
			[]string{"A: 1\n\nx\n", "A: 2\n\ny\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := read(t, Options{}, write(t, tt.file, t.TempDir(), "box"))
			if len(problems) > 0 || strings.Join(got, "|") != strings.Join(tt.want, "|") {
				t.Errorf("got %q, want %q; problems %v", got, tt.want, problems)
			}
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			_, _ = z.Write([]byte(tt.file))
			_ = z.Close()
			if zipped, _ := read(t, Options{Stdin: &packed}, "-"); strings.Join(zipped, "|") != strings.Join(got, "|") {
				t.Errorf("compressed: %q", zipped)
			}
		})
	}
}

// TestLongMessages puts the From_ line at every place around the ends of what is read at once.
func TestLongMessages(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{chunk - 60, chunk - 10, chunk - 1, chunk, chunk + 1, chunk + 3000, 3*chunk - 7} {
		for shift := range 5 {
			body := strings.Repeat("x", n+shift) + "\n"
			got, problems := read(t, Options{}, write(t, from+"A: 1\n\n"+body+"\n"+from+"A: 2\n\ntwo\n", dir, "box"))
			if len(got) != 2 || got[0] != "A: 1\n\n"+body || len(problems) > 0 {
				t.Fatalf("%d: %d messages, problems %v", n+shift, len(got), problems)
			}
		}
	}
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	write(t, "A: c\n\n", dir, "md", "cur", "1.x:2,S")
	write(t, "A: n\n\n", dir, "md", "new", "2.x")
	write(t, "A: t\n\n", dir, "md", "tmp", "3.x")
	write(t, "A: s\n\n", dir, "md", ".Sub", "cur", "4.x")
	write(t, "", dir, "md", ".Sub", "new", ".hidden")
	write(t, "A: 2\n\n", dir, "mh", "2")
	write(t, "A: 10\n\n", dir, "mh", "10")
	write(t, "unseen: 2\n", dir, "mh", ".mh_sequences")
	write(t, "A: d\n\n", dir, "mh", "deeper", "1")
	write(t, from+"A: b\n\n", dir, "plain", "box")
	tests := []struct {
		path    string
		recurse bool
		want    string
	}{
		{"md", false, "c n"}, {"md", true, "c n s"}, {"mh", false, "2 10"}, {"mh", true, "2 10 d"}, {"plain", true, "b"}, {"plain", false, ""},
	}
	for _, tt := range tests {
		got, problems := read(t, Options{Recurse: tt.recurse}, filepath.Join(dir, tt.path))
		for i := range got {
			got[i] = strings.TrimSpace(strings.TrimPrefix(got[i], "A: "))
		}
		if s := strings.Join(got, " "); s != tt.want || (len(problems) > 0) != (tt.want == "") {
			t.Errorf("%s, recurse %t: %q, want %q; problems %v", tt.path, tt.recurse, s, tt.want, problems)
		}
	}
}

// TestDamage shows that what cannot be read is named and passed over.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for range 2000 {
		fmt.Fprintf(z, "%sA: %x\n\n%x\n\n", from, packed.Len(), packed.Len()*7919)
	}
	_ = z.Close()
	half := write(t, packed.String()[:packed.Len()/2], dir, "half.gz")
	bad := write(t, "\x1f\x8bxxxxxxxxxx", dir, "bad.gz")
	good := write(t, from+"A: 1\n\n", dir, "good")
	got, problems := read(t, Options{}, half, bad, filepath.Join(dir, "absent"), "-", good)
	if len(got) < 100 || got[len(got)-1] != "A: 1\n\n" || len(problems) != 4 {
		t.Errorf("%d messages, problems %q", len(got), problems)
	}
	err := Walk(context.Background(), []string{filepath.Join(dir, "absent")}, Options{}, func(*Message) error { return nil })
	if !errors.Is(err, ErrNothing) {
		t.Errorf("nothing to read: %v", err)
	}
}

func TestKeepIsABound(t *testing.T) {
	path := write(t, from+"A: 1\n\n"+strings.Repeat("0123456789\n", 100_000)+"\n"+from+"A: 2\n\n", t.TempDir(), "box")
	var sizes []int64
	err := Walk(context.Background(), []string{path}, Options{Keep: 1000}, func(m *Message) error {
		sizes = append(sizes, m.Size)
		if len(m.Data) > 1000 || m.Cut != (m.Size > 1000) {
			t.Errorf("%d octets held of %d, cut %t", len(m.Data), m.Size, m.Cut)
		}
		return nil
	})
	if err != nil || len(sizes) != 2 || sizes[0] != 1_100_006 || sizes[1] != 6 {
		t.Errorf("sizes %v, %v", sizes, err)
	}
}

func TestACancelledWalkEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	path := write(t, strings.Repeat(from+"A: 1\n\nx\n\n", 10), t.TempDir(), "box")
	n := 0
	err := Walk(ctx, []string{path}, Options{}, func(*Message) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%d messages, %v", n, err)
	}
}

// endless is an mbox of n octets, made while it is read.
type endless struct {
	block []byte
	left  int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, errors.New("EOF")
	}
	n := copy(p, e.block[int(e.left)%len(e.block):])
	e.left -= int64(n)
	return n, nil
}

// TestMemoryIsBounded reads 256 MB with a line of 64 MB and no end in sight.
func TestMemoryIsBounded(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	long := &endless{block: bytes.Repeat([]byte("x"), 64<<10), left: 256 << 20}
	n, size := 0, int64(0)
	in := Options{Stdin: struct{ *endless }{long}, Keep: 1 << 20, Problem: func(string, int64, error) {}}
	if err := Walk(context.Background(), []string{"-"}, in, func(m *Message) error { n++; size = m.Size; return nil }); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; n != 1 || size < 256<<20 || got > 16<<20 {
		t.Errorf("%d messages of %d octets took %d octets of memory", n, size, got)
	}
}

// TestWire: the size on the wire does not depend on how lines end in the file, nor on where the
// reader's windows end.
func TestWire(t *testing.T) {
	for _, length := range []int{10, 200_000, 262_143, 262_144, 262_145, 600_001} {
		text := "A: 1\n\n" + strings.Repeat("x", length%97) + "\n" + strings.Repeat("ab\n", length/3)
		want := int64(len(strings.ReplaceAll(text, "\n", "\r\n")))
		for name, end := range map[string]string{"LF": "\n", "CRLF": "\r\n", "CR": "\r"} {
			file := strings.ReplaceAll(from+text+"\n"+from+"B: 2\n\nz\n", "\n", end)
			var got []int64
			err := Walk(context.Background(), []string{"-"}, Options{Wire: true, Stdin: strings.NewReader(file)}, func(m *Message) error {
				got = append(got, m.Wire)
				return nil
			})
			if err != nil || len(got) != 2 || got[0] != want || got[1] != 11 {
				t.Errorf("%d octets with %s: %d on the wire, want %d and 11; %v", length, name, got, want, err)
			}
			if n := WireSize([]byte(strings.ReplaceAll(text, "\n", end))); n != want {
				t.Errorf("%d octets with %s: WireSize %d, want %d", length, name, n, want)
			}
		}
	}
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct{ in, header, body string }{
		{"A: 1\n\nx", "A: 1\n\n", "x"}, {"A: 1\r\n\r\nx", "A: 1\r\n\r\n", "x"}, {"A: 1\r\rx", "A: 1\r\r", "x"},
		{"A: 1\n\r\nx", "A: 1\n\r\n", "x"}, {"A: 1", "A: 1", ""}, {"\nx", "\n", "x"}, {"", "", ""}, {"A: 1\r\n", "A: 1\r\n", ""},
	} {
		if h, b := Split([]byte(tt.in)); string(h) != tt.header || string(b) != tt.body {
			t.Errorf("%q: %q and %q", tt.in, h, b)
		}
	}
}

// FuzzWalk: whatever the file holds, the messages are in it, in order, and nothing ends the
// process.
func FuzzWalk(f *testing.F) {
	f.Add([]byte(from+"A: 1\n\none\n\n"+from), 10)
	f.Add([]byte("\r\n"+from+"Content-Length: 1\n\n>From x"), 0)
	f.Add([]byte("\x1f\x8b\x08"), 3)
	f.Fuzz(func(t *testing.T, data []byte, keep int) {
		total := int64(0)
		err := Walk(context.Background(), []string{"-"}, Options{Stdin: bytes.NewReader(data), Keep: keep % 1000}, func(m *Message) error {
			total += m.Size
			if m.Offset < 0 || m.Size < int64(len(m.Data)) {
				t.Errorf("%+v", m)
			}
			return nil
		})
		if err != nil || (total > int64(len(data)) && !bytes.HasPrefix(data, []byte{0x1f, 0x8b})) {
			t.Errorf("%d octets of %d, %v", total, len(data), err)
		}
	})
}

func BenchmarkWalk(b *testing.B) {
	message := from + "From: a@b.example\nSubject: hello\n\n" + strings.Repeat(strings.Repeat("words and ", 7)+"\n", 40) + "\n"
	data := []byte(strings.Repeat(message, 3000))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_ = Walk(context.Background(), []string{"-"}, Options{Stdin: bytes.NewReader(data)}, func(*Message) error { return nil })
	}
}
