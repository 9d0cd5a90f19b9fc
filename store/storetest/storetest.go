// SPDX-License-Identifier: BSD-2-Clause

// Package storetest is the suite that every implementation of store.Store passes.
//
// A test of an implementation is one call of [Run] with a function that makes an
// empty store. What only some places have, a clock to turn or a restart, is tested
// beside them.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/store"
)

// Entries is the bound that Run asks for, when it asks for one.
const Entries = 1000

// Run tests the stores that open makes. Open is called many times; each store
// must be empty, keep at most about entries records, and be closed by Run. Places with
// limits say so.
func Run(t *testing.T, open func(t *testing.T, entries int) store.Store, limits ...Limit) {
	for _, c := range []struct {
		name  string
		test  func(*testing.T, *suite)
		heavy bool
		lists bool
	}{
		{"PutGet", testPutGet, false, false},
		{"Overwrite", testOverwrite, false, false},
		{"Delete", testDelete, false, false},
		{"Ended", testEnded, false, false},
		{"OddKeys", testOddKeys, false, false},
		{"LongTexts", testLongTexts, false, false},
		{"Range", testRange, false, true},
		{"RangeStops", testRangeStops, false, true},
		{"Forget", testForget, false, false},
		{"Concurrent", testConcurrent, false, false},
		{"RefusalsHaveTheirShare", testRefusals, true, true},
		{"FloodOfValid", testFloodOfValid, true, true},
		{"Closed", testClosed, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.lists && slices.Contains(limits, CannotList) {
				t.Skip("the place cannot list")
			}
			if c.heavy && testing.Short() {
				t.Skip("the full run without the race detector has it")
			}
			s := &suite{Store: open(t, Entries), now: time.Now(), lists: !slices.Contains(limits, CannotList)}
			t.Cleanup(func() { _ = s.Close() })
			c.test(t, s)
		})
	}
}

// Limit is what a place cannot do.
type Limit int

// CannotList: Range gives nothing, so that Forget cannot count, and neither the number of
// records nor a bound on them is known.
const CannotList Limit = 1

type suite struct {
	store.Store
	now   time.Time
	lists bool
}

var ctx = context.Background()

// Valid gives a valid answer as a backend like Postfix gives it, learnt at now.
func Valid(now time.Time) store.Record {
	return store.Record{Standing: store.Answer{
		Class: store.Valid, Code: 250, Enhanced: "2.1.5", Text: "Ok", Backend: "smtp:[10.0.0.5]:25",
		Learnt: now, Refresh: now.Add(24 * time.Hour), Expire: now.Add(31 * 24 * time.Hour),
	}}
}

// Unknown gives a refusal that repeats the recipient, as Postfix does.
func Unknown(key string, now time.Time) store.Record {
	return store.Record{Standing: store.Answer{
		Class: store.Unknown, Code: 550, Enhanced: "5.1.1", Backend: "smtp:[10.0.0.5]:25",
		Text:   "<" + key + ">: Recipient address rejected: User unknown in local recipient table",
		Learnt: now, Refresh: now.Add(time.Hour), Expire: now.Add(time.Hour),
	}}
}

// Full gives a record with everything in it.
func Full(key string, now time.Time) store.Record {
	rec := Valid(now)
	rec.Transient = store.Answer{
		Class: store.Full, Code: 452, Enhanced: "4.2.2", Text: key + " is over quota\nsecond line 50%", Backend: "lmtp:unix:/run/lmtp",
		Learnt: now, Refresh: now.Add(time.Minute), Expire: now.Add(5 * time.Minute),
	}
	rec.Doubt = store.Doubt{Count: 2, First: now.Add(-3 * time.Hour), Last: now.Add(-time.Hour)}
	rec.Tried = now.Add(-time.Minute)
	return rec
}

// Equal compares what a store has to keep of two records.
func Equal(a, b store.Record) bool {
	return fmt.Sprint(flat(a)) == fmt.Sprint(flat(b))
}

func flat(rec store.Record) []any {
	rec = store.Bound(rec)
	var out []any
	for _, a := range []store.Answer{rec.Standing, rec.Transient} {
		out = append(out, a.Class, a.Code, fmt.Sprintf("%q", []string{a.Enhanced, a.Text, a.Backend}),
			store.Seconds(a.Learnt), store.Seconds(a.Refresh), store.Seconds(a.Expire))
	}
	return append(out, rec.Doubt.Count, store.Seconds(rec.Doubt.First), store.Seconds(rec.Doubt.Last), store.Seconds(rec.Tried))
}

func (s *suite) put(t *testing.T, key string, rec store.Record) {
	t.Helper()
	if err := s.Put(ctx, key, rec); err != nil {
		t.Fatalf("put %.60q: %v", key, err)
	}
}

