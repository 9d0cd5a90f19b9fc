// SPDX-License-Identifier: BSD-2-Clause

package view

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Print writes a table for a terminal: its title, then columns that line up. Long cells
// are not cut: what a postmaster looks for is often at their end.
func (t *Table) Print(w io.Writer, now time.Time) error {
	var b strings.Builder
	b.WriteString(Clean(t.Title) + "\n")
	if len(t.Rows) == 0 {
		empty := t.Empty
		if empty == "" {
			empty = "none"
		}
		b.WriteString("  " + Clean(empty) + "\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	lines := [][]string{make([]string, len(t.Columns))}
	for i, c := range t.Columns {
		lines[0][i] = c.Title
	}
	for _, r := range t.Rows {
		line := make([]string, len(t.Columns))
		for i := range line {
			line[i] = "-"
			if i < len(r.Cells) {
				line[i] = Text(r.Cells[i], now)
			}
		}
		lines = append(lines, line)
	}
	writeAligned(&b, lines, t.numeric())
	if t.More > 0 {
		fmt.Fprintf(&b, "  and %d more\n", t.More)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// numeric reports for each column whether it holds numbers, which line up at the right.
func (t *Table) numeric() []bool {
	out := make([]bool, len(t.Columns))
	for i := range out {
		for _, r := range t.Rows {
			if i >= len(r.Cells) {
				continue
			}
			switch r.Cells[i].(type) {
			case int, int64, uint64, float64:
				out[i] = true
			}
		}
	}
	return out
}

// widest bounds the width that one cell gives its column, in characters: a longer one, such as an
// address that an attacker has made up, moves only the rest of its own line.
const widest = 100

func writeAligned(b *strings.Builder, lines [][]string, right []bool) {
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			if n := utf8.RuneCountInString(cell); n <= widest {
				width[i] = max(width[i], n)
			}
		}
	}
	for _, line := range lines {
		var row strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", max(0, width[i]-utf8.RuneCountInString(cell)))
			if right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			row.WriteString("  " + cell)
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
}
