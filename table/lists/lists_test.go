// SPDX-License-Identifier: BSD-2-Clause

package lists

import (
	"context"
	"errors"
	"strings"
	"testing"

	"rcptgate/table"
)

func TestLines(t *testing.T) {
	read := func(f table.Format, text string) string {
		var names []string
		err := f.Scan(context.Background(), strings.NewReader(text), int64(len(text)), func(k, _ []byte) error {
			names = append(names, string(k))
			return nil
		})
		if err != nil {
			return "error"
		}
		return strings.Join(names, " ")
	}
	for _, tc := range []struct {
		format     table.Format
		text, want string
	}{
		{ClassFile(), "# local\nExample.ORG.\n\n  bücher.example # ours\nx", "example.org xn--bcher-kva.example x"},
		{ClassFile(), "a\x00b\n", "error"},
		{ClassFile(), strings.Repeat("x", maxNameLine+1), "error"},
		{ClassFile(), "", ""},
		{Passwd(), "root:x:0:0:root:/root:/bin/sh\nann:x:1000:\n+::::::\n+@staff\n-eve:::\nbroken\n:x:\n", "root ann"},
	} {
		if got := read(tc.format, tc.text); got != tc.want {
			t.Errorf("%.20q: %q, want %q", tc.text, got, tc.want)
		}
	}
}

// names is a table of keys; nil could not be read.
type names map[string]bool

var errUnread = errors.New("unread")

func (n names) Lookup(_ context.Context, key string) (string, bool, error) {
	if n == nil {
		return "", false, errUnread
	}
	return "", n[key], nil
}

func TestFind(t *testing.T) {
	list := []string{"A.test", ".b.test", "/file", "hash:/map"}
	tables := map[string]names{"text:/file": {"f.test": true}, "hash:/map": {"m.test": true, ".n.test": true}}
	for _, tc := range []struct {
		below, dotted bool
		domain        string
		want          Standing
	}{
		{false, false, "a.test", WrittenOut},
		{false, false, "x.a.test", Absent},
		{false, false, "f.test", Listed},
		{false, false, "m.test", Listed},
		{false, false, "", Absent},
		{true, false, "x.y.a.test", WrittenOut},
		{true, false, "b.test", Absent},
		{true, false, "x.b.test", WrittenOut},
		{true, false, "x.f.test", Listed},
		{true, false, "[192.0.2.1]", Absent},
		{true, true, "x.a.test", Absent},
		{true, true, "x.b.test", WrittenOut},
		{true, true, "x.m.test", Absent},
		{true, true, "x.n.test", Listed},
	} {
		d := ReadDomains(list, WrittenOut)
		d.Below, d.Dotted = tc.below, tc.dotted
		open := func(spec table.Spec) (table.Table, error) { return tables[spec.String()], nil }
		if err := d.Open(open, open); err != nil || d.Empty() {
			t.Fatal(err)
		}
		if got, err := d.Find(t.Context(), tc.domain); got != tc.want || err != nil {
			t.Errorf("%q (below %v, dotted %v): %v, %v, want %v", tc.domain, tc.below, tc.dotted, got, err, tc.want)
		}
	}
	d := ReadDomains([]string{"/unread"}, WrittenOut)
	open := func(table.Spec) (table.Table, error) { return names(nil), nil }
	if err := d.Open(open, open); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find(t.Context(), "a.test"); !errors.Is(err, errUnread) {
		t.Errorf("a table that could not be read: %v", err)
	}
}
