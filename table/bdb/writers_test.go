// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/table/tabletest"
	"rcptgate/test/lab"
)

// textPairs makes n pairs that both MTAs' map sources can hold: keys without white
// space, values of one line.
func textPairs(seed uint64, n int) []pair {
	r := rand.New(rand.NewPCG(seed, 8))
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(0x21 + r.IntN(0xff-0x21))
			if strings.IndexByte("\"\\:\x7f", b[i]) >= 0 { // quoting has rules of its own
				b[i] = 'x'
			}
		}
		return string(b)
	}
	var all []pair
	for i := range n {
		value := word(1 + r.IntN(60))
		if r.IntN(50) == 0 {
			value = word(1 + r.IntN(900)) // makemap takes lines of 1,024 octets
		}
		all = append(all, pair{fmt.Sprintf("k%d%s", i, word(r.IntN(30))), value + " " + word(3)})
	}
	return all
}

func textOf(pairs []pair) []byte {
	var b bytes.Buffer
	for _, p := range pairs {
		b.WriteString(p.key + "\t" + p.value + "\n")
	}
	return b.Bytes()
}

// listing is what Scan finds, printed as makemap -u and postmap -s do.
func listing(t *testing.T, name string) string {
	t.Helper()
	var b strings.Builder
	for _, p := range mustScan(t, name) {
		b.WriteString(strings.TrimSuffix(p.key, "\x00") + "\t" + strings.TrimSuffix(p.value, "\x00") + "\n")
	}
	return b.String()
}

func sortedLines(text string) string {
	return strings.Join(slices.Sorted(strings.SplitAfterSeq(text, "\n")), "")
}

func sameText(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	for i, line := range strings.SplitAfter(got, "\n") {
		if !strings.HasPrefix(want, line) {
			t.Fatalf("%s: line %d is %.60q, want %.60q", what, i+1, line, want)
		}
		want = want[len(line):]
	}
	t.Fatalf("%s: lines are missing: %.60q", what, want)
}

func TestMakemap(t *testing.T) {
	program := makemap(t)
	sizes := []int{0, 1, 3, 700}
	if tabletest.Big() {
		sizes = append(sizes, 2, 40, 5000)
	}
	for seed, n := range sizes {
		for _, kind := range []string{"hash", "btree"} {
			for _, options := range [][]string{{"-f"}, {"-N", "-f"}, {"-d", "-f"}} {
				what := fmt.Sprint(kind, options, n)
				name := filepath.Join(testkit.Dir(t), "x.db")
				pairs := textPairs(uint64(seed), n)
				if options[0] == "-d" {
					pairs = append(pairs, textPairs(uint64(seed), n/3)...)
				}
				args := append(options, "-C", os.DevNull, kind, name)
				program.run(t, filepath.Dir(name), textOf(pairs), args...)
				got := listing(t, name)
				if want := string(textOf(pairs)); n < 5 { // what was written says as much, except for the order
					sameText(t, what, sortedLines(got), sortedLines(want))
				} else {
					sameText(t, what, got, string(program.run(t, filepath.Dir(name), nil, "-u", "-C", os.DevNull, kind, name)))
				}
				if lines := strings.Count(got, "\n"); lines != len(pairs) {
					t.Errorf("%s: %d lines of %d", what, lines, len(pairs))
				}
				if nul := mustScan(t, name); len(nul) > 0 && strings.HasSuffix(nul[0].key, "\x00") != (options[0] == "-N") {
					t.Errorf("%s: the first key is %q", what, nul[0].key)
				}
			}
		}
	}
}

// TestDumpedAndLoaded is how a postmaster moves a table to another machine: the
// dump says how many keys the meta page counted, and the new file counts from there.
func TestDumpedAndLoaded(t *testing.T) {
	program := makemap(t)
	for _, n := range []int{0, 1, 5, 700} {
		name := filepath.Join(testkit.Dir(t), "0.db")
		program.run(t, filepath.Dir(name), textOf(textPairs(1, n)), "-f", "-C", os.DevNull, "hash", name)
		want := sortedPairs(mustScan(t, name))
		for round := range 3 {
			text := dbDump(t).run(t, filepath.Dir(name), nil, name)
			name = filepath.Join(filepath.Dir(name), fmt.Sprint(round+1, ".db"))
			dbLoad(t).run(t, filepath.Dir(name), text, name)
			if data := mustRead(t, name); n < 5 && len(data) == 3*4096 && bytes.Count(data[4096:2*4096], []byte{0}) == 4096 {
				break // a bucket that was never written: see nothingLost
			}
			samePairs(t, fmt.Sprint(n, " pairs, round ", round), sortedPairs(mustScan(t, name)), want)
		}
	}
}