func (s *suite) has(t *testing.T, key string, want store.Record) {
	t.Helper()
	got, err := s.Get(ctx, key)
	if err != nil {
		t.Fatalf("get %.60q: %v", key, err)
	}
	if !Equal(got, want) {
		t.Fatalf("get %.60q: got\n%v, put\n%v", key, flat(got), flat(want))
	}
}

func (s *suite) hasNot(t *testing.T, key string) {
	t.Helper()
	if rec, err := s.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get %.60q: %v, %v; want ErrNotFound", key, rec.Standing, err)
	}
}

func testPutGet(t *testing.T, s *suite) {
	s.hasNot(t, "a@example.org")
	refused := store.Record{Transient: Full("x", s.now).Transient}
	finding := Valid(s.now)
	finding.Standing.Class = store.AcceptAll
	for key, rec := range map[string]store.Record{
		"valid@example.org":   Valid(s.now),
		"unknown@example.org": Unknown("unknown@example.org", s.now),
		"full@example.org":    Full("full@example.org", s.now),
		"passing@example.org": refused,
		store.FindingKey("smtp:[10.0.0.5]:25", "example.org"): finding,
	} {
		s.put(t, key, rec)
		s.has(t, key, rec)
	}
	s.hasNot(t, "Valid@example.org")
	if st := s.Stats(); st.Name == "" || (s.lists && st.Capacity < 1) || st.Hits < 5 || st.Misses < 2 {
		t.Errorf("stats: %+v", st)
	}
}

func testOverwrite(t *testing.T, s *suite) {
	const key = "a@example.org"
	for i := range 20 {
		for _, rec := range []store.Record{Valid(s.now), Unknown(key, s.now), Full(key, s.now)} {
			rec.Standing.Code += i
			s.put(t, key, rec)
			s.has(t, key, rec)
		}
	}
	n := 0
	_ = s.Range(ctx, store.Pattern{}, func(string, store.Record) bool { n++; return true })
	if n != 1 && s.lists {
		t.Errorf("one key was given %d times", n)
	}
}

func testDelete(t *testing.T, s *suite) {
	s.put(t, "a@example.org", Valid(s.now))
	s.put(t, "b@example.org", Unknown("b@example.org", s.now))
	s.put(t, "c@example.org", Valid(s.now))
	if err := s.Delete(ctx, "a@example.org", "b@example.org", "nobody@example.org"); err != nil {
		t.Fatal(err)
	}
	s.hasNot(t, "a@example.org")
	s.hasNot(t, "b@example.org")
	s.has(t, "c@example.org", Valid(s.now))
	s.put(t, "c@example.org", store.Record{})
	s.hasNot(t, "c@example.org")
}

func testEnded(t *testing.T, s *suite) {
	s.put(t, "a@example.org", Valid(s.now))
	s.put(t, "a@example.org", Valid(s.now.Add(-32*24*time.Hour)))
	if rec, err := s.Get(ctx, "a@example.org"); err == nil && rec.Standing.Alive(s.now) {
		t.Error("an answer that had ended was kept alive")
	}
	far := Valid(s.now)
	far.Standing.Expire = s.now.AddDate(500, 0, 0)
	s.put(t, "b@example.org", far)
	s.has(t, "b@example.org", far)
}

// OddKeys are names that break stores which put them into a protocol or a query.
var OddKeys = []string{
	"a b@example.org", `"a b"@example.org`, "o'brien@example.org", `back\slash@example.org`, "100%@example.org", "_@example.org",
	"*@example.org", "a;drop table answers@example.org", "../../etc/passwd@example.org", "(cn=*)@example.org", "jürgen@example.org",
	"用户@xn--fiqs8s", "\xff\xfe@example.org", "nul\x00nul@example.org", "line\r\nbreak@example.org", "tab\t@example.org",
	"a@b@example.org", "postmaster", "@", "", " ", "a@", "@example.org", "@example.org smtp:[10.0.0.5]:25", "@example.org lmtp:unix:/run/a b",
	strings.Repeat("l", 500) + "@example.org",
}

func testOddKeys(t *testing.T, s *suite) {
	for i, key := range OddKeys {
		rec := Full(key, s.now)
		rec.Standing.Code = 200 + i
		s.put(t, key, rec)
	}
	for i, key := range OddKeys {
		want := Full(key, s.now)
		want.Standing.Code = 200 + i
		s.has(t, key, want)
	}
	seen := map[string]int{}
	if err := s.Range(ctx, store.Pattern{}, func(key string, _ store.Record) bool { seen[key]++; return true }); err != nil {
		t.Fatal(err)
	}
	for _, key := range OddKeys {
		if seen[key] != 1 && s.lists {
			t.Errorf("range gave %.60q %d times", key, seen[key])
		}
	}
	huge := strings.Repeat("x", 64<<10) + "@example.org"
	s.put(t, huge, Valid(s.now))
	s.hasNot(t, huge)
	if err := s.Delete(ctx, append(OddKeys, huge)...); err != nil {
		t.Fatal(err)
	}
	for _, key := range OddKeys {
		s.hasNot(t, key)
	}
}

