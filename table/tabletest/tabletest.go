// SPDX-License-Identifier: BSD-2-Clause

// Package tabletest is the suite that every format of map files passes: what it
// reads of a sound file, and how it takes a damaged or hostile one. A format's test
// gives it sound files and what stands in them.
package tabletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"rcptgate/table"
)

// Big reports whether the tests of tables shall take many and large files, for minutes$
// by hand: RCPTGATE_TABLE_BIG=1 in the environment.
func Big() bool { return os.Getenv("RCPTGATE_TABLE_BIG") != "" }

// Pair is one entry of a file, octet for octet.
type Pair struct{ Key, Value string }

// Sample is a sound file.
type Sample struct {
	Name  string
	Data  []byte
	Pairs []Pair // in the file's order
	// Page is the size of the pieces that are damaged; 0 means 512.
	Page int
	// Text says that the file is text, in which a damaged line looks like any other: damage must only do no harm.
	Text bool
}

// Scan reads a whole file.
func Scan(f table.Format, data []byte) ([]Pair, error) {
	var all []Pair
	err := f.Scan(context.Background(), bytes.NewReader(data), int64(len(data)), func(k, v []byte) error {
		all = append(all, Pair{string(k), string(v)})
		return nil
	})
	return all, err
}

// Compare reports the first difference between what was read and what was expected.
func Compare(got, want []Pair) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("entry %d of %d is %.80q, want %.80q", i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d entries, want %d", len(got), len(want))
	}
	return nil
}

// Run puts a format to all tests with a sample.
func Run(t *testing.T, f table.Format, s Sample) {
	t.Helper()
	if s.Page == 0 {
		s.Page = 512
	}
	t.Run(s.Name, func(t *testing.T) {
		t.Run("entries", func(t *testing.T) { entries(t, f, s) })
		t.Run("contract", func(t *testing.T) { contract(t, f, s) })
		t.Run("truncated", func(t *testing.T) { truncated(t, f, s) })
		t.Run("zeroed", func(t *testing.T) { zeroed(t, f, s) })
		t.Run("garbled", func(t *testing.T) { garbled(t, f, s) })
	})
}

func entries(t *testing.T, f table.Format, s Sample) {
	got, err := Scan(f, s.Data)
	if err == nil {
		err = Compare(got, s.Pairs)
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat(context.Background(), bytes.NewReader(s.Data), int64(len(s.Data)))
	if err != nil || info.Type == "" {
		t.Fatalf("Stat says %+v, %v", info, err)
	}
	if info.Entries >= 0 && info.Entries != int64(len(s.Pairs)) {
		t.Errorf("Stat says %d entries, there are %d", info.Entries, len(s.Pairs))
	}
}

// failing is a file whose reading fails after a while.
type failing struct {
	io.ReaderAt
	left int
}

var errDisk = errors.New("the disk is gone")

func (f *failing) ReadAt(p []byte, at int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, at)
}

func contract(t *testing.T, f table.Format, s Sample) {
	size := int64(len(s.Data))
	stop := errors.New("enough")
	calls := 0
	err := f.Scan(context.Background(), bytes.NewReader(s.Data), size, func(_, _ []byte) error {
		calls++
		return stop
	})
	if len(s.Pairs) > 0 && (err != stop || calls != 1) { //nolint:errorlint // it must come back as it is
		t.Errorf("the callback's error came back as %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Scan(ctx, bytes.NewReader(s.Data), size, func(_, _ []byte) error { return nil }); len(s.Pairs) > 0 && !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled scan says %v", err)
	}
	for left := range 4 {
		file := &failing{bytes.NewReader(s.Data), left}
		err := f.Scan(context.Background(), file, size, func(_, _ []byte) error { return nil })
		if file.left < 0 && !errors.Is(err, errDisk) {
			t.Errorf("a disk that fails after %d reads gives %v", left, err)
		}
	}
}

