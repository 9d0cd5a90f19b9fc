// SPDX-License-Identifier: BSD-2-Clause

package view

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// explainWidth is how many characters a line of Explain has at most.
const explainWidth = 88

// Explain says what tables and their columns mean, as help and manual print it: the name of a
// table and what it is, then its columns, set in by four.
func Explain(tables []Table) string {
	var b strings.Builder
	for _, t := range tables {
		wrap(&b, "", fmt.Sprintf("%s (%s): %s", t.Name, t.Title, t.Doc))
		b.WriteByte('\n')
		widest := 0
		for _, c := range t.Columns {
			widest = max(widest, utf8.RuneCountInString(c.Title))
		}
		for _, c := range t.Columns {
			fmt.Fprintf(&b, "    %-*s  ", widest, c.Title)
			wrap(&b, strings.Repeat(" ", 4+widest+2), c.Doc)
		}
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

// wrap writes a text whose first line has begun as wide as indent is; further lines begin with
// indent.
func wrap(b *strings.Builder, indent, text string) {
	at := len(indent)
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > explainWidth:
			b.WriteString("\n" + indent)
			at = len(indent)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}
