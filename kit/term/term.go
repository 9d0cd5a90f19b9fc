// SPDX-License-Identifier: BSD-2-Clause

// Package term has what commands print with, for people at a terminal and for programs: JSON,
// counted nouns, local times, and how far a long command is.
package term

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// JSON writes v on a line of its own.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Count writes a number with its noun: "1 record", "3 records", "0 entries", "2 aliases".
func Count[N int | int64 | int32 | uint64 | uint32 | uint16 | uint8 | uint](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %s", n, plural(what))
}

// plural is a regular noun, with words before it as the case may be, in the plural.
func plural(noun string) string {
	switch stem, y := strings.CutSuffix(noun, "y"); {
	case y && stem != "" && !strings.ContainsRune("aeiou", rune(stem[len(stem)-1])):
		return stem + "ies"
	case strings.HasSuffix(noun, "s"), strings.HasSuffix(noun, "x"), strings.HasSuffix(noun, "ch"), strings.HasSuffix(noun, "sh"):
		return noun + "es"
	}
	return noun + "s"
}

// Time writes a moment as local time.
func Time(t time.Time) string { return t.Local().Format(time.DateTime) }

// Progress says how far a long command is: after two seconds, then every second.
type Progress struct {
	w    io.Writer
	next time.Time
}

// NewProgress makes a Progress that writes to w, standard error as a rule.
func NewProgress(w io.Writer) *Progress {
	return &Progress{w: w, next: time.Now().Add(2 * time.Second)}
}

// Report says how far it is, if it is time to.
func (p *Progress) Report(how string) {
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(time.Second)
		fmt.Fprintf(p.w, "%s so far\n", how)
	}
}
