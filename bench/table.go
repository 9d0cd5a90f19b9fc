// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Row is one line of the table.
type Row struct {
	What     string             `json:"what"`
	Measured string             `json:"measured"`
	Bar      string             `json:"bar,omitempty"`
	Met      *bool              `json:"met,omitempty"` // nil: a figure without a bar
	Values   map[string]float64 `json:"values,omitempty"`
}

// Table is what a run found.
type Table struct {
	Rows []Row `json:"rows"`
	// Notes are lines below the table: the machine, the generator's share.
	Notes []string `json:"notes"`
}

// Bar appends a row that is held against a bar.
func (t *Table) Bar(what, measured, bar string, met bool, values map[string]float64) {
	t.Rows = append(t.Rows, Row{What: what, Measured: measured, Bar: bar, Met: &met, Values: values})
}

// Figure appends a row without a bar.
func (t *Table) Figure(what, measured string, values map[string]float64) {
	t.Rows = append(t.Rows, Row{What: what, Measured: measured, Values: values})
}

// Note appends a line below the table.
func (t *Table) Note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

// Missed is the number of rows whose bar was not met.
func (t *Table) Missed() int {
	n := 0
	for i := range t.Rows {
		if met := t.Rows[i].Met; met != nil && !*met {
			n++
		}
	}
	return n
}

// met is the last column's word.
func (r *Row) met() string {
	switch {
	case r.Met == nil:
		return ""
	case *r.Met:
		return "yes"
	}
	return "NO"
}

// Write prints the table in Markdown, its columns aligned for a terminal.
func (t *Table) Write(w io.Writer) error {
	rows := [][]string{{"what", "measured", "bar", "met?"}}
	for i := range t.Rows {
		r := &t.Rows[i]
		rows = append(rows, []string{r.What, r.Measured, r.Bar, r.met()})
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for i, row := range rows {
		for k, cell := range row {
			b.WriteString("| " + cell + strings.Repeat(" ", width[k]-utf8.RuneCountInString(cell)+1))
		}
		b.WriteString("|\n")
		if i == 0 {
			for _, n := range width {
				b.WriteString("|" + strings.Repeat("-", n+2))
			}
			b.WriteString("|\n")
		}
	}
	for _, note := range t.Notes {
		b.WriteString("\n" + note)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON prints the table as one object.
func (t *Table) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(t)
}
