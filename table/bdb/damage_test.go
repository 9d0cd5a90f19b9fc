// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/table"
	"rcptgate/table/bdb"
	"rcptgate/table/tabletest"
)

// countingFile counts what is read from it.
type countingFile struct {
	data   []byte
	octets int
}

func (f *countingFile) ReadAt(b []byte, at int64) (int, error) {
	f.octets += len(b)
	return bytes.NewReader(f.data).ReadAt(b, at)
}

// hostile scans data and fails if the work or the memory is not bounded by it, or
// an error is of no kind that the contract knows.
func hostile(t *testing.T, data []byte) ([]pair, error) {
	t.Helper()
	file := &countingFile{data: data}
	var all []pair
	count := 0
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := bdb.New().Scan(context.Background(), file, int64(len(data)), func(k, v []byte) error {
		if count++; count <= 4096 {
			all = append(all, pair{string(k), string(v)})
		}
		return nil
	})
	runtime.ReadMemStats(&after)
	kept := 0
	for _, p := range all {
		kept += len(p.key) + len(p.value) + 2*64
	}
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(8*len(data)+4*kept+256<<10); got > limit {
		t.Fatalf("%d octets allocated for a file of %d", got, len(data))
	}
	if file.octets > len(data)+4096 {
		t.Fatalf("%d octets read of a file of %d", file.octets, len(data))
	}
	if count > len(data) {
		t.Fatalf("%d pairs from a file of %d octets", count, len(data))
	}
	var damaged *table.FormatError
	if err != nil && !errors.As(err, &damaged) {
		t.Fatalf("%v is no FormatError", err)
	}
	return all, err
}

// TestDamage damages each page of each sample. What can be known to be wrong must
// be an error: a zeroed or exchanged page, a truncated file, and any change in a
// file with checksums.
func TestDamage(t *testing.T) {
	for _, s := range samples {
		// With a fill factor any bucket may be empty: see nothingLost.
		t.Run(s.name, func(t *testing.T) { damaged(t, mustRead(t, sampleFile(s.name)), s.name != "hash-fill") })
	}
}

// TestDamageOfEveryPageSize makes files of a dozen pages and more, for TestDamage's damage: of the least page
// size and of the MTAs', and of every one with RCPTGATE_TABLE_BIG=1.
func TestDamageOfEveryPageSize(t *testing.T) {
	for size := 512; size <= 65536; size *= 2 {
		if !tabletest.Big() && size != 512 && size != 4096 {
			continue
		}
		for _, header := range []string{
			"type=hash", "type=hash chksum=1 db_lorder=4321", "type=hash duplicates=1 dupsort=1", "type=btree", "type=btree chksum=1", "type=btree db_lorder=4321 duplicates=1",
		} {
			t.Run(fmt.Sprintf("%d %s", size, header), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(size), uint64(len(header))))
				var pairs []pair
				for i := range 40 {
					pairs = append(pairs, pair{fmt.Sprintf("name%03d", i), octets(r, size/8)})
				}
				pairs = append(pairs, pair{"long", octets(r, 3*size)}, pair{"other" + octets(r, size/2), "long key"})
				if strings.Contains(header, "duplicates") {
					for i := range 40 {
						pairs = append(pairs, pair{"list", fmt.Sprintf("%03d", (i*37)%40) + octets(r, size/16)})
					}
				}
				name := filepath.Join(testkit.Dir(t), "x.db")
				load(t, name, append(strings.Fields(header), fmt.Sprintf("db_pagesize=%d", size)), pairs)
				data := mustRead(t, name)
				if pageSizeOf(data) != size || len(data) < 10*size {
					t.Fatalf("%d octets in pages of %d", len(data), pageSizeOf(data))
				}
				damaged(t, data, true)
			})
		}
	}
}

// damaged zeroes, cuts off, exchanges and garbles each page; zeros tells whether a zeroed page must show.
func damaged(t *testing.T, data []byte, zeros bool) {
	t.Helper()
	want, err := scanned(data)
	if err != nil {
		t.Fatal(err)
	}
	ps := pageSizeOf(data)
	right := func(what string, page int, broken []byte) {
		t.Helper()
		if got, err := hostile(t, broken); err == nil && !slices.Equal(got, want) {
			t.Errorf("%s page %d of %d goes unnoticed", what, page, len(data)/ps)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for page := range len(data) / ps {
		broken := slices.Clone(data)
		clear(broken[page*ps : (page+1)*ps])
		if zeros {
			right("zeroing", page, broken)
		} else {
			_, _ = hostile(t, broken) // it fails the test itself
		}
		for _, more := range []int{0, 100} {
			if _, err := hostile(t, data[:page*ps+more]); err == nil {
				t.Errorf("truncation %d octets into page %d goes unnoticed", more, page)
			}
		}
		other := r.IntN(len(data) / ps)
		broken = slices.Clone(data)
		copy(broken[page*ps:(page+1)*ps], data[other*ps:(other+1)*ps])
		right("exchanging", page, broken)
		garbled(t, data, page, ps, right)
	}
}

// garbled changes octets of one page at random. Without checksums a changed value
// is as good as the old one; it must only do no harm.
func garbled(t *testing.T, data []byte, page, ps int, right func(string, int, []byte)) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, uint64(page)))
	checksums := data[26]&1 != 0
	for _, changes := range []int{1, 1, 1, 1, 4, ps} {
		broken := slices.Clone(data)
		for range changes {
			broken[page*ps+r.IntN(ps)] = byte(r.Uint32())
		}
		for range changes { // headers are worth more
			broken[page*ps+r.IntN(min(ps, 128))] ^= 1 << r.IntN(8)
		}
		if checksums && page > 0 {
			right("garbling", page, broken)
		} else {
			_, _ = hostile(t, broken) // it fails the test itself
		}
	}
}

