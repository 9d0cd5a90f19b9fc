// SPDX-License-Identifier: BSD-2-Clause

package cdb_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"rcptgate/table/cdb"
	"rcptgate/table/tabletest"
)

// samples were written by "cdb -c", and their dumps by "cdb -d".
func samples(t testing.TB) []tabletest.Sample {
	t.Helper()
	var all []tabletest.Sample
	for _, name := range []string{"empty", "one", "mixed"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".cdb"))
		if err != nil {
			t.Fatal(err)
		}
		dump, err := os.ReadFile(filepath.Join("testdata", name+".dump"))
		if err != nil {
			t.Fatal(err)
		}
		pairs, err := tabletest.ParseCDBDump(dump)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tabletest.Sample{Name: name, Data: data, Pairs: pairs})
	}
	return all
}

func TestFormat(t *testing.T) {
	for _, s := range samples(t) {
		tabletest.Run(t, cdb.New(), s)
	}
}

// TestRefused changes one place of a sound file each and wants an error that names it.
// "one" has the pointers, one record of 8, 10 and 4 octets at 2048, and one table of two slots.
func TestRefused(t *testing.T) {
	sound := samples(t)[1].Data
	le := binary.LittleEndian
	table := 0 // the pointer to the table that has slots
	for le.Uint32(sound[table+4:]) == 0 {
		table += 8
	}
	slot := 2048 + 22
	if le.Uint32(sound[slot+4:]) == 0 {
		slot += 8
	}
	for _, tc := range []struct {
		name, says string
		change     func(b []byte)
	}{
		{"key", "are not those that the tables point to .1.", func(b []byte) { b[2048+8]++ }},
		{"slot's hash", "are not those that the tables point to .1.", func(b []byte) { b[slot]++ }},
		{"slot's place", "are not those that the tables point to .1.", func(b []byte) { b[slot+4]++ }},
		{"empty slots", "are not those that the tables point to .0.", func(b []byte) { clear(b[2048+22:]) }},
		{"lengths", "beyond the last one's end", func(b []byte) { b[2048+4]++ }},
		{"huge lengths", "beyond the last one's end", func(b []byte) { copy(b[2048:], "\xff\xff\xff\xff\xff\xff\xff\xff") }},
		{"lengths too short", "reading the lengths|beyond the last|are not those", func(b []byte) { b[2048+4]-- }},
		{"no pointers", "never finished", func(b []byte) { clear(b[:2048]) }},
		{"table before the records", "lies outside", func(b []byte) { le.PutUint32(b[table:], 2047) }},
		{"table behind the file", "lies outside", func(b []byte) { le.PutUint32(b[table:], 1<<31) }},
		{"too many slots", "lies outside", func(b []byte) { le.PutUint32(b[table+4:], 1<<29) }},
		{"two tables in one place", "more than fit", func(b []byte) { copy(b[8*(255-table/8):], b[table:table+8]) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := bytes.Clone(sound)
			tc.change(data)
			got, err := tabletest.Scan(cdb.New(), data)
			if err == nil || !regexp.MustCompile(tc.says).MatchString(err.Error()) {
				t.Errorf("%q, %v; want an error with %q", got, err, tc.says)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range samples(f) {
		if len(s.Data) < 20_000 { // small ones mutate best
			f.Add(s.Data)
		}
	}
	tabletest.Fuzz(f, cdb.New())
}
