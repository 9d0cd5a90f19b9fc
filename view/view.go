// SPDX-License-Identifier: BSD-2-Clause

// Package view has what a unit shows of itself: tables of plain values. "rcptgate status"
// prints them, the status page shows them, and programs get them as JSON: one source for
// all three.
package view

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Column is one column of a table.
type Column struct {
	// Key names the value for programs. A duration's key ends in "_s" in JSON, by itself.
	Key string `json:"key"`
	// Title stands above the column, for people.
	Title string `json:"title"`
	// Doc says what the values are, for help and manual. Columns of what commands print need
	// none.
	Doc string `json:"-"`
}

// Explained makes columns of keys, titles and docs in turn: every table that a unit shows
// says of each column what it means.
func Explained(triples ...string) []Column {
	out := make([]Column, 0, len(triples)/3)
	for i := 0; i+2 < len(triples); i += 3 {
		out = append(out, Column{triples[i], triples[i+1], triples[i+2]})
	}
	return out
}

// Columns makes columns of keys and titles in turn.
func Columns(pairs ...string) []Column {
	out := make([]Column, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, Column{Key: pairs[i], Title: pairs[i+1]})
	}
	return out
}

// Row is one row. Cells are string, bool, int, int64, uint64, float64, time.Time or
// time.Duration; nil and a zero time are "nothing".
type Row struct {
	Cells []any
	// Attention says why this row needs a person; empty when it does not.
	Attention string
	// Matter is the key of the notice that says the same (package notice): where the board
	// lists that, Attention is not listed as well. It may be empty.
	Matter string
}

// Table is what a unit shows of one matter.
type Table struct {
	Name    string // a word for the command line and for programs: "backends"
	Unit    string // whose it is, "blocklist"; "" for the host's own. Set by the host
	Title   string // for people: "Servers behind"
	Doc     string // what it is, for help and manual
	Empty   string // said when there are no rows
	Columns []Column
	Rows    []Row
	More    int // rows that were left out
}

// Add appends a row.
func (t *Table) Add(attention string, cells ...any) {
	t.Rows = append(t.Rows, Row{Cells: cells, Attention: attention})
}

// About sets the matter of the last row.
func (t *Table) About(matter string) { t.Rows[len(t.Rows)-1].Matter = matter }

// Limit leaves out the rows above n.
func (t *Table) Limit(n int) {
	if len(t.Rows) > n {
		t.More += len(t.Rows) - n
		t.Rows = t.Rows[:n]
	}
}

// Attention are the reasons why rows need a person.
func (t *Table) Attention() (why []string) {
	for i := range t.Rows {
		if a := t.Rows[i].Attention; a != "" {
			why = append(why, a)
		}
	}
	return why
}

// wire is a Table in JSON. Rows are objects, so that a new column breaks no program.
type wire struct {
	Name    string           `json:"name"`
	Title   string           `json:"title"`
	Empty   string           `json:"empty,omitempty"`
	Columns []Column         `json:"columns"`
	Rows    []map[string]any `json:"rows"`
	More    int              `json:"more,omitempty"`
}

const attentionKey = "attention"

// MarshalJSON writes rows as objects. Times are RFC 3339, durations seconds.
func (t Table) MarshalJSON() ([]byte, error) {
	w := wire{Name: t.Name, Title: t.Title, Empty: t.Empty, Columns: t.Columns, Rows: []map[string]any{}, More: t.More}
	for _, r := range t.Rows {
		row := map[string]any{}
		for i, c := range t.Columns {
			if i < len(r.Cells) {
				setJSON(row, c.Key, r.Cells[i])
			}
		}
		if r.Attention != "" {
			row[attentionKey] = r.Attention
		}
		w.Rows = append(w.Rows, row)
	}
	return json.Marshal(w)
}

func setJSON(row map[string]any, key string, cell any) {
	switch v := cell.(type) {
	case time.Duration:
		row[strings.TrimSuffix(key, "_s")+"_s"] = v.Seconds()
	case time.Time:
		if row[key] = nil; !v.IsZero() {
			row[key] = v.UTC()
		}
	default:
		row[key] = v
	}
}

// UnmarshalJSON reads what MarshalJSON writes: durations and times come back as such.
func (t *Table) UnmarshalJSON(data []byte) error {
	var w wire
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if err := d.Decode(&w); err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	*t = Table{Name: w.Name, Title: w.Title, Empty: w.Empty, Columns: w.Columns, More: w.More}
	for _, row := range w.Rows {
		r := Row{}
		for _, c := range w.Columns {
			r.Cells = append(r.Cells, cellOf(row, c.Key))
		}
		r.Attention, _ = row[attentionKey].(string)
		t.Rows = append(t.Rows, r)
	}
	return nil
}

func cellOf(row map[string]any, key string) any {
	if n, ok := row[strings.TrimSuffix(key, "_s")+"_s"].(json.Number); ok {
		f, _ := n.Float64()
		return time.Duration(f * float64(time.Second))
	}
	switch v := row[key].(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return at
		}
		return v
	default:
		return v
	}
}

// Text writes a cell for people, at the time now: a time as how long ago it was.
func Text(cell any, now time.Time) string {
	switch v := cell.(type) {
	case nil:
		return "-"
	case string:
		if v == "" {
			return "-"
		}
		return Clean(v)
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case time.Time:
		return Ago(now, v)
	case time.Duration:
		return Duration(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case int, int64, uint64:
		return group(fmt.Sprint(v))
	}
	return Clean(fmt.Sprint(cell))
}

// Clean replaces what would not be seen, turn a line around or command a terminal.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return '�'
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}

// Ago writes how long before now t was, to the second; a later t is of this moment.
func Ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return Duration(max(now.Sub(t), 0).Round(time.Second)) + " ago"
}

// Left writes how long after now t is, to the second; an earlier t is of this moment.
func Left(now, t time.Time) string { return Duration(max(t.Sub(now), 0).Round(time.Second)) }

// When writes a moment as local time, and how far away it is: "2026-11-01 11:56:48 (3m 12s ago)".
func When(now, t time.Time) string {
	away := Ago(now, t)
	switch {
	case t.IsZero():
		return away
	case t.After(now):
		away = "in " + Left(now, t)
	}
	return t.Local().Format(time.DateTime) + " (" + away + ")"
}

// Duration writes a duration in its two largest units: "30d 23h", "4m 10s", "350ms". Everything
// that people read has ages and times left like this; seconds are rounded.
func Duration(d time.Duration) string {
	if d > time.Second-time.Millisecond {
		d = d.Round(time.Second)
	}
	units := []struct {
		word string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.size {
			continue
		}
		text := strconv.FormatInt(int64(d/u.size), 10) + u.word
		if i+1 < len(units) {
			if rest := d % u.size / units[i+1].size; rest > 0 {
				text += " " + strconv.FormatInt(int64(rest), 10) + units[i+1].word
			}
		}
		return text
	}
	if d >= time.Millisecond {
		return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
	}
	if d >= time.Microsecond {
		return strconv.FormatInt(int64(d/time.Microsecond), 10) + "µs"
	}
	return "0s"
}

// group separates thousands by a thin space.
func group(s string) string {
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
