// SPDX-License-Identifier: BSD-2-Clause

package index

import (
	"hash/maphash"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func buildSeeded(t testing.TB, seed maphash.Seed, names map[string]bool) *Index {
	t.Helper()
	b := Builder{Seed: seed}
	for k := range names {
		if err := b.Add([]byte(k), []byte("to "+k)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Build(nil)
}

// TestWalk walks over an index that is replaced on the way: every name that all of
// them hold is met.
func TestWalk(t *testing.T) {
	if _, _, next, ok := new(Index).Next(0); ok || next != End {
		t.Error("the zero Index yields something")
	}
	rapid.Check(t, func(r *rapid.T) {
		seed := maphash.MakeSeed()
		names := map[string]bool{}
		for range rapid.IntRange(0, 60).Draw(r, "n") {
			names[name(rapid.IntRange(0, 200).Draw(r, "name"))] = true
		}
		x := buildSeeded(t, seed, names)
		met, kept := map[string]bool{}, maps.Clone(names)
		for at := Place(0); ; {
			key, value, next, ok := x.Next(at)
			if !ok {
				break
			}
			if value != "to "+key || next <= at {
				r.Fatalf("%q is %q, from %d to %d", key, value, at, next)
			}
			met[key], at = true, next
			if rapid.IntRange(0, 9).Draw(r, "replace") == 0 {
				for range rapid.IntRange(0, 40).Draw(r, "more") {
					names[name(rapid.IntRange(0, 1000).Draw(r, "new"))] = true
				}
				for k := range names {
					if len(names) > 1 && !met[k] && rapid.IntRange(0, 9).Draw(r, "drop") == 0 {
						delete(names, k)
						delete(kept, k)
						break
					}
				}
				at = x.Rewind(at)
				x = buildSeeded(t, seed, names)
			}
		}
		for k := range kept {
			if !met[k] {
				r.Fatalf("%s missed", k)
			}
		}
	})
}
