// SPDX-License-Identifier: BSD-2-Clause

package benford

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"rcptgate/kit/term"
)

// Text writes the result for a terminal: a table with bars, the measures and the verdict.
// Width is the terminal's in columns; with ascii there are no characters beyond ASCII.
func (r *Result) Text(w io.Writer, width int, ascii bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s digit%s in base %d\n\n", r.What, term.Count(r.N, "number"), strings.ReplaceAll(r.Digits, "-", " "), plural(r.Digits), r.Base)
	top := 0.0
	for _, d := range r.Rows {
		top = max(top, d.Share, d.Expected)
	}
	room := min(max(width-52, 10), 80)
	b.WriteString("digit      count   share  expected    diff      z\n")
	for _, d := range r.Rows {
		fmt.Fprintf(&b, "%5s %10d  %.4f    %.4f %+.4f %6.2f  %s\n", d.Digit, d.Count, d.Share, d.Expected, d.Share-d.Expected, d.Z, bar(d, top, room, ascii))
	}
	fmt.Fprintf(&b, "\nMAD         %.5f   (%.5f by chance alone)\n", r.MAD, r.Floor)
	fmt.Fprintf(&b, "chi-square  %.2f with %s of freedom, p = %.3g\n", r.Chi2, term.Count(r.DF, "degree"), r.ChiP)
	fmt.Fprintf(&b, "KS          %.5f   (5 %% bound %.5f)\n", r.KS, r.KS5)
	fmt.Fprintf(&b, "numbers     from %d (5 %%) over %d (median) to %d (95 %%), %.1f decades\n", r.P5, r.Median, r.P95, r.Decades)
	if r.Zeros > 0 {
		fmt.Fprintf(&b, "left out    %d that are 0\n", r.Zeros)
	}
	if r.Short > 0 {
		fmt.Fprintf(&b, "left out    %d with one digit only\n", r.Short)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Sentence())
	if caution := r.Caution(); caution != "" {
		b.WriteString(caution + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func plural(digits string) string {
	if digits == FirstTwo.String() {
		return "s"
	}
	return ""
}

// bar draws a share, with a mark where the law has it.
func bar(d Digit, top float64, room int, ascii bool) string {
	if top <= 0 {
		return ""
	}
	scale := float64(room) / top
	mark := min(int(math.Round(d.Expected*scale)), room-1)
	cells := []rune(strings.Repeat(" ", room+1))
	full := d.Share * scale
	for i := range int(full) {
		cells[i] = map[bool]rune{true: '#', false: '█'}[ascii]
	}
	if rest := int((full - math.Floor(full)) * 8); !ascii && rest > 0 {
		cells[int(full)] = []rune(" ▏▎▍▌▋▊▉")[rest]
	}
	cells[mark] = map[bool]rune{true: '|', false: '│'}[ascii]
	return strings.TrimRight(string(cells), " ")
}

// CSV writes the table of digits (RFC 4180).
func (r *Result) CSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write([]string{"digit", "count", "share", "expected", "diff", "z"})
	for _, d := range r.Rows {
		_ = out.Write([]string{d.Digit, strconv.FormatUint(d.Count, 10), number(d.Share), number(d.Expected), number(d.Share - d.Expected), number(d.Z)})
	}
	out.Flush()
	return out.Error()
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', 6, 64) }