// sane scans hostile data within bounds of time, memory and entries.
func sane(t *testing.T, f table.Format, data []byte, what string) ([]Pair, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	var all []Pair
	octets := 0
	err := f.Scan(context.Background(), bytes.NewReader(data), int64(len(data)), func(k, v []byte) error {
		if octets += len(k) + len(v) + 1; octets > 8*len(data)+1<<16 {
			return errors.New("more passed on than the file can hold")
		}
		all = append(all, Pair{string(k), string(v)})
		return nil
	})
	if took := time.Since(start); took > 20*time.Second {
		t.Fatalf("%s: took %v", what, took)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(64*len(data)+1<<22) {
		t.Fatalf("%s: %d octets were allocated for a file of %d", what, grown, len(data))
	}
	var damage *table.FormatError
	if err != nil && !errors.As(err, &damage) {
		t.Fatalf("%s: %v is not a FormatError", what, err)
	}
	_, _ = f.Stat(context.Background(), bytes.NewReader(data), int64(len(data)))
	return all, err
}

func truncated(t *testing.T, f table.Format, s Sample) {
	cuts := []int{0, 1, len(s.Data) - 1, len(s.Data) / 2}
	for at := s.Page; at < len(s.Data); at += max(s.Page, len(s.Data)/64) {
		cuts = append(cuts, at)
	}
	for _, at := range cuts {
		what := fmt.Sprintf("cut off at %d", at)
		got, err := sane(t, f, s.Data[:at], what)
		if err == nil && !s.Text {
			if diff := Compare(got, s.Pairs); diff != nil {
				t.Errorf("%s: no error, but %v", what, diff)
			}
		}
	}
}

// zeroed blanks each page in turn: an error, or no entry is missing or made up. Within
// values, damage shows only in formats with checksums.
func zeroed(t *testing.T, f table.Format, s Sample) {
	step := max(s.Page, len(s.Data)/256/s.Page*s.Page)
	for at := 0; at < len(s.Data); at += step {
		data := bytes.Clone(s.Data)
		clear(data[at:min(at+s.Page, len(data))])
		if bytes.Equal(data, s.Data) {
			continue
		}
		what := fmt.Sprintf("zeros from %d", at)
		got, err := sane(t, f, data, what)
		if err == nil && !s.Text {
			if diff := compareKeys(got, s.Pairs); diff != nil {
				t.Errorf("%s: no error, but %v", what, diff)
			}
		}
	}
}

func compareKeys(got, want []Pair) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Key != want[i].Key || len(got[i].Value) != len(want[i].Value) {
			return fmt.Errorf("entry %d is %.80q, want %.80q", i, got[i], want[i])
		}
	}
	return nil
}

// garbled puts noise into each page in turn, and single octets everywhere.
func garbled(t *testing.T, f table.Format, s Sample) {
	r := rand.New(rand.NewPCG(3, uint64(len(s.Data)))) // #nosec G115,G404 -- a test's noise
	step := max(s.Page, len(s.Data)/128/s.Page*s.Page)
	for at := 0; at < len(s.Data); at += step {
		data := bytes.Clone(s.Data)
		for i := at; i < min(at+s.Page, len(data)); i++ {
			data[i] = byte(r.Uint32()) // #nosec G115 -- the low octet
		}
		_, _ = sane(t, f, data, fmt.Sprintf("noise from %d", at))
	}
	for range 300 {
		data := bytes.Clone(s.Data)
		for range 1 + r.IntN(3) {
			if len(data) > 0 {
				data[r.IntN(len(data))] = []byte{0, 1, 0x7f, 0x80, 0xff, byte(r.Uint32())}[r.IntN(6)] // #nosec G115 -- as above
			}
		}
		_, _ = sane(t, f, data, "single octets")
	}
}

// Fuzz is the body of a format's fuzz target: never a panic, a hang, or bloat.
func Fuzz(f *testing.F, format table.Format) {
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = sane(t, format, data, "fuzz")
	})
}
