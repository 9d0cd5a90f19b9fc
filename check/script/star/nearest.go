// SPDX-License-Identifier: BSD-2-Clause

package star

import "strings"

// Nearest is a hint for a name that is not among those there are: " (did you mean .size?)",
// with what is written before the name. It is empty if none is near.
func Nearest(name string, names []string, before string) string {
	best, limit := "", (len(name)+1)/2
	for _, n := range names {
		if strings.HasPrefix(n, "$") {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < limit {
			best, limit = n, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + before + best + "?)"
}

// distance is the number of octets to insert, remove or replace (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(diagonal+cost, row[j]+1, row[j+1]+1)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