func testLongTexts(t *testing.T, s *suite) {
	rec := Unknown("a@example.org", s.now)
	rec.Standing.Text = strings.Repeat("grüße ", 100_000)
	rec.Standing.Enhanced = strings.Repeat("5", 1000)
	rec.Standing.Backend = strings.Repeat("b", 100_000)
	rec.Transient = rec.Standing
	rec.Transient.Text = "\x00\xff\n" + rec.Standing.Text
	s.put(t, "a@example.org", rec)
	s.has(t, "a@example.org", rec)
	got, _ := s.Get(ctx, "a@example.org")
	if n := len(got.Standing.Text); n > store.MaxText || n < store.MaxText-1 || !strings.HasPrefix(rec.Standing.Text, got.Standing.Text) {
		t.Errorf("a long text was cut to %d octets: %.40q", n, got.Standing.Text)
	}
}

// fill puts 122 records and gives their keys.
func (s *suite) fill(t *testing.T) (keys []string) {
	put := func(key string, rec store.Record) {
		s.put(t, key, rec)
		keys = append(keys, key)
	}
	for i := range 30 {
		for _, domain := range []string{"example.org", "sub.example.org", "example.com"} {
			put(fmt.Sprintf("u%d@%s", i, domain), Valid(s.now))
		}
		key := fmt.Sprintf("no%d@example.org", i)
		put(key, Unknown(key, s.now))
	}
	put(store.FindingKey("smtp:[10.0.0.5]:25", "example.org"), Valid(s.now))
	put("@example.com smtp:[10.0.0.5]:25@example.org", Valid(s.now)) // a recipient like any other
	return keys
}

var patterns = []struct {
	match store.Pattern
	count int
}{
	{store.Pattern{Address: "u1@example.org"}, 1},
	{store.Pattern{Address: "nobody@example.org"}, 0},
	{store.Pattern{Domain: "example.org"}, 62},
	{store.Pattern{Domain: "example.com"}, 30},
	{store.Pattern{Domain: "sub.example.org"}, 30},
	{store.Pattern{Domain: "ample.org"}, 0},
	{store.Pattern{}, 122},
}

func (s *suite) list(t *testing.T, match store.Pattern) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	err := s.Range(ctx, match, func(key string, rec store.Record) bool {
		if seen[key] || !match.Matches(key) || rec.IsZero() {
			t.Errorf("range over %s gave %q: %v", match, key, rec)
		}
		seen[key] = true
		return true
	})
	if err != nil {
		t.Fatalf("range over %s: %v", match, err)
	}
	return seen
}

// count says how many of the keys are there; a place that lists has no others.
func (s *suite) count(t *testing.T, keys []string) (n int) {
	t.Helper()
	if s.lists {
		return len(s.list(t, store.Pattern{}))
	}
	for _, key := range keys {
		if _, err := s.Get(ctx, key); err == nil {
			n++
		}
	}
	return n
}

func testRange(t *testing.T, s *suite) {
	s.fill(t)
	for _, p := range patterns {
		if n := len(s.list(t, p.match)); n != p.count {
			t.Errorf("range over %s gave %d records, want %d", p.match, n, p.count)
		}
	}
	_ = s.Delete(ctx, "u1@example.com", "no1@example.org")
	if n := len(s.list(t, store.Pattern{})); n != 120 {
		t.Errorf("after deleting two there are %d records, want 120", n)
	}
}

func testRangeStops(t *testing.T, s *suite) {
	s.fill(t)
	n := 0
	if err := s.Range(ctx, store.Pattern{}, func(string, store.Record) bool { n++; return n < 7 }); err != nil || n != 7 {
		t.Errorf("range went on to %d after false: %v", n, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Range(ended, store.Pattern{}, func(string, store.Record) bool { return true }); err == nil {
		t.Error("range with a context that has ended gave no error")
	}
}

func testForget(t *testing.T, s *suite) {
	for _, p := range patterns {
		keys := s.fill(t)
		n, err := s.Forget(ctx, store.Tombstone{Pattern: p.match, When: time.Now()})
		if err != nil || (n != p.count && s.lists) {
			t.Fatalf("forgetting %s: %d, %v; want %d", p.match, n, err, p.count)
		}
		if left := s.count(t, keys); left != 122-p.count {
			t.Errorf("after forgetting %s there are %d records, want %d", p.match, left, 122-p.count)
		}
	}
	s.hasNot(t, "u1@example.org")
	s.put(t, "u1@example.org", Valid(s.now))
	s.has(t, "u1@example.org", Valid(s.now))
}
