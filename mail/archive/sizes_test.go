// SPDX-License-Identifier: BSD-2-Clause

package archive

import (
	"archive/tar"
	"archive/zip"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sample reads an archive that a real program made: "zip -fz -0" of a zip file and a text, and
// "tar -S" in its four formats of a file of 5 GiB with 2 octets in it, and a text.
func sample(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// local64 is a file in a zip file, stored, with the extra fields given, and its sizes left to them.
func local64(name, extra, data string) string {
	le := binary.LittleEndian
	head := le.AppendUint16([]byte("PK\x03\x04\x2d\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), uint16(len(name)))
	return string(le.AppendUint16(head, uint16(len(extra)))) + name + extra + data
}

// zip64 is the extra field with sizes (APPNOTE.TXT 4.5.3).
func zip64(sizes ...uint64) string {
	le := binary.LittleEndian
	out := le.AppendUint16([]byte{1, 0}, uint16(8*len(sizes)))
	for _, s := range sizes {
		out = le.AppendUint64(out, s)
	}
	return string(out)
}

// header is a header of tar with a checksum that is right. Size is in octal, or in base 256.
func header(kind byte, name, size, magic string) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:136], size)
	copy(h[136:], "00000000000\x00        ")
	h[156] = kind
	copy(h[257:], magic)
	return h
}

// block is a header with its checksum.
func block(h []byte) string {
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return string(h)
}

const (
	posix = "ustar\x0000"
	gnu   = "ustar  \x00"
)

// pax is an extended header of kind 'x' or 'g' with records "key=value".
func pax(kind byte, records ...string) string {
	body := ""
	for _, r := range records {
		n := len(r) + 3
		for n != len(fmt.Sprintf("%d %s\n", n, r)) {
			n++
		}
		body += fmt.Sprintf("%d %s\n", n, r)
	}
	return block(header(kind, "pax", fmt.Sprintf("%011o", len(body)), posix)) + body + strings.Repeat("\x00", -len(body)&511)
}

func TestSizes(t *testing.T) {
	const none = math.MaxUint64
	bare := func(name string) string { return block(header('0', name, "00000000000", posix)) }
	tests := []struct{ name, data, want string }{
		{"zip64 by zip", sample(t, "zip64.zip"), "zip inner.zip=121 inner.zip/evil.exe=7 b.txt=1"},
		{"zip64, cut off", sample(t, "zip64.zip")[:236], "zip inner.zip=121 inner.zip/evil.exe=7 b.txt=1 (differ)"},
		{"sizes behind the data", zipped(t, file{"a", "hello", zip.Deflate}), "zip a=5"},
		{"sizes before the data", raw(t, file{"a", "hello", zip.Store}), "zip a=5"},
		{"the directory says more", raw(t, file{"a", "hello", zip.Store})[:36] + strings.Replace(raw(t, file{"a", "hello", zip.Store})[36:], "\x05\x00\x00\x00\x05", "\x05\x00\x00\x00\x09", 1), "zip a=9"},
		{"large", local64("a", zip64(1<<40, 1<<39), ""), "zip a=1099511627776 (broken)"},
		{"larger than there is", local64("a", zip64(none, 1), "x"), "zip a=-1 (broken)"},
		{"stored without end", local64("a", zip64(1, none), "x") + local64("b", zip64(1, 1<<63-1), "y") + local64("c", zip64(1, 1), "z"), "zip a=1 b=1 b/c=1 (broken)"},
		{"stored to the last octet", local64("a", zip64(1, math.MaxInt64-1000), "x") + local64("b", zip64(1, 1), "y"), "zip a=1 a/b=1 (broken)"},
		{"stored beyond the last octet", local64("a", zip64(1, math.MaxInt64), "x") + local64("b", zip64(1, 1), "y"), "zip a=1 a/b=1 (broken)"},
		{"without the extra field", local64("a", "", "x"), "zip a=-1 (broken)"},
		{"half an extra field", local64("a", zip64(1, 1)[:9], "x"), "zip a=-1 (broken)"},
		{"one size of two", local64("a", zip64(7), "x") + local64("b", zip64(1, 1), "x"), "zip a=7 b=1 (broken)"},
		{"behind other fields", local64("a", "\xca\xfe\x01\x00x"+zip64(7, 7)+"\x75\x70\x06\x00\x01\x00\x00\x00\x00u", "x"), "zip a=7 u=7 (broken)"},
		{"the first of two", local64("a", zip64(7, 7)+zip64(8, 8), "x"), "zip a=7 (broken)"},

		{"sparse 0.0", sample(t, "sparse-0.0.tgz"), "gzip sparse.exe=5368709120 b.txt=1"},
		{"sparse 0.1", sample(t, "sparse-0.1.tgz"), "gzip sparse.exe=5368709120 b.txt=1"},
		{"sparse 1.0", sample(t, "sparse-1.0.tgz"), "gzip sparse.exe=5368709120 b.txt=1"},
		{"sparse, old", sample(t, "sparse-gnu.tgz"), "gzip sparse.exe=5368709120 b.txt=1"},
		{"a size of its own", pax('x', "size=3") + bare("a") + "abc" + strings.Repeat("\x00", 509) + bare("b"), "tar a=3 b=0"},
		{"a directory of negative size", block(header('5', "d/", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", gnu)) + bare("b"), "tar d/=-1 d=-1 b=0"},
		{"a file of negative size", bare("b") + block(header('0', "a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", gnu)), "tar b=0 (broken)"},
		{"larger than tar can", bare("b") + block(header('0', "a", "\xff\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", gnu)), "tar b=0 (broken)"},
		{"larger than there is", block(header('0', "a", "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", gnu)) + bare("b"), "tar a=9223372036854775807 (broken)"},
		{"sparse, negative", bare("b") + pax('x', "GNU.sparse.map=0,1", "GNU.sparse.size=-5") + bare("a"), "tar b=0 (broken)"},
		{"sparse, areas behind the end", bare("b") + pax('x', "GNU.sparse.map=9223372036854775807,9", "GNU.sparse.size=5") + bare("a"), "tar b=0 (broken)"},
		{"sparse, a map without end", bare("b") + pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=5") +
			block(header('0', "a", "00000002000", posix)) + strings.Repeat("9", 1024) + bare("c"), "tar b=0 (broken)"},
		{"sparse, one name of two", pax('x', "path=evil.exe", "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=good.txt", "GNU.sparse.realsize=0") +
			block(header('0', "a", "00000001000", posix)) + "0\n" + strings.Repeat("\x00", 510) + bare("b"), "tar good.txt=0 evil.exe=0 b=0"},
		{"sparse, to some programs", pax('x', "GNU.sparse.name=evil.exe") + bare("good.txt"), "tar good.txt=0 evil.exe=0"},
		{"names for all", pax('g', "comment=x") + bare("a") + pax('g', "path=evil.exe") + bare("b"), "tar a=0 evil.exe=-1 b=0"},
	}
	for _, tt := range tests {
		l := list(t, tt.data, Limits{})
		got := l.Kind
		for _, e := range l.Entries {
			got += fmt.Sprintf(" %s=%d", e.Name, e.Size)
		}
		if l.Problem != "" {
			got += " (" + l.Problem + ")"
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestSizesAreTheWriters compares with what the standard library writes for large files.
func TestSizesAreTheWriters(t *testing.T) {
	var b strings.Builder
	w := tar.NewWriter(&b)
	sizes := []int64{0, 1, 1 << 33, 1 << 40, math.MaxInt64}
	var data string
	for _, size := range sizes {
		b.Reset()
		if err := w.WriteHeader(&tar.Header{Name: "a", Size: size, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		data = b.String()
		if l := list(t, data, Limits{}); !slices.Equal(l.Entries, []Entry{{Name: "a", Size: size}}) {
			t.Errorf("tar, %d: %v", size, l)
		}
		w = tar.NewWriter(&b)
		b.Reset()
		z := zip.NewWriter(&b)
		_, err := z.CreateRaw(&zip.FileHeader{Name: "a", Method: zip.Deflate, CompressedSize64: 9, UncompressedSize64: uint64(size)})
		if err == nil {
			err = z.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if l := list(t, b.String(), Limits{}); !slices.Equal(l.Entries, []Entry{{Name: "a", Size: size}}) {
			t.Errorf("zip, %d: %v", size, l)
		}
		w = tar.NewWriter(&b)
	}
}
