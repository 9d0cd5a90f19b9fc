// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"rcptgate/config/setting"
)

// Range is a condition on a number: ">100", ">=100", "<100", "<=100", "10-20", "100".
// Numbers may have a unit, see [setting.ParseSize].
type Range struct {
	low, high int64
	text      string
}

// Has reports whether n is in the range.
func (r *Range) Has(n int64) bool { return n >= r.low && n <= r.high }

// Form says what a range is written like.
func (Range) Form() string { return `a range such as ">100", "<=25MB" or "10-20"` }

// MarshalText writes the range as it was read.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText reads a range.
func (r *Range) UnmarshalText(text []byte) error {
	s := strings.ReplaceAll(string(text), " ", "")
	out := Range{low: 0, high: math.MaxInt64, text: string(text)}
	op := s[:len(s)-len(strings.TrimLeft(s, "<>="))]
	first, second, between := strings.Cut(s[len(op):], "-")
	n, err := number(first)
	if err != nil {
		return fmt.Errorf("%q is not a range: expected one such as \">100\", \"<=25MB\" or \"10-20\"", text)
	}
	switch {
	case op == "" && between:
		out.low = n
		out.high, err = number(second)
	case between:
		err = strconv.ErrSyntax
	case op == ">":
		out.low = n + 1
	case op == ">=":
		out.low = n
	case op == "<":
		out.high = n - 1
	case op == "<=":
		out.high = n
	case op == "" || op == "=":
		out.low, out.high = n, n
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || out.low > out.high {
		return fmt.Errorf("%q is not a range: expected one such as \">100\", \"<=25MB\" or \"10-20\"", text)
	}
	*r = out
	return nil
}

// number reads a number, or a size with a unit.
func number(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 && n < math.MaxInt64 {
		return n, nil
	}
	n, err := setting.ParseSize(s)
	return int64(n), err
}

// Window is days and times: "Mon-Fri 08:00-18:00", "Sat,Sun", "22:00-06:00". A time that
// ends before it begins goes on past midnight, and belongs to the day on which it began.
type Window struct {
	days       [7]bool // by time.Weekday
	begin, end int     // minutes since midnight; end is not part of it
	text       string
}

var dayNames = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Form says what a window is written like.
func (Window) Form() string { return `days and times such as "Mon-Fri 08:00-18:00" or "Sat,Sun"` }

// MarshalText writes the window as it was read.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.text), nil }

// UnmarshalText reads a window.
func (w *Window) UnmarshalText(text []byte) error {
	bad := fmt.Errorf("%q: expected days and times such as \"Mon-Fri 08:00-18:00\", \"Sat,Sun\" or \"22:00-06:00\"", text)
	out := Window{end: 24 * 60, text: string(text)}
	words := strings.Fields(string(text))
	if len(words) == 0 || len(words) > 2 {
		return bad
	}
	hours := words[len(words)-1]
	switch hasHours := strings.Contains(hours, ":"); {
	case !hasHours && len(words) == 2:
		return bad
	case hasHours && !out.readHours(hours):
		return bad
	}
	if first := words[0]; !strings.Contains(first, ":") {
		if !out.readDays(strings.ToLower(first)) {
			return bad
		}
	} else if len(words) == 2 {
		return bad
	} else {
		out.days = [7]bool{true, true, true, true, true, true, true}
	}
	*w = out
	return nil
}

func (w *Window) readHours(s string) bool {
	from, to, ok := strings.Cut(s, "-")
	var okBegin, okEnd bool
	w.begin, okBegin = minutes(from)
	w.end, okEnd = minutes(to)
	return ok && okBegin && okEnd && w.begin != w.end && w.begin < 24*60
}

func minutes(s string) (int, bool) {
	h, m, ok := strings.Cut(s, ":")
	hour, errHour := strconv.Atoi(h)
	minute, errMinute := strconv.Atoi(m)
	n := hour*60 + minute
	return n, ok && errHour == nil && errMinute == nil && len(h) == 2 && len(m) == 2 && hour >= 0 && minute >= 0 && minute < 60 && n <= 24*60
}

func (w *Window) readDays(s string) bool {
	for _, part := range strings.Split(s, ",") {
		from, to, ranged := strings.Cut(part, "-")
		first, last := day(from), day(from)
		if ranged {
			last = day(to)
		}
		if first < 0 || last < 0 {
			return false
		}
		for d := first; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == last {
				break
			}
		}
	}
	return true
}

func day(s string) int {
	for i, name := range dayNames {
		if s == name {
			return i
		}
	}
	return -1
}

// Has reports whether a moment is in the window.
func (w *Window) Has(t time.Time) bool {
	now := t.Hour()*60 + t.Minute()
	today, yesterday := w.days[t.Weekday()], w.days[(t.Weekday()+6)%7]
	if w.begin < w.end {
		return today && now >= w.begin && now < w.end
	}
	return today && now >= w.begin || yesterday && now < w.end
}
