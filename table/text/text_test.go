// SPDX-License-Identifier: BSD-2-Clause

package text

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rcptgate/table"
	"rcptgate/table/tabletest"
)

func scan(t *testing.T, f func(Warn) table.Format, text string) (pairs, warnings []string, err error) {
	t.Helper()
	r := bytes.NewReader([]byte(text))
	err = f(func(err error) { warnings = append(warnings, err.Error()) }).Scan(context.Background(), r, r.Size(), func(k, v []byte) error {
		pairs = append(pairs, fmt.Sprintf("%s=%s", k, v))
		return nil
	})
	return pairs, warnings, err
}

func TestAliases(t *testing.T) {
	for _, tc := range []struct{ name, text, pairs, warns string }{
		{"simple", "root: joe\npostmaster: root\n", "root=joe|postmaster=root", ""},
		{"no newline at the end", "root: joe", "root=joe", ""},
		{"names are made lower case", "Postmaster:Root", "postmaster=Root", ""},
		{"CR LF", "a: b\r\nc: d\r\n", "a=b|c=d", ""},
		{"comments", "# top\n\n  # indented\na: b # no comment here\n", "a=b # no comment here", ""},
		{"continuation", "staff: joe,\n\tann,\n  eve\nx: y", "staff=joe,\tann,  eve|x=y", ""},
		{"comment and empty line within", "staff: joe,\n# ann is gone\n\n eve\nx: y", "staff=joe, eve|x=y", ""},
		{"backslash", "staff: joe, \\\nann\nx: y", "staff=joe, ann|x=y", ""},
		{"backslash before a comment sign", "a: b\\\n#c\n", "a=b#c", ""},
		{"quoted names", `"joe user": joe` + "\n" + `"a:b": c` + "\n" + `"a\"b": c`, `joe user=joe|a:b=c|a"b=c`, ""},
		{"space before the colon", "joe : ann", "joe=ann", ""},
		{"values stay as they are", `prog: "|/bin/x -a, b", :include:/list`, `prog="|/bin/x -a, b", :include:/list`, ""},
		{
			"bad lines are left out", "a: b\nno colon\nc: d\n: x\ne:\nf@g.example: h\n\"l: m", "a=b|c=d",
			`2:is not "name: targets"|4:no name|5:without a target|6:domain|7:not closed`,
		},
		{"several words", "Joe  The\tUser : joe\n\"a b\" c: d\ne \"f\" : g\n", "joe the user=joe|joe.the.user=joe|a b c=d|a b.c=d|e f=g|e.f=g", ""},
		{"white space at the top", " a: b\nc: d\n", "c=d", "1:no line to continue"},
		{"long line", "a: b\nc: " + strings.Repeat("x", maxLine) + "\nd: e\n", "a=b|d=e", "2:longer than"},
		{"empty", "", "", ""},
		{"only comments", "# nothing\n\n", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pairs, warnings, err := scan(t, Aliases, tc.text)
			if got := strings.Join(pairs, "|"); err != nil || got != tc.pairs {
				t.Errorf("%q, %v; want %q", got, err, tc.pairs)
			}
			compareWarnings(t, warnings, tc.warns)
		})
	}
}

func compareWarnings(t *testing.T, got []string, want string) {
	t.Helper()
	var wants []string
	if want != "" {
		wants = strings.Split(want, "|")
	}
	if len(got) != len(wants) {
		t.Fatalf("warnings %q, want %q", got, wants)
	}
	for i, w := range wants {
		line, says, _ := strings.Cut(w, ":")
		if !strings.HasPrefix(got[i], "text: line "+line+":") || !strings.Contains(got[i], says) {
			t.Errorf("warning %q, want line %s with %q", got[i], line, says)
		}
	}
}

func TestPairs(t *testing.T) {
	for _, tc := range []struct{ name, text, pairs, warns string }{
		{"postmap", "User@Example.com  joe, ann \n@example.org\terror:nouser 550 5.1.1 gone\n", "user@example.com=joe, ann|@example.org=error:nouser 550 5.1.1 gone", ""},
		{"continuation", "a b,\n c\nd e", "a=b, c|d=e", ""},
		{"no backslash here", "a b\\\nc d", `a=b\|c=d`, ""},
		{"quoted keys keep their quotes", `"joe user"@x joe` + "\n" + `a\ b c`, `"joe user"@x=joe|a\ b=c`, ""},
		{"bad lines", "a b\nalone\n\"x y\n", "a=b", "2:key value|3:not closed"},
		{"key ends in a backslash", "a b\nc\\", "a=b", "2:key value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pairs, warnings, err := scan(t, Pairs, tc.text)
			if got := strings.Join(pairs, "|"); err != nil || got != tc.pairs {
				t.Errorf("%q, %v; want %q", got, err, tc.pairs)
			}
			compareWarnings(t, warnings, tc.warns)
		})
	}
}

