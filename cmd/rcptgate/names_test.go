// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/store"
)

// TestNamesBudget holds that all steps of a chain spend from one budget, and that each
// question has its own.
func TestNamesBudget(t *testing.T) {
	var left []time.Duration
	step := rcptgate.CheckFunc(func(ctx context.Context, _ *rcptgate.Query) (rcptgate.Verdict, error) {
		b := store.BudgetOf(ctx)
		left = append(left, b.Left(time.Hour))
		b.Spend(30 * time.Millisecond)
		return rcptgate.Verdict{}, nil
	})
	chain := &rcptgate.Chain{Deadline: time.Minute, Steps: []rcptgate.Step{{Name: "one", Check: step}, {Name: "two", Check: step}}}
	names := &aliasNames{patience: 40 * time.Millisecond}
	for range 2 {
		if _, err := names.budgeted(chain).Check(context.Background(), new(rcptgate.Query)); err != nil {
			t.Fatal(err)
		}
	}
	if len(left) != 4 || left[0] != 40*time.Millisecond || left[1] != 10*time.Millisecond || left[2] != left[0] || left[3] != left[1] {
		t.Errorf("left: %v", left)
	}
	for _, none := range []*aliasNames{nil, {}} {
		if none.budgeted(chain) != rcptgate.Check(chain) {
			t.Error("a budget where nothing is shared")
		}
	}
}

// TestNoNames: where no memcached was configured at the start, names are unknown, and
// nobody is asked.
func TestNoNames(t *testing.T) {
	var none *aliasNames
	if _, found, err := none.table().Lookup(context.Background(), "ann"); found || !errors.Is(err, errNoNames) {
		t.Errorf("%v, %v", found, err)
	}
}
