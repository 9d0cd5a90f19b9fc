// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"fmt"
	"reflect"
	"strings"
)

// nearest finds the option that an unknown key was probably meant to be, "" if none
// is near: other separators, a prefix, or a few slips of the finger.
func nearest(key string, options []option) string {
	if len(key) > 64 {
		return ""
	}
	plain := plainKey(key)
	best, distance := "", 1+max(1, len(key)/4)
	for _, o := range options {
		if plainKey(o.name) == plain {
			return o.name
		}
		if d := editDistance(plain, plainKey(o.name)); d < distance {
			best, distance = o.name, d
		}
	}
	return best
}

func plainKey(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// editDistance counts insertions, deletions, changes and swaps of neighbours that
// turn a into b.
func editDistance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	earlier := make([]int, len(b)+1)
	for j := range before {
		before[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(before[j]+1, row[j-1]+1, before[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], earlier[j-2]+1)
			}
		}
		earlier, before, row = before, row, earlier
	}
	return before[len(b)]
}

const noSection = "\x00"

// sectionWith finds the section that has an option called key: an option written
// below the wrong header is TOML's commonest slip. noSection if there is none.
func sectionWith(t reflect.Type, path, key string) string {
	options := optionsOf(t)
	if optionNamed(options, key) != nil {
		return path
	}
	for _, o := range options {
		inner := o.typ
		if elementIsTable(inner) {
			inner = inner.Elem()
		}
		if path == "" && shapeOf(inner) == shapeTable {
			if found := sectionWith(inner, o.name, key); found != noSection {
				return found
			}
		}
	}
	return noSection
}

func placeName(section string) string {
	if section == "" {
		return "at the top of the file, before the first [section]"
	}
	return fmt.Sprintf("in section [%s]", section)
}