// TestPostmap also deletes and adds keys, which leaves free pages, holes and pages
// that have been used before.
func TestPostmap(t *testing.T) {
	program := need(t, lab.PostfixKit, "usr/sbin/postmap")
	for seed, n := range []int{0, 1, 5, 700} {
		for _, kind := range []string{"hash", "btree"} {
			dir := testkit.Dir(t)
			write(t, filepath.Join(dir, "main.cf"), []byte("smtputf8_enable = no\nqueue_directory = "+dir+"\n"))
			run := func(input []byte, args ...string) string {
				return string(program.run(t, dir, input, append([]string{"-c", dir, "-f"}, args...)...))
			}
			table, what := kind+":"+filepath.Join(dir, "x"), fmt.Sprint(kind, n)
			compare := func(step string, there []pair) {
				t.Helper()
				got := listing(t, filepath.Join(dir, "x.db"))
				sameText(t, what+step, sortedLines(got), sortedLines(string(textOf(there))))
				if n > 5 { // few show no order to ask about
					sameText(t, what+step, got, run(nil, "-s", table))
				}
			}
			pairs := textPairs(uint64(seed), n)
			write(t, filepath.Join(dir, "x"), textOf(pairs))
			run(nil, table)
			compare(" made", pairs)
			if n < 2 {
				continue
			}
			var gone strings.Builder
			for _, p := range pairs[:n/2] {
				gone.WriteString(p.key + "\n")
			}
			run([]byte(gone.String()), "-d", "-", table)
			compare(" after deletions", pairs[n/2:])
			run(textOf(pairs[:n/4]), "-i", table)
			compare(" after additions", slices.Concat(pairs[n/2:], pairs[:n/4]))
		}
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	// Postfix's tools wait until a source is some seconds old.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
}

const aliasText = `postmaster: root
root: admin@example.org, "quoted local"@example.org
list: :include:/etc/mail/list, |"/bin/program -x"
empty-comment: a, b,
   c
`

// aliasPairs is aliasText as both programs write it, each of them once, with the
// marker of a complete alias file.
var aliasPairs = map[string]string{"@": "@", "postmaster": "root", "empty-comment": "a, b, c"}

func checkAliases(t *testing.T, name string) {
	t.Helper()
	found := map[string]string{}
	for _, p := range mustScan(t, name) {
		found[strings.TrimSuffix(p.key, "\x00")] = strings.TrimSuffix(p.value, "\x00")
	}
	for key, want := range aliasPairs {
		if got := strings.Join(strings.Fields(found[key]), " "); got != want {
			t.Errorf("%s is %q, want %q", key, found[key], want)
		}
	}
	if !strings.Contains(found["list"], ":include:/etc/mail/list") || len(found) < 5 {
		t.Errorf("aliases are %q", found)
	}
}

func TestPostalias(t *testing.T) {
	program := need(t, lab.PostfixKit, "usr/sbin/postalias")
	for _, kind := range []string{"hash", "btree"} {
		dir := testkit.Dir(t)
		write(t, filepath.Join(dir, "main.cf"), []byte("queue_directory = "+dir+"\n"))
		write(t, filepath.Join(dir, "aliases"), []byte(aliasText))
		program.run(t, dir, nil, "-c", dir, kind+":"+filepath.Join(dir, "aliases"))
		checkAliases(t, filepath.Join(dir, "aliases.db"))
	}
}

// TestNewaliases runs Sendmail in a UTS namespace: on a host name without a dot it
// sleeps for a minute.
func TestNewaliases(t *testing.T) {
	program := need(t, lab.SendmailKit, "usr/libexec/sendmail/sendmail")
	if os.Getuid() != 0 {
		lab.LeaveOut(t, "a namespace for Sendmail needs root")
	}
	namespace := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWUTS}
	able := exec.Command("true")
	able.SysProcAttr = namespace
	if err := able.Run(); err != nil {
		lab.LeaveOut(t, fmt.Sprintf("no namespace for Sendmail: %v", err))
	}
	for _, kind := range []string{"hash", "btree"} {
		dir, err := os.MkdirTemp(lab.Dir(), "newaliases") // Sendmail refuses what lies below /tmp
		if err != nil {
			lab.LeaveOut(t, err.Error())
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		write(t, filepath.Join(dir, "aliases"), []byte(aliasText))
		cf := "V10/Berkeley\nO AliasFile=" + kind + ":" + dir + "/aliases\nDwgate\nDmexample.org\nDj$w.$m\nS0\nR$*\t$#local $: $1\n" +
			"Mlocal, P=/bin/true, F=lsDFMAw5:/|@qPSXmnz9, A=true\nMprog, P=/bin/sh, F=lsDFMoqeu9, A=sh -c $u\n" +
			"O QueueDirectory=" + dir + "\n"
		write(t, filepath.Join(dir, "x.cf"), []byte(cf))
		cmd := exec.Command("sh", "-c", `{ echo gate.example.org >/proc/sys/kernel/hostname; } 2>/dev/null || hostname gate.example.org; exec "$@"`, "sh",
			program.path, "-C", dir+"/x.cf", "-bi")
		cmd.Env, cmd.SysProcAttr = program.env, namespace
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("newaliases: %v: %s", err, out)
		}
		checkAliases(t, filepath.Join(dir, "aliases.db"))
	}
}
