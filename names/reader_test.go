// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rcptgate/kit/testkit"
	"time"

	"rcptgate/store"
)

// fixedNames is one published name; it counts the questions.
type fixedNames struct {
	store.Names
	name, value string
	questions   int
}

func (f *fixedNames) Find(_ context.Context, names []string) (map[string]store.Name, error) {
	f.questions++
	for _, n := range names {
		if n == f.name {
			return map[string]store.Name{n: {Value: f.value, Expire: time.Now().Add(time.Hour)}}, nil
		}
	}
	return nil, nil
}

// TestReaderBounds floods the copies: the names in use stay, and memory is bounded.
func TestReaderBounds(t *testing.T) {
	f := &fixedNames{name: "sales", value: strings.Repeat("ann@in.test,", 300) + "ann@in.test"}
	r := NewReader(f)
	ctx := context.Background()
	if _, found, err := r.Lookup(ctx, "sales"); !found || err != nil {
		t.Fatal(found, err)
	}
	for i := range testkit.Rounds(40_000, 100_000) {
		if _, found, err := r.Lookup(ctx, fmt.Sprintf("random%d", i)); found || err != nil {
			t.Fatal(found, err)
		}
	}
	f.questions = 0
	if _, found, _ := r.Lookup(ctx, "sales"); !found || f.questions != 0 {
		t.Error("a flood of absent names evicted one in use")
	}
	r.absent.CleanUp()
	if n := r.absent.WeightedSize(); n > maxAbsent || r.Stats().Evicted == 0 {
		t.Errorf("%d octets held, %d evicted", n, r.Stats().Evicted)
	}
}
