// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate/table/bdb"
	"rcptgate/test/lab"
)

// pair is one key and value.
type pair struct{ key, value string }

// scanned reads a whole file.
func scanned(data []byte) ([]pair, error) {
	var all []pair
	err := bdb.New().Scan(context.Background(), bytes.NewReader(data), int64(len(data)), func(k, v []byte) error {
		all = append(all, pair{string(k), string(v)})
		return nil
	})
	return all, err
}

func mustScan(t *testing.T, name string) []pair {
	t.Helper()
	data := mustRead(t, name)
	all, err := scanned(data)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(name), err)
	}
	return all
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// samePairs compares entry by entry, order included.
func samePairs(t *testing.T, what string, got, want []pair) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: entry %d of %d is %.60q, want %.60q", what, i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d entries, want %d", what, len(got), len(want))
	}
}

func sortedPairs(all []pair) []pair {
	return slices.SortedFunc(slices.Values(all), func(a, b pair) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.value, b.value))
	})
}

// tool is a program of the lab; test/install.sh unpacks it.
type tool struct {
	path string
	env  []string
}

// need finds a program of one of the lab's kits, or leaves the test out.
func need(t testing.TB, kit lab.Kit, name string) tool {
	t.Helper()
	if testing.Short() {
		lab.LeaveOut(t, "-short leaves out the real writers")
	}
	found := tool{path: kit.Path(name), env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}}
	if _, err := os.Stat(found.path); err != nil {
		lab.LeaveOut(t, fmt.Sprintf("no %s: run test/install.sh", filepath.Base(name)))
	}
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "usr/lib/postfix"} {
		dir, _ := filepath.Glob(kit.Path(pattern)) // the patterns are well formed
		dirs = append(dirs, dir...)
	}
	found.env = append(found.env, "LD_LIBRARY_PATH="+strings.Join(dirs, ":"))
	return found
}

// run runs the program in dir and returns what it prints.
func (p tool) run(t testing.TB, dir string, input []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(p.path, args...)
	cmd.Dir, cmd.Env = dir, p.env
	cmd.Stdin = bytes.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", filepath.Base(p.path), args, err, errs.String())
	}
	return out
}

func dbLoad(t testing.TB) tool { return need(t, lab.DatabaseKit, "usr/bin/db5.3_load") }
func dbDump(t testing.TB) tool { return need(t, lab.DatabaseKit, "usr/bin/db5.3_dump") }
func makemap(t testing.TB) tool {
	return need(t, lab.SendmailKit, "usr/sbin/makemap")
}

// dumpText spells pairs as db_load reads them, under the given header lines.
func dumpText(header []string, pairs []pair) []byte {
	var b bytes.Buffer
	b.WriteString("VERSION=3\nformat=bytevalue\n")
	for _, line := range header {
		b.WriteString(line + "\n")
	}
	b.WriteString("HEADER=END\n")
	w := hex.NewEncoder(&b)
	for _, p := range pairs {
		b.WriteByte(' ')
		_, _ = w.Write([]byte(p.key)) // a bytes.Buffer takes everything
		b.WriteString("\n ")
		_, _ = w.Write([]byte(p.value))
		b.WriteByte('\n')
	}
	b.WriteString("DATA=END\n")
	return b.Bytes()
}

// load makes a file with db_load.
func load(t testing.TB, name string, header []string, pairs []pair) {
	t.Helper()
	dbLoad(t).run(t, filepath.Dir(name), dumpText(header, pairs), name)
}

// dumped reads a file with db_dump.
func dumped(t testing.TB, name string) []pair {
	t.Helper()
	return parseDump(t, dbDump(t).run(t, filepath.Dir(name), nil, name))
}

// parseDump takes apart what db_dump prints.
func parseDump(t testing.TB, out []byte) []pair {
	t.Helper()
	_, body, ok := bytes.Cut(out, []byte("HEADER=END\n"))
	if !ok {
		t.Fatalf("db_dump printed no header: %.200q", out)
	}
	var all []pair
	var line [2]string
	sc := bufio.NewScanner(bytes.NewReader(body))
	sc.Buffer(nil, 64<<20)
	for n := 0; sc.Scan() && sc.Text() != "DATA=END"; n++ {
		octets, err := hex.DecodeString(strings.TrimPrefix(sc.Text(), " "))
		if err != nil {
			t.Fatalf("db_dump printed %.80q: %v", sc.Text(), err)
		}
		line[n%2] = string(octets)
		if n%2 == 1 {
			all = append(all, pair{line[0], line[1]})
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
