// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/store"
)

// memory is a Memory of one place that can be told to fail.
type memory struct {
	mu      sync.Mutex
	records map[string]store.Record
	failure error
}

func newMemory(t *testing.T) *memory {
	t.Helper()
	return &memory{records: map[string]store.Record{}}
}

func (m *memory) Recall(_ context.Context, key string) (store.Record, string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[key]
	return rec, "ram", ok
}

func (m *memory) Learn(key string, _ time.Time, change func(store.Record) store.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[key] = change(m.records[key])
}

func (m *memory) Forget(_ context.Context, p store.Pattern) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.records {
		if p.Matches(key) {
			delete(m.records, key)
			n++
		}
	}
	return n, m.failure
}

func (m *memory) Range(_ context.Context, p store.Pattern, f func(string, store.Record) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, rec := range m.records {
		if p.Matches(key) && !f(key, rec) {
			break
		}
	}
	return m.failure
}

func (m *memory) Stats() []store.Stats {
	return []store.Stats{{Name: "ram", Entries: int64(len(m.records))}}
}

func valid(learnt time.Time) store.Record {
	return store.Record{Standing: store.Answer{
		Class: store.Valid, Code: 250, Enhanced: "2.1.5", Text: "Ok\nyes", Backend: "smtp:[10.0.0.5]:25",
		Learnt: learnt, Refresh: learnt.Add(24 * time.Hour), Expire: learnt.Add(31 * 24 * time.Hour),
	}}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func TestExportIsImportedAgain(t *testing.T) {
	from, to := newMemory(t), newMemory(t)
	rec := valid(now())
	rec.Transient = store.Answer{Class: store.Full, Code: 452, Enhanced: "4.2.2", Text: "<full> & ü", Learnt: now(), Expire: now().Add(time.Hour)}
	rec.Doubt = store.Doubt{Count: 2, First: now().Add(-time.Hour), Last: now()}
	rec.Tried = now().Add(-time.Minute)
	from.records["someone@example.com"] = rec
	from.records["ü\xff\"@x.example"] = valid(now())
	finding := valid(now())
	finding.Standing.Class = store.AcceptAll
	from.records[store.FindingKey("smtp:[10.0.0.5]:25", "example.com")] = finding
	from.records["@evil.example x@example.com"] = valid(now()) // "@evil.example x"@example.com
	for i := range 3000 {
		from.records[fmt.Sprintf("u%d@example.net", i)] = valid(now())
	}
	source := run(t, Options{Memory: from, Hostname: func() string { return "mx1" }})
	var file bytes.Buffer
	seen := 0
	n, err := source.Export(t.Context(), "", &file, func(records int) { seen = records })
	if err != nil || n != len(from.records) || seen != 3000 {
		t.Fatalf("%d of %d, progress %d, %v", n, len(from.records), seen, err)
	}
	octets := int64(0)
	size := int64(file.Len())
	im, err := run(t, Options{Memory: to}).Import(t.Context(), &file, func(n int64) { octets = n })
	if err != nil || im.Taken != n || im.Bad != 0 || im.Truncated || octets != size {
		t.Fatalf("%+v, %d octets of %d, %v", im, octets, size, err)
	}
	if !reflect.DeepEqual(from.records, to.records) {
		for key, rec := range from.records {
			if !reflect.DeepEqual(rec, to.records[key]) {
				t.Fatalf("%q: %+v became %+v", key, rec, to.records[key])
			}
		}
	}
}

func TestFindingsOfADomain(t *testing.T) {
	m := newMemory(t)
	for i, class := range []store.Class{store.AcceptAll, store.Selective} {
		rec := valid(now())
		rec.Standing.Class = class
		m.records[store.FindingKey(fmt.Sprintf("smtp:[10.0.0.%d]:25", i), "example.com")] = rec
	}
	m.records[store.FindingKey("smtp:[10.0.0.9]:25", "other.example")] = valid(now())
	m.records["ann@example.com"] = valid(now())
	c := run(t, Options{Memory: m})
	d, err := c.Domain(t.Context(), "Example.com.")
	if err != nil || d.Domain != "example.com" || d.Recipients != 1 || len(d.Findings) != 2 {
		t.Fatalf("%+v, %v", d, err)
	}
	for i, class := range []string{"accept-all", "selective"} {
		if f := d.Findings[i]; f.Standing == nil || f.Standing.Class != class || f.Source != "ram" {
			t.Errorf("finding %d: %+v", i, f)
		}
	}
	var refusal *Refusal
	if _, err := c.Domain(t.Context(), "stranger.example"); !errors.As(err, &refusal) || !refusal.NotFound() {
		t.Errorf("a domain that nothing is known of: %v", err)
	}
	if _, err := c.Domain(t.Context(), ""); !errors.As(err, &refusal) || !refusal.BadRequest() {
		t.Errorf("no domain: %v", err)
	}
}

func TestImportJudgesEveryLine(t *testing.T) {
	m := newMemory(t)
	newer, older := now(), now().Add(-48*time.Hour)
	m.records["newer@x"] = valid(newer)
	m.records["older@x"] = valid(older.Add(-time.Hour))
	stamp := func(d time.Duration) string { return now().Add(d).Format(time.RFC3339) }
	answer := func(class string, code int, learnt, expire time.Duration) string {
		return fmt.Sprintf(`{"class":%q,"code":%d,"learnt":%q,"expire":%q}`, class, code, stamp(learnt), stamp(expire))
	}
	day := 24 * time.Hour
	lines := []string{
		`{"rcptgate_cache":1,"host":"x","exported":"2026-01-01T00:00:00Z"}`,
		`{"key":"newer@x","standing":` + answer("valid", 250, -day, day) + `}`,
		`{"key":"older@x","standing":` + answer("valid", 250, -day, day) + `}`,
		`{"key":"gone@x","standing":` + answer("valid", 250, -2*day, -day) + `}`,
		``,
		`nonsense`, // 6
		`{"key":"a@x"}`,
		`{"key":"nodomain","standing":` + answer("valid", 250, 0, day) + `}`,
		`{"key":"a@X","standing":` + answer("valid", 250, 0, day) + `}`,
		`{"key":"a\n@x","standing":` + answer("valid", 250, 0, day) + `}`, // 10
		`{"key":"a@x","standing":` + answer("full", 452, 0, day) + `}`,
		`{"key":"a@x","passing":` + answer("valid", 250, 0, day) + `}`,
		`{"key":"a@x","standing":` + answer("accept-all", 250, 0, day) + `}`,
		`{"key":"a@x","standing":` + answer("unknown", 250, 0, day) + `}`,
		`{"key":"a@x","standing":` + answer("valid", 1, 0, day) + `}`, // 15
		`{"key":"a@x","standing":` + answer("valid", 250, 2*time.Hour, day) + `}`,
		`{"key":"a@x","standing":` + answer("valid", 250, 0, 5000*day) + `}`,
		`{"key":"a@x","stading":` + answer("valid", 250, 0, day) + `}`,
		`{"key":"` + strings.Repeat("a", maxKey) + `@x","standing":` + answer("valid", 250, 0, day) + `}`,
		`{"key":"` + strings.Repeat("a", 5*maxLine) + `@x","standing":` + answer("valid", 250, 0, day) + `}`, // 20
		`{"standing":` + answer("valid", 250, 0, day) + `}`,
		`{"key":"a@x","standing":` + answer("valid", 550, 0, day) + `}`, // 22
		`{"key":"bad@x","standing":` + strings.Replace(answer("unknown", 550, 0, day), `"code"`, `"text":"a\u0000\rb","code"`, 1) + `}`,
		`{"key":"last@x","passing":` + answer("deferred", 450, 0, time.Hour) + `}`,
	}
	c := run(t, Options{Memory: m})
	im, err := c.Import(t.Context(), strings.NewReader(strings.Join(lines, "\n")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if im.Taken != 3 || im.Kept != 1 || im.Expired != 1 || im.Bad != 17 || !im.Truncated || len(im.Errors) != 17 {
		t.Errorf("%+v", im)
	}
	for i, e := range im.Errors {
		if !strings.HasPrefix(e, fmt.Sprintf("line %d: ", 6+i)) {
			t.Errorf("error %d: %s", i, e)
		}
	}
	if m.records["newer@x"].Standing.Learnt != newer || !m.records["older@x"].Standing.Learnt.After(older) || m.records["bad@x"].Standing.Text != "a  b" {
		t.Errorf("%+v", m.records)
	}
	if len(m.records) != 4 {
		t.Errorf("%d records: %v", len(m.records), m.records)
	}
	for _, head := range []string{"", "{}", `{"rcptgate_cache":2}`} {
		var refusal *Refusal
		if _, err := c.Import(t.Context(), strings.NewReader(head+"\n"+lines[22]), nil); !errors.As(err, &refusal) || !strings.Contains(refusal.Text, "line 1") {
			t.Errorf("%q: %v", head, err)
		}
	}
}

func TestForgetShowAndList(t *testing.T) {
	m := newMemory(t)
	for _, key := range []string{"a@x", "b@x", "c@y", "d@y"} {
		m.records[key] = valid(now())
	}
	c := run(t, Options{Memory: m})
	ctx := t.Context()
	if r, err := c.Show(ctx, "<A@X>"); err != nil || r.Key != "a@x" || r.Source != "ram" || r.Standing.Class != "valid" || r.Transient != nil {
		t.Errorf("%+v, %v", r, err)
	}
	var refusal *Refusal
	if _, err := c.Show(ctx, "none@x"); !errors.As(err, &refusal) || !refusal.NotFound() {
		t.Errorf("%v", err)
	}
	var keys []string
	if err := c.List(ctx, "@Y.", func(r Record) error { keys = append(keys, r.Name()); return nil }); err != nil || len(keys) != 2 {
		t.Errorf("%v, %v", keys, err)
	}
	stop := errors.New("stop")
	if err := c.List(ctx, "", func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	for _, patterns := range [][]string{nil, {""}, {"a@x", "nonsense"}, {"@"}, {"@a@b"}} {
		if _, err := c.Forget(ctx, patterns...); !errors.As(err, &refusal) || !refusal.BadRequest() || len(m.records) != 4 {
			t.Errorf("%q: %v", patterns, err)
		}
	}
	if f, err := c.Forget(ctx, "A@x", "@y"); err != nil || f.Records != 3 || f.Incomplete != "" || len(m.records) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	m.failure = errors.New("forgetting in disk: full")
	if f, err := c.Flush(ctx); err != nil || f.Records != 1 || !strings.Contains(f.Incomplete, "disk") {
		t.Errorf("%+v, %v", f, err)
	}
	m.records["a@x"] = valid(now())
	if err := c.List(ctx, "", func(Record) error { return nil }); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("a place that could not be read is not told: %v", err)
	}
	if p, err := c.Stats(ctx); err != nil || len(p) != 1 || p[0].Entries != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"key":"a@x","standing":{"class":"valid","code":250,"learnt":"2026-01-01T00:00:00Z","expire":"2026-12-01T00:00:00Z"}}`))
	f.Add([]byte(`{"key_base64":"/w==","passing":{"class":"full","code":452,"text":"a\nb"},"doubt":{"count":3}}`))
	f.Add([]byte(`{"key":"@x smtp:[10.0.0.5]:25","standing":{"class":"accept-all","code":250}}`))
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line []byte) {
		key, rec, err := parseRecord(line, at)
		if err != nil {
			return
		}
		if key == "" || len(key) > maxKey || strings.ContainsAny(store.KeyText(key), "\r\n\x00") || rec.IsZero() || rec.Standing.Class.Refuses() && rec.Standing.Code < 400 {
			t.Fatalf("%q let in %q %+v", line, key, rec)
		}
	})
}
