// SPDX-License-Identifier: BSD-2-Clause

package open_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/table"
	"rcptgate/table/aliases"
	"rcptgate/table/open"
	"rcptgate/table/tabletest"
	"rcptgate/test/lab"
)

// TestRandomCDB and TestRandomLMDB make databases with the formats' own tools, of all
// octet values, and compare every entry with what these print.
func TestRandomCDB(t *testing.T) {
	t.Parallel()
	cdb := need(t, lab.MapsKit, "usr/bin/cdb")
	dir := testkit.Dir(t)
	for seed := range runs() {
		pairs := tabletest.Random(rand.New(rand.NewPCG(uint64(seed), 1)), 70000, limit())
		cdb.run(t, dir, tabletest.CDBDump(pairs), "-c", "x.cdb")
		want, err := pairs, error(nil) // the tool keeps their order: it need not print each
		if seed%3 == 0 {
			want, err = tabletest.ParseCDBDump(cdb.run(t, dir, nil, "-d", "x.cdb"))
		}
		if err != nil {
			t.Fatal(err)
		}
		compareFile(t, table.CDB, filepath.Join(dir, "x.cdb"), want, len(pairs), seed)
	}
}

func TestRandomLMDB(t *testing.T) {
	t.Parallel()
	load, dump := need(t, lab.MapsKit, "usr/bin/mdb_load"), need(t, lab.MapsKit, "usr/bin/mdb_dump")
	dir := testkit.Dir(t)
	for seed := range runs() {
		pairs := tabletest.Random(rand.New(rand.NewPCG(uint64(seed), 2)), 511, limit())
		name := filepath.Join(dir, "x.lmdb")
		if seed%3 > 0 { // otherwise entries are added to what is there, as postmap does within a transaction
			_ = os.Remove(name)
		}
		load.run(t, dir, tabletest.HexDump(pairs, "type=btree", "mapsize=1073741824"), "-n", name)
		want, err := tabletest.ParseHexDump(dump.run(t, dir, nil, "-n", name))
		if err != nil {
			t.Fatal(err)
		}
		compareFile(t, table.LMDB, name, want, len(pairs), seed)
	}
}

func limit() int {
	if tabletest.Big() {
		return 12 << 20
	}
	return 150_000
}

func compareFile(t *testing.T, kind table.Type, name string, want []tabletest.Pair, least, seed int) {
	t.Helper()
	if len(want) < least {
		t.Fatalf("seed %d: the tool prints %d entries of %d", seed, len(want), least)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	format, err := open.Format(kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tabletest.Scan(format, data)
	if err == nil {
		err = tabletest.Compare(got, want)
	}
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}

// randomMap is a text that postmap and makemap both take: keys without white space, quotes and upper case.
func randomMap(r *rand.Rand, n, long int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "user%d.%x@d%d.example\t%s\n", i, r.Uint64()>>uint(r.IntN(64)), r.IntN(9), strings.Repeat("x", r.IntN(40))+strings.Repeat("long,", r.IntN(200)/199*r.IntN(long))+fmt.Sprint("y", i))
	}
	return b.String()
}

// TestPostmap rewrites one map again and again in every type and compares each line with "postmap -s".
func TestPostmap(t *testing.T) {
	t.Parallel()
	postmap := postfix(t, "postmap")
	for _, kind := range []string{"hash", "btree", "cdb", "lmdb"} {
		t.Run(kind, func(t *testing.T) {
			dir := testkit.Dir(t)
			name := filepath.Join(dir, "map")
			r := rand.New(rand.NewPCG(7, uint64(len(kind))))
			for round := range max(3, runs()/20) {
				text := randomMap(r, []int{0, 1, 1000, 50, 4000}[round%5], 2000)
				put(t, name, text)
				postmap.run(t, dir, nil, postmap.args(kind+":"+name)...)
				want := text
				if strings.Count(text, "\n") > 1 { // a single entry has no order to ask about
					want = printed(t, postmap, kind, name)
				}
				got := read(t, kind+":"+name)
				same(t, fmt.Sprintf("%s, round %d", kind, round), lines(got, "\t"), want)
				if n := strings.Count(text, "\n"); len(got) != n || len(read(t, "texthash:"+name)) != n {
					t.Fatalf("%d entries, the text has %d", len(got), n)
				}
			}
		})
	}
}

