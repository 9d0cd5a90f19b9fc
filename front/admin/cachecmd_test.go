// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/address"
	"rcptgate/kit/testkit"
	"rcptgate/view"
)

// TestNothingCommandsTheTerminal: what servers say, and what imports and memcached have, is
// shown without its control characters.
func TestNothingCommandsTheTerminal(t *testing.T) {
	const evil = "\x1b]0;owned\a\x9b2J\u202e"
	var out strings.Builder
	at := time.Now()
	a := &Answer{Class: evil, Code: 550, Enhanced: evil, Text: evil + "\n" + evil, Backend: evil, Learnt: at, Expire: at}
	if err := printRecord(&out, &Record{Key: evil + "@b.example", Source: "ram", Server: evil, Standing: a}); err != nil {
		t.Fatal(err)
	}
	words := Words{Action: "reject", Code: 550, Enhanced: evil, Text: evil + "\n" + evil, Reason: evil, Source: evil, Backend: evil}
	if err := printResult(&out, &Result{Recipient: evil, Target: evil, Words: words, Server: evil, Would: evil, Trace: []Step{{Step: evil, Target: evil, Words: words, Error: evil, Notes: []string{evil}}}}, false); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.ContainsAny(text, "\x1b\a\u009b\u202e") || strings.Contains(text, "\x9b") {
		t.Errorf("%q", text)
	}
}

// TestExportOverALink: a link is refused, and what it leads to stays as it was.
func TestExportOverALink(t *testing.T) {
	dir := testkit.Dir(t)
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(victim, []byte("mine"), 0o600), os.Symlink(victim, link)); err != nil {
		t.Fatal(err)
	}
	write := func(w io.Writer) error { _, err := io.WriteString(w, "export"); return err }
	if err := replaceFile(link, write); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("%v", err)
	}
	if text, _ := os.ReadFile(victim); string(text) != "mine" {
		t.Errorf("the file behind the link has %q", text)
	}
	if err := replaceFile(victim, write); err != nil {
		t.Error(err)
	}
}

func TestConfirmed(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "n\n": false, "": false, "flush the queue\n": false} {
		var asked strings.Builder
		if got := confirmed(strings.NewReader(answer), &asked, true); got != want || asked.Len() == 0 {
			t.Errorf("%q: %v, asked %q", answer, got, asked.String())
		}
	}
	if !confirmed(strings.NewReader(""), io.Discard, false) {
		t.Error("a script was asked")
	}
}

// TestSpellingsComeBack: what cache list prints for a recipient is what cache show and cache forget
// take for it, and what the log and check write, whatever its local part is.
func TestSpellingsComeBack(t *testing.T) {
	m := newMemory(t)
	locals := []string{"ann", "a b", ` a `, `a"b`, `a\b`, `a\"b`, `\`, `"`, `""`, `"a"`, "a@b", "@a", "@a,@b:c", "<a>", "<a", "a..b", ".a", "a.", "(c)", "a,b", "a:b;c", "grüße", "ä b", "a\tb", "'a'", "$(a)", "a/b=c", "*", "-x"}
	for _, local := range locals {
		m.records[local+"@example.com"] = valid(now())
	}
	c := run(t, Options{Memory: m})
	table, err := listTable(t.Context(), c, "")
	if err != nil || len(table.Rows) != len(locals) {
		t.Fatalf("%d rows of %d, %v", len(table.Rows), len(locals), err)
	}
	for _, row := range table.Rows {
		shown := row.Cells[0].(string)
		if strings.Contains(shown, "\t") {
			continue // the terminal gets another character for it
		}
		if wire := address.Parse(shown); wire.Path != shown || wire.Canonical() != shown {
			t.Errorf("%s: the log would have %s", shown, wire.Canonical())
		}
		r, err := c.Show(t.Context(), shown)
		if err != nil {
			t.Errorf("show %s: %v", shown, err)
			continue
		}
		var out strings.Builder
		if err := printRecord(&out, &r); err != nil || !strings.HasPrefix(out.String(), view.Clean(shown)+" (from") {
			t.Errorf("show %s prints %q, %v", shown, out.String(), err)
		}
		if f, err := c.Forget(t.Context(), shown); err != nil || f.Records != 1 {
			t.Errorf("forget %s: %+v, %v", shown, f, err)
		}
	}
	if len(m.records) != 1 {
		t.Errorf("left over: %v", m.records)
	}
}
