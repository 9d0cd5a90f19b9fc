// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"path/filepath"
	"testing"

	"rcptgate"
	"rcptgate/pattern"
	"rcptgate/table"
	tablelive "rcptgate/table/live"
	"rcptgate/table/open"
)

// TestAHalfWrittenFileIsNotAbsence: a file that loses its entries while it is written in place
// may get them back. Until then, what only its entries decide is an error.
func TestAHalfWrittenFileIsNotAbsence(t *testing.T) {
	dir := t.TempDir()
	spec := func(name string) table.Spec {
		return table.Spec{Type: "texthash", Name: filepath.Join(dir, name)}
	}
	var files []*tablelive.Live
	open := func(spec table.Spec, wrap func(table.Format) table.Format) (table.Table, error) {
		l := tablelive.New(tablelive.Config{Spec: spec, Format: func(warn func(error)) table.Format {
			f, err := open.Format(spec.Type, warn)
			if err != nil {
				t.Fatal(err)
			}
			return wrap(f)
		}})
		files = append(files, l)
		return l, l.Load(t.Context())
	}
	write(t, filepath.Join(dir, "list"), "good@x.example x\n@club.example x\n")
	write(t, filepath.Join(dir, "pairs"), "bad@y.example ann@own.example discard\n@z.example ann@own.example tempfail\n")
	c, err := newCheck(options{
		config:   &Config{Pairs: []table.Spec{spec("pairs")}},
		lists:    []ListConfig{{Name: "good", Table: []table.Spec{spec("list")}}},
		rules:    []RuleConfig{{Recipient: []string{"team@own.example"}, Sender: []string{"!list:good"}}},
		language: testLanguage(), counters: new(counters),
		open: func(kind pattern.Kind, spec table.Spec) (table.Table, error) {
			return open(spec, func(f table.Format) table.Format { return pattern.Format(kind, f) })
		},
		openPairs: func(name string, spec table.Spec) (table.Table, error) {
			return open(spec, func(f table.Format) table.Format { return pairFormat{f, name, readPair} })
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	questions := []struct {
		text      string
		whole     rcptgate.Action
		undecided bool // while the files are half written
	}{
		{"good@x.example -> team@own.example", rcptgate.Continue, true},
		{"b@club.example -> team@own.example", rcptgate.Continue, false},
		{"c@x.example -> team@own.example", rcptgate.Reject, false},
		{"bad@y.example -> ann@own.example", rcptgate.DiscardRecipient, true},
		{"b@z.example -> ann@own.example", rcptgate.Tempfail, false},
		{"good@x.example -> ann@own.example", rcptgate.Continue, false},
	}
	for _, q := range questions {
		if v := ask(t, c, q.text); v.Action != q.whole {
			t.Errorf("%s: %v, want %v", q.text, v.Action, q.whole)
		}
	}
	write(t, filepath.Join(dir, "list"), "@club.example x\n")
	write(t, filepath.Join(dir, "pairs"), "@z.example ann@own.example tempfail\n")
	for _, l := range files {
		if err := l.Load(t.Context()); err == nil {
			t.Fatalf("%s lost an entry, and that is not doubted", l.Spec())
		}
	}
	for _, q := range questions {
		v, err := c.Check(t.Context(), &questionOf(t, q.text).query)
		if q.undecided != (err != nil) || err == nil && v.Action != q.whole {
			t.Errorf("%s: %v, %v; want an error: %v, otherwise %v", q.text, v.Action, err, q.undecided, q.whole)
		}
	}
}
