// SPDX-License-Identifier: BSD-2-Clause

package names

import (
	"slices"

	"rcptgate/table/index"
)

// view is what alias databases hold at one moment, in their order: the first that has
// a name counts. One that was never read is nil.
type view []*index.Index

func (v view) equal(w view) bool { return slices.Equal(v, w) }

// get gives the value of a name.
func (v view) get(name string) (value string, found bool) {
	for _, x := range v {
		if x == nil {
			continue
		}
		if value, found = x.Get(name); found {
			return value, true
		}
	}
	return "", false
}

// names is how many there are, those in several databases counted as often.
func (v view) names() (n int) {
	for _, x := range v {
		if x != nil {
			n += x.Len()
		}
	}
	return n
}

// walker goes through the names of a view. Its zero value is at the beginning.
type walker struct {
	file  int
	place index.Place
	seen  int // names gone through, those that an earlier database has too
}

// next gives the next name that no earlier database has; ok is false at the end, and
// after "most" names in vain: then more says that it has not come to the end.
func (w *walker) next(v view, most int) (name, value string, ok, more bool) {
	for w.file < len(v) {
		if v[w.file] == nil {
			w.file, w.place = w.file+1, 0
			continue
		}
		name, value, next, found := v[w.file].Next(w.place)
		if !found {
			w.file, w.place = w.file+1, 0
			continue
		}
		w.place = next
		w.seen++
		if _, twice := v[:w.file].get(name); !twice {
			return name, value, true, true
		}
		if most--; most <= 0 {
			return "", "", false, true
		}
	}
	return "", "", false, false
}

// carry takes a walk over one view to the next one of the same databases: it misses
// no name that both have. Of other databases it begins again.
func (w *walker) carry(from, to view) {
	switch {
	case len(from) != len(to):
		*w = walker{}
	case w.file < len(from) && from[w.file] != nil:
		w.place = from[w.file].Rewind(w.place)
	}
}
