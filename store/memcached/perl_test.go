// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
)

// documentedPerl is the package of docs/memcached.md as it is printed there.
func documentedPerl(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/memcached.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n```perl\n")
	code, _, end := strings.Cut(rest, "\n```\n")
	if !ok || !end {
		t.Fatal("docs/memcached.md has no Perl in it")
	}
	return code
}

// TestPerl reads and writes entries with Debian's Cache::Memcached, as docs/memcached.md
// says: over three servers, with keys.
func TestPerl(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 3, lab.MemcachedOptions{})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "RcptgateCache.pm"), []byte(documentedPerl(t)+"\n1;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range servers {
		names = append(names, s.Addr)
	}
	cfg := config(t, servers...)
	cfg.KeyFile = keyFile(t, keyOne, keyTwo)
	s := gateway(t, cfg, Options{})
	perl := func(keys, script string) string {
		t.Helper()
		cmd := exec.Command("perl", "-I", dir, "-MRcptgateCache", "-we", //nolint:gosec // the test's own script
			`my $c = RcptgateCache->new(servers => [split / /, shift], keys => [split /,/, shift]);`+script, strings.Join(names, " "), keys)
		cmd.Env = lab.PerlEnvironment()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}

	rec := storetest.Full("o\\dd\tname\nof@example.org", time.Now())
	odd := "somebody else@example.org" // its key is a hash
	for _, key := range []string{user(1), user(2), user(3), odd} {
		_ = s.Put(ctx, key, rec)
	}
	written(t, s)
	read := `for my $r (@ARGV ? @ARGV : ("user1\@example.org", "user2\@example.org", "user3\@example.org", "somebody else\@example.org")) {
		my $k = $c->get($r); print $k ? join("|", $k->{standing}{class}, $k->{standing}{code}, $k->{passing}{class}, $k->{passing}{text} =~ s/[\n\t]/?/gr) : "nothing", "\n" }`
	want := strings.Repeat("valid|250|full|o\\dd?name?of@example.org is over quota?second line 50%\n", 4)
	if got := perl(keyOne, read); got != want {
		t.Errorf("Perl reads\n%s\nwant\n%s", got, want)
	}
	if got := perl("another key than ours", read); got != strings.Repeat("nothing\n", 4) {
		t.Errorf("with another key Perl reads\n%s", got)
	}

	forget(t, s, store.Pattern{Address: user(1)})
	if got := perl(keyOne, read); !strings.HasPrefix(got, "nothing\nvalid") {
		t.Errorf("after a forget Perl reads\n%s", got)
	}

	write := `for my $r (map({ "user$_\@example.org" } 1, 7 .. 30), "some body\@example.org") {
		$c->put($r, class => "unknown", code => 550, enhanced => "5.1.1", text => "No\tsuch\\ user\n$r", backend => "smtp:[10.0.0.9]:25", life => 900) or die "not stored" }
		$c->put("long\@example.org", class => "valid", code => 250, enhanced => "", text => "", backend => "", life => 86400 * 60, refresh => time + 86400) or die "not stored"`
	perl(keyTwo+","+keyOne, write) // it must be able to read the list, which keyOne sealed
	keys := []string{user(1), "some body@example.org"}
	for i := 7; i <= 30; i++ {
		keys = append(keys, user(i))
	}
	for _, key := range keys {
		rec, err := s.Get(ctx, key)
		a := rec.Standing
		if left := time.Until(a.Expire); err != nil || a.Class != store.Unknown || a.Code != 550 || a.Enhanced != "5.1.1" ||
			a.Text != "No\tsuch\\ user\n"+key || a.Backend != "smtp:[10.0.0.9]:25" || left > 900*time.Second || left < 700*time.Second {
			t.Errorf("%s, written by Perl: %+v, %v", key, rec, err)
		}
	}
	if rec, err := s.Get(ctx, "long@example.org"); err != nil || rec.Standing.Class != store.Valid {
		t.Errorf("kept for longer than 30 days: %+v, %v", rec, err)
	}
}
