// SPDX-License-Identifier: BSD-2-Clause

package benford

import (
	"cmp"
	"slices"

	"rcptgate/view"
)

// maxGroups bounds the groups that are told apart: each takes some kilobytes.
const maxGroups = 5_000

// Groups counts digits by group. The first that come are kept.
type Groups struct {
	which  Which
	base   int
	counts map[string]*Count
	beyond uint64
}

// NewGroups makes empty groups.
func NewGroups(w Which, base int) *Groups {
	return &Groups{which: w, base: base, counts: map[string]*Count{}}
}

// Add counts a number in a group.
func (g *Groups) Add(group string, n uint64) {
	c := g.counts[group]
	if c == nil {
		if len(g.counts) >= maxGroups {
			g.beyond++
			return
		}
		c = NewCount(g.which, g.base)
		g.counts[group] = c
	}
	c.Add(n)
}

// Beyond is how many numbers belong to groups that had no room.
func (g *Groups) Beyond() uint64 { return g.beyond }

// Table ranks the groups by their deviation: those with enough numbers for a verdict first,
// at most top of them (0 is all).
func (g *Groups) Table(by, what string, top int) view.Table {
	t := view.Table{Name: "benford", Title: what + " by " + by + ": largest deviation from Benford's law first", Empty: "no numbers",
		Columns: view.Columns("group", by, "n", "numbers", "mad", "MAD", "noise_floor", "by chance", "verdict", "verdict")}
	type row struct {
		name string
		*Result
	}
	rows := make([]row, 0, len(g.counts))
	for name, c := range g.counts {
		rows = append(rows, row{cmp.Or(name, "-"), c.Result(what)})
	}
	few := func(r row) int {
		if r.Verdict == TooFew {
			return 1
		}
		return 0
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(few(a), few(b)), cmp.Compare(b.MAD, a.MAD), cmp.Compare(b.N, a.N), cmp.Compare(a.name, b.name))
	})
	for _, r := range rows {
		t.Add("", r.name, r.N, round5(r.MAD), round5(r.Floor), r.Verdict)
	}
	if top > 0 {
		t.Limit(top)
	}
	return t
}

func round5(f float64) float64 { return float64(int64(f*100_000+.5)) / 100_000 }