// printed is what "postmap -s" prints, or for CDB, of which Debian's Postfix cannot, what "cdb -d" does.
func printed(t *testing.T, postmap postfixProgram, kind, name string) string {
	t.Helper()
	if kind != "cdb" {
		return string(postmap.run(t, filepath.Dir(name), nil, postmap.args("-s", kind+":"+name)...))
	}
	pairs, err := tabletest.ParseCDBDump(need(t, lab.MapsKit, "usr/bin/cdb").run(t, filepath.Dir(name), nil, "-d", name+".cdb"))
	if err != nil {
		t.Fatal(err)
	}
	return lines(pairs, "\t")
}

// TestMakemap compares with "makemap -u", with and without NULs at the end.
func TestMakemap(t *testing.T) {
	t.Parallel()
	s := newSendmail(t)
	makemap := need(t, lab.SendmailKit, "usr/libexec/sendmail/makemap")
	r := rand.New(rand.NewPCG(8, 8))
	for _, kind := range []string{"hash", "btree"} {
		for _, options := range [][]string{nil, {"-N"}, {"-d"}} {
			for _, n := range []int{0, 1, 1000} {
				text := randomMap(r, n, 150)
				if len(options) > 0 && options[0] == "-d" && n > 0 {
					text += "twice one\ntwice two\n"
				}
				name := filepath.Join(s.dir, kind)
				_ = os.Remove(name + ".db")
				makemap.run(t, s.dir, []byte(text), append(append([]string{"-C", s.cf}, options...), kind, name)...)
				want := text
				if strings.Count(text, "\n") > 1 { // a single entry has no order to ask about
					want = strings.ReplaceAll(string(makemap.run(t, s.dir, nil, "-C", s.cf, "-u", kind, name)), "\x00", "")
				}
				same(t, fmt.Sprint(kind, options, n), lines(read(t, kind+":"+name), "\t"), want)
			}
		}
	}
}

// aliasText is what both MTAs take, in all its forms.
const aliasText = `# local aliases
Postmaster: root
root:	joe@example.com
staff: joe, ann@example.org,
	eve,
  "|/usr/bin/vacation, -a \"x y\" eve"
"joe user": joe
list: :include:/etc/mail/list
owner-list: postmaster
archive: /var/mail/archive, \ann
commented: joe (Joe User), Ann User <ann@example.org>
`

// TestAliasWriters compares databases made of one text by both MTAs, and the text itself, name by name.
func TestAliasWriters(t *testing.T) {
	t.Parallel()
	s, postalias := newSendmail(t), postfix(t, "postalias")
	put(t, s.aliases, aliasText)
	s.rebuild(t)
	praliases := need(t, lab.SendmailKit, "usr/libexec/sendmail/praliases")
	got := read(t, "hash:"+s.aliases)
	same(t, "praliases", lines(got, ":"), string(praliases.run(t, s.dir, nil, "-C", s.cf, "-f", s.aliases)))
	text := targets(t, read(t, "text:"+s.aliases))
	t.Run("newaliases", func(t *testing.T) { sameTargets(t, targets(t, got), text) })
	for _, kind := range []string{"hash", "btree", "cdb", "lmdb"} {
		t.Run("postalias "+kind, func(t *testing.T) {
			name := filepath.Join(testkit.Dir(t), "aliases")
			put(t, name, aliasText)
			postalias.run(t, filepath.Dir(name), nil, postalias.args(kind+":"+name)...)
			want := maps.Clone(text)
			want["archive"] = "file /var/mail/archive; local ann" // postalias takes the backslash off: there, a name that is its own target is a user
			sameTargets(t, targets(t, read(t, kind+":"+name)), want)
		})
	}
}

// targets reads every alias's right-hand side; Sendmail's mark and NIS's keys are none.
func targets(t *testing.T, pairs []tabletest.Pair) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, p := range pairs {
		if p.Key == "@" || strings.HasPrefix(p.Key, "YP_") {
			continue
		}
		list, err := aliases.Parse(p.Value)
		if err != nil {
			t.Errorf("%s: %q: %v", p.Key, p.Value, err)
		}
		var words []string
		for _, target := range list {
			words = append(words, target.Kind.String()+" "+target.Value)
		}
		all[strings.Trim(p.Key, `"`)] = strings.Join(words, "; ")
	}
	return all
}

func sameTargets(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %q, the text says %q", name, got[name], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d names, the text has %d", len(got), len(want))
	}
}