func pageSizeOf(data []byte) int {
	if n := binary.LittleEndian.Uint32(data[20:]); n >= 512 && n <= 65536 {
		return int(n)
	}
	return int(binary.BigEndian.Uint32(data[20:]))
}

// TestRefused patches single fields of a meta page.
func TestRefused(t *testing.T) {
	put := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	for _, c := range []struct {
		name   string
		sample string
		patch  func([]byte)
		want   string
	}{
		{"queue", "btree", put(12, 0x042253), "a queue file"},
		{"heap", "btree", put(12, 0x074582), "a heap file"},
		{"text", "btree", put(12, 0x0a0a0a0a), "no known magic number"},
		{"1.85", "btree", func(b []byte) { put(12, 0)(b); put(0, 0x053162)(b) }, "Berkeley DB 1.85"},
		{"too old", "hash", put(16, 6), "hash version 6 is too old"},
		{"too new", "btree", put(16, 11), "btree version 11 is unknown"},
		{"page size", "hash", put(20, 1000), "page size 1000"},
		{"encrypted", "hash", func(b []byte) { b[24] = 1 }, "the file is encrypted"},
		{"meta type", "hash", func(b []byte) { b[25] = 9 }, "the meta page has type 9"},
		{"partitioned", "btree", func(b []byte) { b[26] = 2 }, "partitioned"},
		{"recno", "btree", put(48, 2), "a recno file"},
		{"several", "btree", put(48, 0x20), "several databases"},
		{"several in hash", "hash", put(48, 2), "several databases"},
		{"compressed", "btree", put(48, 0x80), "compressed"},
		{"flags", "hash", put(48, 0x100), "unknown hash flags"},
		{"other hash function", "hash", put(92, 1), "another hash function"},
		{"masks", "hash", put(76, 0xff), "masks"},
		{"buckets", "hash", put(72, 1<<30), "buckets do not fit"},
		{"root", "btree", put(88, 99), "the root is page 99"},
		{"last page", "hash", put(32, 99), "truncated"},
		{"checksum", "btree-overflow", func(b []byte) { b[100] ^= 1 }, "page 0: checksum does not hold"},
		{"duplicates", "btree-dup-sorted", put(48, 0), "page "},
	} {
		data := mustRead(t, sampleFile(c.sample))
		c.patch(data)
		if _, err := hostile(t, data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := scanned(nil); err == nil || !strings.Contains(err.Error(), "not a Berkeley DB file") {
		t.Errorf("empty file: %v", err)
	}
}

// TestPlaces checks that an error names page and offset.
func TestPlaces(t *testing.T) {
	data := mustRead(t, sampleFile("btree"))
	data[2*512+8] = 77 // page 2 says it is page 77
	_, err := scanned(data)
	if want := "bdb: page 2: says it is page 77, at offset 1032"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

var errStop = errors.New("stop")

func TestErrorsOfOthers(t *testing.T) {
	data := mustRead(t, sampleFile("hash"))
	size := int64(len(data))
	ctx, cancel := context.WithCancel(context.Background())
	for _, name := range []string{"hash", "btree", "hash-dup", "btree-dup"} {
		file := mustRead(t, sampleFile(name))
		calls := 0
		err := bdb.New().Scan(ctx, bytes.NewReader(file), int64(len(file)), func(_, _ []byte) error { calls++; return errStop })
		if err != errStop || calls != 1 { //nolint:errorlint // as it is, says the contract
			t.Errorf("%s: %v after %d calls, want the error of f after 1", name, err, calls)
		}
	}
	err := bdb.New().Scan(ctx, io.NewSectionReader(bytes.NewReader(data), 0, 600), size, func(_, _ []byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "the file ends inside a page, at offset 600") {
		t.Errorf("a file shorter than it was: %v", err)
	}
	err = bdb.New().Scan(ctx, failing{}, size, func(_, _ []byte) error { return nil })
	if !errors.Is(err, errStop) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	cancel()
	err = bdb.New().Scan(ctx, bytes.NewReader(data), size, func(_, _ []byte) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

// failing is a file on a broken disk.
type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errStop }

// FuzzScan starts from the samples in testdata.
func FuzzScan(f *testing.F) {
	for _, s := range samples {
		if data := mustRead(f, sampleFile(s.name)); len(data) < 64<<10 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 1<<20 {
			_, _ = hostile(t, data) // it fails the test itself
		}
	})
}

// FuzzFields writes a few octets into one page of a sample, which gets further than
// changes anywhere.
func FuzzFields(f *testing.F) {
	for at := range uint16(32) {
		f.Add(uint8(at), uint8(1+at%7), at, []byte{byte(at), 0})
	}
	f.Fuzz(func(t *testing.T, sample, page uint8, at uint16, octets []byte) {
		data := mustRead(t, sampleFile(samples[int(sample)%len(samples)].name))
		ps := pageSizeOf(data)
		start := int(page)%(len(data)/ps)*ps + int(at)%ps
		copy(data[start:], octets[:min(len(octets), 64)])
		_, _ = hostile(t, data) // it fails the test itself
	})
}