// What is left of a file that has lost a block holds some of its names: those that are gone must not be refused.
func TestNUL(t *testing.T) {
	for _, text := range []string{
		"a: bbbbbbbbbbbbbbbbb\nc\x00: d\n", "a: b\n" + strings.Repeat("c: d\n", 100) + strings.Repeat("\x00", 512) + "\ne: f\n",
		"a: bbbbbbbbbbbbbbbbb\n# x\ne: \xff\xfe\n" + strings.Repeat("\x00", 4096),
	} {
		for _, f := range []func(Warn) table.Format{Aliases, Pairs} {
			_, _, err := scan(t, f, strings.ReplaceAll(text, ": ", " : "))
			var damage *table.FormatError
			if !errors.As(err, &damage) || damage.Line < 2 || !strings.Contains(err.Error(), "NUL") {
				t.Errorf("%.40q: %v", text, err)
			}
		}
	}
}

func TestForeignFile(t *testing.T) {
	_, _, err := scan(t, Aliases, "user@example.com joe\nann@example.com eve\n")
	var damage *table.FormatError
	if !errors.As(err, &damage) || damage.Line != 1 || !strings.Contains(err.Error(), "texthash:") {
		t.Errorf("error = %v", err)
	}
	if _, _, err := scan(t, Pairs, "\x00\x00\x00\x00\x01\x00 \n"); err == nil || !strings.Contains(err.Error(), "binary") {
		t.Errorf("a database says %v", err)
	}
	stop := errors.New("enough")
	r := bytes.NewReader([]byte("a: b\n"))
	if err := Aliases(nil).Scan(context.Background(), r, r.Size(), func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callback's error became %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Aliases(nil).Scan(ctx, r, r.Size(), func(_, _ []byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled scan says %v", err)
	}
}

// TestFormat puts both texts to the suite that every format passes.
func TestFormat(t *testing.T) {
	var aliases, pairs strings.Builder
	var want []tabletest.Pair
	for i := range 300 {
		p := tabletest.Pair{Key: fmt.Sprintf("name%d", i), Value: strings.Repeat("x", i) + "@example.org"}
		fmt.Fprintf(&aliases, "# number %d\n%s: %s\n", i, p.Key, p.Value)
		fmt.Fprintf(&pairs, "# number %d\n%s %s\n", i, p.Key, p.Value)
		want = append(want, p)
	}
	tabletest.Run(t, Aliases(nil), tabletest.Sample{Name: "aliases", Data: []byte(aliases.String()), Pairs: want, Text: true})
	tabletest.Run(t, Pairs(nil), tabletest.Sample{Name: "pairs", Data: []byte(pairs.String()), Pairs: want, Text: true})
}

func FuzzAliases(f *testing.F) { fuzz(f, Aliases) }
func FuzzPairs(f *testing.F)   { fuzz(f, Pairs) }

func fuzz(f *testing.F, format func(Warn) table.Format) {
	for _, s := range []string{"a: b\n c\n#d\n\ne: f\\\ng", "\"a b\": c", "a b\n\"c d\" e\n", "\\", " \n:", "a\\\n:b\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		err := format(nil).Scan(context.Background(), bytes.NewReader(b), int64(len(b)), func(k, v []byte) error {
			if len(k) == 0 || len(v) == 0 || bytes.IndexByte(k, 0) >= 0 || bytes.IndexByte(v, '\n') >= 0 {
				t.Errorf("pair %q = %q", k, v)
			}
			total += len(k) + len(v)
			return nil
		})
		if total > 2*len(b) { // a name of several words is two
			t.Errorf("%d octets of %d", total, len(b))
		}
		var damage *table.FormatError
		if err != nil && !errors.As(err, &damage) {
			t.Errorf("error = %v", err)
		}
	})
}
