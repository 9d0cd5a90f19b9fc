// SPDX-License-Identifier: BSD-2-Clause

package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

func list(t testing.TB, data string, limits Limits) Listing {
	t.Helper()
	l, err := List(func() io.Reader { return strings.NewReader(data) }, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// show writes a listing in one line.
func show(l Listing) string {
	out := l.Kind
	for _, e := range l.Entries {
		out += " " + e.Name
		if e.Encrypted {
			out += "*"
		}
	}
	if l.Problem != "" {
		out += " (" + l.Problem + ")"
	}
	return out
}

// file is one file of an archive that a test makes.
type file struct {
	name, data string
	method     uint16
}

func zipped(t testing.TB, files ...file) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		out, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: f.method})
		if err == nil {
			_, err = io.WriteString(out, f.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// raw is a zip file whose files say their size before their data, as most programs write.
func raw(t testing.TB, files ...file) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		size := uint64(len(f.data))
		out, err := w.CreateRaw(&zip.FileHeader{Name: f.name, Method: f.method, CompressedSize64: size, UncompressedSize64: size})
		if err == nil {
			_, err = io.WriteString(out, f.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tarred(t testing.TB, files ...file) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o644})
		if err == nil {
			_, err = io.WriteString(w, f.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gzipped(t testing.TB, name, data string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	_, err := io.WriteString(w, data)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestList(t *testing.T) {
	const d = zip.Deflate
	two := []file{{"a/b.txt", "hello", d}, {"evil.exe", "MZ", d}}
	plain := zipped(t, two...)
	encrypted := strings.ReplaceAll(strings.ReplaceAll(plain, "PK\x03\x04\x14\x00\x08", "PK\x03\x04\x14\x00\x09"), "PK\x01\x02\x14\x00\x14\x00\x08", "PK\x01\x02\x14\x00\x14\x00\x09")
	central := strings.Index(plain, "PK\x01\x02")
	directoryLies := plain[:central] + strings.ReplaceAll(plain[central:], "evil.exe", "good.txt")
	tests := []struct{ name, data, want string }{
		{"nothing", "", ""},
		{"text", "PK is not a zip file", ""},
		{"zip", plain, "zip a/b.txt evil.exe"},
		{"empty zip", zipped(t), "zip"},
		{"a program in front", "MZ" + strings.Repeat("program PK ", 50_000) + plain, "zip a/b.txt evil.exe"},
		{"two zip files", plain + zipped(t, file{"c", "", d}), "zip a/b.txt evil.exe c"},
		{"cut off", plain[:central-1], "zip a/b.txt evil.exe (broken)"},
		{"only a directory", plain[central:], "zip a/b.txt evil.exe (differ)"},
		{"the directory lies", directoryLies, "zip a/b.txt evil.exe good.txt (differ)"},
		{"encrypted", encrypted, "zip a/b.txt* evil.exe*"},
		{"encrypted, says the directory", plain[:central] + encrypted[central:], "zip a/b.txt* evil.exe*"},
		{"zip in zip", zipped(t, file{"in.dat", plain, d}, file{"x", "y", d}), "zip in.dat x in.dat/a/b.txt in.dat/evil.exe"},
		{"stored in zip", raw(t, file{"in.zip", plain, 0}, file{"x", "y", 0}), "zip in.zip in.zip/a/b.txt in.zip/evil.exe x"},
		{"zip in zip in zip", zipped(t, file{"1", zipped(t, file{"2", plain, d}), d}), "zip 1 1/2"},
		{"a name in DOS's code page", strings.ReplaceAll(zipped(t, file{"r\x81d.exe", "", 0}), "\x00\x00\x08\x08", "\x00\x00\x08\x00"), "zip rüd.exe"},
		{"UTF-8", zipped(t, file{"rüd.exe", "", d}), "zip rüd.exe"},
		{"tar", tarred(t, two...), "tar a/b.txt evil.exe"},
		{"tar, cut off", tarred(t, two...)[:1100], "tar a/b.txt (broken)"},
		{"tar with a long name", tarred(t, file{strings.Repeat("n", 300), "", 0}), "tar " + strings.Repeat("n", 300)},
		{"tgz", gzipped(t, "x.tar", tarred(t, two...)), "gzip a/b.txt evil.exe"},
		{"gzip", gzipped(t, "evil.exe", "MZ"), "gzip evil.exe"},
		{"gzip without a name", gzipped(t, "", "MZ"), "gzip"},
		{"gzip, cut off", gzipped(t, "evil.exe", "MZ")[:20], "gzip evil.exe (broken)"},
		{"gzip, only the beginning", "\x1f\x8b\x08", "gzip (broken)"},
		{"bzip2 with a tar file", bzip2tar, "bzip2 a.txt"},
		{"7z", "7z\xbc\xaf\x27\x1c\x00", "7z (unsupported)"},
		{"rar", "Rar!\x1a\x07\x01\x00", "rar (unsupported)"},
		{"iso", strings.Repeat("\x00", 32769) + "CD001", "iso (unsupported)"},
	}
	for _, tt := range tests {
		if got := show(list(t, tt.data, Limits{})); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestHiddenNames: to some program, each of these has a file evil.exe in it.
func TestHiddenNames(t *testing.T) {
	one := func(name string) string { return zipped(t, file{name, "MZ", zip.Store}) }
	old := []byte(tarred(t, file{"evil.exe", "MZ", 0}))
	clear(old[257:512]) // before there was a magic word
	copy(old[148:156], "        ")
	sum := 0
	for _, c := range old[:512] {
		sum += int(c)
	}
	copy(old[148:156], fmt.Sprintf("%06o\x00 ", sum))
	for name, data := range map[string]string{
		"NUL": one("evil.exe\x00.txt"), "space": one("evil.exe "), "dots": one("dir/evil.exe..."), "stream": one("evil.exe:$DATA"), "unseen": one("evil.e\u200bxe"),
		"backwards": one("dir\\evil.exe"), "up": one("../../evil.exe"), "a long folder": one(strings.Repeat("folder/", 200) + "evil.exe"),
		"in a long folder": one(strings.Repeat("f", 600)) + one(strings.Repeat("g", 1100)+"/evil.exe"),
		"GNU and PAX":      tarred(t, file{strings.Repeat("folder/", 200) + "evil.exe", "MZ", 0}), "old tar": string(old),
		"a second member": gzipped(t, "", tarred(t, file{"evil.exe", "MZ", 0})[:1024]) + gzipped(t, "", strings.Repeat("\x00", 1024)),
		"text behind":     gzipped(t, "", tarred(t, file{"evil.exe", "MZ", 0})) + "garbage",
	} {
		l := list(t, data, Limits{})
		if !slices.ContainsFunc(l.Entries, func(e Entry) bool { return strings.HasSuffix(e.Name, "evil.exe") }) {
			t.Errorf("%s: %.200s", name, show(l))
		}
	}
}

// bzip2tar is "tar cj a.txt", of an empty file.
const bzip2tar = "\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\x66\xc4\x00\x84\x00\x00\x6c\xfb\x80\xc8\x80\x00\x40\x40\x01\x65\x00\x00\x08\x60\x00\x9e\x40\x02\x08\x20\x00\x54\x34\x9a\x68\x1a\x00\xc8\x22\xa6\x9a\x9a\x03\x46\x81\x83\x3f\x85\x08\xaa\x22\x6c\x64\x58\xb4\x9a\x51\x50\x80\xa4\x62\x3a\xac\xab\xcc\xa6\x63\xa5\x81\x9a\x13\xe1\x47\x45\xe5\xb6\x47\x83\xb3\xad\x48\x88\x0f\x8b\xb9\x22\x9c\x28\x48\x33\x62\x00\x42\x00"

func TestLimits(t *testing.T) {
	var many []file
	for i := range 50 {
		many = append(many, file{fmt.Sprint("f", i), "x", zip.Deflate})
	}
	for name, data := range map[string]string{"zip": zipped(t, many...), "tar": tarred(t, many...), "gzip": gzipped(t, "", tarred(t, many...))} {
		if l := list(t, data, Limits{Names: 10}); len(l.Entries) != 10 || l.Problem != "names" || l.Kind != name {
			t.Errorf("%s: %s", name, show(l))
		}
	}
	bomb := strings.Repeat("\x00", 4<<20)
	for name, data := range map[string]string{
		"zip in zip": zipped(t, file{"b", zipped(t, file{"c", "", 0}) + bomb, zip.Deflate}),
		"tgz":        gzipped(t, "", tarred(t, file{"a", bomb, 0}, file{"b", "", 0})),
		"long":       zipped(t, file{"a", bomb, zip.Store}, file{"b", "", 0}),
	} {
		if l := list(t, data, Limits{Bytes: 1 << 20, Unpacked: 1 << 20}); l.Problem != "bytes" || len(l.Entries) == 0 {
			t.Errorf("%s: %s", name, show(l))
		}
	}
}

// cpu is the time that the process has computed.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestHostileArchives holds that no archive costs much.
func TestHostileArchives(t *testing.T) {
	record := "PK\x03\x04" + strings.Repeat("\x00", 22) + "\xff\xff\xff\xff"
	central := "PK\x01\x02" + strings.Repeat("\x00", 24) + "\xff\xff\xff\xff" + strings.Repeat("\x00", 14)
	named := record[:26] + "\x04\x00\xff\xffnameupo\x05\x00"
	extended := header('S', "a", "00000000000", gnu)
	copy(extended[386:], strings.Repeat("0", 96)+"\x0100000000000\x00")
	deflate := record[:8] + "\x08" + record[9:]
	areas := "131072\n" + strings.Repeat("0\n0\n", 131072)
	sparse := pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=0") +
		block(header('0', "a", fmt.Sprintf("%011o", len(areas)), posix)) + areas + strings.Repeat("\x00", -len(areas)&511)
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err == nil {
		_, err = io.WriteString(w, "PK\x03\x04"+strings.Repeat("\x00", 1<<20))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	var bombs []file
	for i := range 100 {
		bombs = append(bombs, file{fmt.Sprint(i), packed.String(), zip.Deflate})
	}
	tests := map[string]string{
		"overlapping records":     strings.Repeat(record, 1<<16),
		"overlapping directories": strings.Repeat(central, 1<<16),
		"extra fields":            strings.Repeat(named+strings.Repeat("\x01\x00\x00\x00", 10), 1<<15),
		"zip64":                   strings.Repeat(local64("a", zip64(1<<62, 1<<62), "x"), 1<<15),
		"sparse maps":             strings.Repeat(sparse, 15),
		"sparse maps, old":        strings.Repeat(block(extended)+strings.Repeat(strings.Repeat("0", 504)+"\x01"+strings.Repeat("\x00", 7), 2000)+strings.Repeat("\x00", 512), 8),
		"PKPK":                    strings.Repeat("PK", 1<<20),
		"packed everywhere":       strings.Repeat(deflate+"names", 1<<16),
		"bombs":                   raw(t, bombs...),
		"gzip bomb":               gzipped(t, "", tarred(t, file{"a", strings.Repeat("\x00", 10<<20), 0})),
		"gzip in pieces":          strings.Repeat(gzipped(t, "", ""), 10_000),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpu(t)
			l := list(t, data, Limits{Bytes: 8 << 20, Unpacked: 8 << 20})
			took := cpu(t) - start
			runtime.ReadMemStats(&after)
			if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 128 {
				t.Errorf("%d MiB allocated", allocated)
			}
			if took > 5*time.Second { // a tenth of a second, and slow machines
				t.Errorf("%v of CPU for %d octets", took, len(data))
			}
			if len(l.Entries) > DefaultLimits().Names {
				t.Errorf("%d names", len(l.Entries))
			}
			t.Logf("%v, %d KiB allocated, %d KiB, %d names, %s", took, (after.TotalAlloc-before.TotalAlloc)>>10, len(data)>>10, len(l.Entries), l.Problem)
		})
	}
}

func TestErrorsOfReading(t *testing.T) {
	data := zipped(t, file{"a", "b", zip.Deflate})
	bad := errors.New("disk")
	for _, at := range []int{0, 10, len(data)} {
		_, err := List(func() io.Reader { return io.MultiReader(strings.NewReader(data[:at]), iotest.ErrReader(bad)) }, Limits{}, nil)
		if !errors.Is(err, bad) {
			t.Errorf("after %d octets: %v", at, err)
		}
	}
	times := 0
	_, err := List(func() io.Reader {
		if times++; times > 1 {
			return iotest.ErrReader(bad)
		}
		return strings.NewReader(data)
	}, Limits{}, nil)
	if !errors.Is(err, bad) {
		t.Errorf("the second time: %v", err)
	}
}

// TestListFindsWhatOthersFind compares with the standard library's reader.
func TestListFindsWhatOthersFind(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var files []file
		for range rapid.IntRange(0, 8).Draw(rt, "files") {
			files = append(files, file{rapid.StringMatching(`[a-zA-Zé€/ .]{0,20}[a-z]`).Draw(rt, "name"), rapid.String().Draw(rt, "data"),
				rapid.SampledFrom([]uint16{zip.Store, zip.Deflate}).Draw(rt, "method")})
		}
		data := rapid.StringN(0, 200, -1).Draw(rt, "front") + zipped(t, files...)
		r, err := zip.NewReader(strings.NewReader(data), int64(len(data)))
		if err != nil {
			rt.Fatal(err)
		}
		l, err := List(func() io.Reader { return iotest.HalfReader(strings.NewReader(data)) }, Limits{}, nil)
		if err != nil {
			rt.Fatal(err)
		}
		for _, f := range r.File {
			if !slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.Name == f.Name }) {
				rt.Fatalf("%q is not in %s", f.Name, show(l))
			}
		}
	})
}

func FuzzList(f *testing.F) {
	plain := zipped(f, file{"a", "b", zip.Deflate}, file{"c", "d", zip.Store})
	for _, seed := range []string{plain, zipped(f, file{"in", plain, zip.Deflate}), tarred(f, file{"a", "b", 0}), gzipped(f, "n", tarred(f, file{"a", "b", 0})), bzip2tar} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := List(func() io.Reader { return bytes.NewReader(data) }, Limits{Names: 20, Bytes: 1 << 20, Unpacked: 1 << 20}, nil)
		if err != nil || len(l.Entries) > 20 {
			t.Fatalf("%d entries, %v", len(l.Entries), err)
		}
		for _, e := range l.Entries {
			if len(e.Name) > 3*nameMax || strings.ToValidUTF8(e.Name, "") != e.Name {
				t.Fatalf("name %q", e.Name)
			}
		}
	})
}

func BenchmarkZip(b *testing.B) {
	data := zipped(b, file{"a", string(binary.LittleEndian.AppendUint64(nil, 1)) + strings.Repeat("some text ", 1<<20), zip.Store})
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		list(b, data, Limits{})
	}
}
