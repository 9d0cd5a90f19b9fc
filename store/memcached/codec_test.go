// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/store/storetest"
)

// golden gives the values in testdata: what other programs have to read and to write.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var noon = time.Unix(1_790_000_000, 0)

func goldenEntries() map[string]entry {
	finding := storetest.Valid(noon)
	finding.Standing.Class = store.AcceptAll
	odd := storetest.Full("o\\dd\tname@example.org", noon)
	odd.Standing.Text = "grüße\nzweite Zeile"
	return map[string]entry{
		"valid.txt":      {rec: storetest.Valid(noon), written: noon},
		"unknown.txt":    {rec: storetest.Unknown("nobody@example.org", noon), written: noon, generation: 1_789_999_999_123_456_789},
		"full.txt":       {rec: odd, written: noon.Add(time.Minute), generation: 1},
		"passing.txt":    {rec: store.Record{Transient: storetest.Full("x@example.org", noon).Transient}, written: noon},
		"accept-all.txt": {rec: finding, written: noon},
	}
}

func TestGoldenValues(t *testing.T) {
	t.Parallel()
	for name, e := range goldenEntries() {
		want := golden(t, name)
		if got := encode(e); string(got) != string(want) {
			t.Errorf("%s: written as\n%s\nwant\n%s", name, got, want)
		}
		got, err := decode(want)
		if err != nil || got.generation != e.generation || !got.written.Equal(e.written) || !storetest.Equal(got.rec, e.rec) {
			t.Errorf("%s: read as %+v, %v", name, got, err)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	valid := string(golden(t, "full.txt"))
	head, rest, _ := strings.Cut(valid, "\n")
	lines := strings.Split(rest, "\n")
	standing, passing, doubt := lines[0], lines[1], lines[2]
	for name, text := range map[string]string{
		"empty":                "",
		"no line":              "rg1",
		"other version":        strings.Replace(valid, "rg1", "rg2", 1),
		"not ours":             "OK\n",
		"no generation":        "rg1\t1790000000\t0\n" + standing + "\n",
		"not written":          "rg1\t0\t0\t0\n" + standing + "\n",
		"negative":             "rg1\t-1\t0\t0\n" + standing + "\n",
		"plus":                 "rg1\t+1790000000\t0\t0\n" + standing + "\n",
		"leading zero":         "rg1\t01790000000\t0\t0\n" + standing + "\n",
		"too large":            "rg1\t4294967296\t0\t0\n" + standing + "\n",
		"generation too large": "rg1\t1790000000\t9223372036854775808\t0\n" + standing + "\n",
		"hexadecimal":          "rg1\t0x10\t0\t0\n" + standing + "\n",
		"CR LF":                strings.ReplaceAll(valid, "\n", "\r\n"),
		"cut":                  valid[:len(valid)-1],
		"standing twice":       head + "\n" + standing + "\n" + standing + "\n",
		"doubt twice":          head + "\n" + doubt + "\n" + doubt + "\n",
		"a field less":         head + "\n" + standing[:strings.LastIndexByte(standing, '\t')] + "\n",
		"a field more":         head + "\n" + standing + "\t\n",
		"bare doubt":           head + "\ndoubt\n",
		"unknown class":        head + "\n" + strings.Replace(standing, "valid", "perhaps", 1) + "\n",
		"class none":           head + "\n" + strings.Replace(standing, "valid", "none", 1) + "\n",
		"full stands":          head + "\n" + strings.Replace(standing, "valid", "full", 1) + "\n",
		"valid passes":         head + "\n" + strings.Replace(passing, "full", "valid", 1) + "\n",
		"code 99":              head + "\n" + strings.Replace(standing, "250", "99", 1) + "\n",
		"code 600":             head + "\n" + strings.Replace(standing, "250", "600", 1) + "\n",
		"odd escape":           head + "\n" + standing + `\x` + "\n",
		"half escape":          head + "\n" + standing + `\` + "\n",
	} {
		if e, err := decode([]byte(text)); !errors.Is(err, errForm) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	later := valid + "shade\tof grey\n\nanother\n"
	if e, err := decode([]byte(later)); err != nil || e.rec.Doubt.Count != 2 {
		t.Errorf("lines of later versions: %+v, %v", e, err)
	}
}

func FuzzDecode(f *testing.F) {
	for name := range goldenEntries() {
		f.Add(golden(f, name))
	}
	f.Add([]byte("rg1\t1\t0\t0\nlater\tversion\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := decode(value)
		if err != nil {
			if !errors.Is(err, errForm) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := decode(encode(e))
		if err != nil || again.generation != e.generation || !storetest.Equal(again.rec, e.rec) {
			t.Fatalf("read %+v, written and read again %+v, %v", e, again, err)
		}
	})
}

func goldenSet() store.Tombstones {
	return store.Tombstones{
		{Address: "user@example.org"}:        1_790_000_000_000_000_001,
		{Address: "o\\dd\tname@example.org"}: 1_790_000_000_000_000_002,
		{Domain: "example.com"}:              1_790_000_000_000_000_003,
		{}:                                   1_780_000_000_000_000_000,
	}
}

func goldenBy() map[int64]string {
	return map[int64]string{1_790_000_000_000_000_003: "mx1.example.org"}
}

func TestGoldenList(t *testing.T) {
	t.Parallel()
	want := golden(t, "forgotten.txt")
	if got := encodeList(goldenSet(), goldenBy(), 1_789_000_000_000_000_000); string(got) != string(want) {
		t.Errorf("written as\n%s\nwant\n%s", got, want)
	}
	got, by, epoch, late, err := decodeList(want, 1_790_000_000_000_000_002)
	if err != nil || late != 1 || epoch != 1_789_000_000_000_000_000 || by[1_790_000_000_000_000_003] != "mx1.example.org" || len(got) != 3 || got[store.Pattern{Address: "user@example.org"}] != 1_790_000_000_000_000_001 {
		t.Errorf("read as %v, %d late, %v", got, late, err)
	}
	for _, text := range []string{
		"", "rgf1", "rgf2\n", "rgf1\nforget\n", "rgf1\nforget\t1\n", "rgf1\nforget\t1\tall\tx\n", "rgf1\nforget\tx\tall\n", "rgf1\nforget\t1\taddress\n",
		"rgf1\nforget\t1\taddress\t\n", "rgf1\nforget\t1\tplace\tx\n", "rgf1\nforget\t1\tall", "rgf1\nepoch\n", "rgf1\nepoch\tx\n", "rgf1\nepoch\t1\t2\n", "rgf1\nforget\t1\tdomain\t" + strings.Repeat("x", 2000) + "\n",
	} {
		if s, _, _, _, err := decodeList([]byte(text), 2e18); !errors.Is(err, errForm) {
			t.Errorf("%.60q: %v, %v", text, s, err)
		}
	}
}

func FuzzDecodeList(f *testing.F) {
	f.Add(golden(f, "forgotten.txt"))
	f.Add([]byte("rgf1\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		s, by, epoch, _, err := decodeList(value, 9e18)
		if err != nil {
			return
		}
		again, _, same, _, err := decodeList(encodeList(s, by, epoch), 9e18)
		if err != nil || same != epoch || len(again) != len(s) || again.Lacks(s) {
			t.Fatalf("read %v, written and read again %v, %v", s, again, err)
		}
	})
}

func TestSeal(t *testing.T) {
	t.Parallel()
	one, two, three := []byte("the first key of all of them"), []byte("the second key of all of them"), []byte("a stranger's key, long enough")
	old, both, swapped, next := sealer{[][]byte{one}}, sealer{[][]byte{one, two}}, sealer{[][]byte{two, one}}, sealer{[][]byte{two}}
	none, foreign := sealer{}, sealer{[][]byte{three}}
	const key, body = "rg:a:user@example.org", "rg1\t1\t0\t0\n"
	for _, c := range []struct {
		name        string
		write, read sealer
		as, change  string
		good        bool
	}{
		{"same", old, old, key, "", true},
		{"other key", foreign, old, key, "", false},
		{"no key, we have one", none, old, key, "", false},
		{"a key, we have none", old, none, key, "", true},
		{"neither", none, none, key, "", true},
		{"rotation 1: others know the new one already", old, both, key, "", true},
		{"rotation 1: others do not yet", both, old, key, "", true},
		{"rotation 2: the new one signs", swapped, both, key, "", true},
		{"rotation 3: the old one is gone", next, swapped, key, "", true},
		{"rotation 3: its values too", old, next, key, "", false},
		{"under another recipient's key", old, old, "rg:a:other@example.org", "", false},
		{"changed", old, old, key, "rg1\t2\t0\t0\n", false},
	} {
		sealed := c.write.seal(key, []byte(body))
		if c.change != "" {
			sealed = append([]byte(c.change), sealed[len(body):]...)
		}
		got, err := c.read.open(c.as, sealed)
		if c.good != (err == nil) || (c.good && string(got) != body) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	want := golden(t, "sealed.txt")
	sealed := sealer{[][]byte{[]byte("0123456789abcdef")}}
	if got := sealed.seal(key, golden(t, "valid.txt")); string(got) != string(want) {
		t.Errorf("sealed as\n%s\nwant\n%s", got, want)
	}
	for i := range want { // no octet may change unnoticed
		bad := []byte(string(want))
		bad[i] ^= 1
		if _, err := sealed.open(key, bad); err == nil {
			t.Errorf("octet %d was changed unnoticed", i)
		}
	}
}

func TestExptime(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 500)
	for _, c := range []struct {
		left  time.Duration
		want  int32
		ended bool
	}{
		{-time.Second, 0, true},
		{0, 0, true},
		{1, 1, false},
		{time.Second, 1, false},
		{1500 * time.Millisecond, 2, false},
		{thirtyDays, 2_592_000, false},
		{thirtyDays + time.Second, 1_790_000_000 + 2_592_001, false},
		{400 * 24 * time.Hour, 1_790_000_000 + 400*86400, false},
		{20 * 365 * 24 * time.Hour, 2_592_000, false}, // after 2038: unknown
	} {
		if got, ended := exptime(now.Add(c.left), now); got != c.want || ended != c.ended {
			t.Errorf("%v: %d, %v", c.left, got, ended)
		}
	}
	if got, ended := exptime(time.Time{}, now); got != 0 || ended {
		t.Errorf("for ever: %d, %v", got, ended)
	}
}
