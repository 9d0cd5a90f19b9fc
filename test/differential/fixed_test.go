// SPDX-License-Identifier: BSD-2-Clause

package differential

import (
	"slices"
	"strings"
	"testing"
)

// TestFixedWorlds puts every fixed world to its MTA and to the gate.
func TestFixedWorlds(t *testing.T) {
	known := knownMismatches()
	for _, mta := range []MTA{Sendmail, Postfix} {
		b := NewBench(t)
		t.Run(string(mta), func(t *testing.T) {
			t.Parallel()
			for _, f := range fixed() {
				if f.MTA == mta {
					t.Run(f.Name, func(t *testing.T) { f.run(t, b, slices.Contains(known, string(mta)+": "+f.Name)) })
				}
			}
		})
	}
	for _, name := range known {
		if !slices.ContainsFunc(fixed(), func(f Fixed) bool { return string(f.MTA)+": "+f.Name == name }) {
			t.Errorf("known.go lists %q, and there is no such world", name)
		}
	}
}

// run compares one world; listed says that known.go holds it.
func (f *Fixed) run(t *testing.T, b *Bench, listed bool) {
	matches := true
	for _, o := range b.Ask(t, &f.World) {
		if o.Alone != f.Alone {
			t.Errorf("%s\nthe MTA alone was expected to have it %s: %s", &o, f.Alone, strings.Join(o.Lines, "\n"))
		}
		if o.Answered() == f.Right {
			continue
		}
		matches = false
		if !listed {
			t.Errorf("%s\nright is %s", &o, f.Right)
		}
	}
	if listed && matches {
		t.Errorf("this world matches now: take it off the list in known.go")
	}
}
