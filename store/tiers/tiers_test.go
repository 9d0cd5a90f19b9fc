// SPDX-License-Identifier: BSD-2-Clause

package tiers

import (
	"context"
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/store/ram"
)

func valid(now time.Time) store.Record {
	return store.Record{Standing: store.Answer{
		Class: store.Valid, Code: 250, Enhanced: "2.1.5", Text: "Ok", Backend: "smtp:[10.0.0.5]:25",
		Learnt: now, Refresh: now.Add(24 * time.Hour), Expire: now.Add(31 * 24 * time.Hour),
	}}
}

// learnValid says that key is valid, whatever was known.
func learnValid(t *Tiers, key string, began time.Time) {
	t.Learn(key, began, func(store.Record) store.Record { return valid(time.Now()) })
}

// A question is one hit or one miss, however often the tiers look after what lies in RAM.
func TestStatsCountQuestions(t *testing.T) {
	t.Parallel()
	tiers := New(ram.New(ram.Options{Entries: 1000}), ram.New(ram.Options{Entries: 1000}))
	defer tiers.Close()
	ctx := context.Background()
	counts := func(hits, misses uint64) {
		t.Helper()
		if st := tiers.Stats()[0]; st.Hits != hits || st.Misses != misses {
			t.Errorf("%d hits, %d misses; want %d, %d", st.Hits, st.Misses, hits, misses)
		}
	}
	_, _, _ = tiers.Recall(ctx, "a@b.example")
	counts(0, 1)
	learnValid(tiers, "a@b.example", time.Now())
	counts(0, 1)
	_, _, _ = tiers.Recall(ctx, "a@b.example")
	counts(1, 1)
	learnValid(tiers, "a@b.example", time.Now())
	_, _ = tiers.Fresh("a@b.example")
	counts(1, 1)
}

func TestLearnRecallForget(t *testing.T) {
	t.Parallel()
	tiers := New(ram.New(ram.Options{Entries: 1000}))
	defer tiers.Close()
	ctx := context.Background()
	began := time.Now()
	learnValid(tiers, "a@b.example", began)
	rec, source, ok := tiers.Recall(ctx, "a@b.example")
	if !ok || source != "ram" || rec.Standing.Class != store.Valid {
		t.Fatalf("got %v from %q, %v", rec, source, ok)
	}
	for _, match := range []store.Pattern{{Address: "a@b.example"}, {Domain: "b.example"}, {}} {
		learnValid(tiers, "a@b.example", time.Now())
		if n, err := tiers.Forget(ctx, match); n != 1 || err != nil {
			t.Fatalf("forgetting %s: %d, %v", match, n, err)
		}
		learnValid(tiers, "a@b.example", began)
		if _, _, ok := tiers.Recall(ctx, "a@b.example"); ok {
			t.Fatalf("a probe that began before %s was forgotten was kept", match)
		}
	}
	learnValid(tiers, "a@b.example", time.Now())
	if _, _, ok := tiers.Recall(ctx, "a@b.example"); !ok {
		t.Fatal("a probe that began after the forget was not kept")
	}
}
