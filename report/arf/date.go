// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// zones are the names of RFC 5322 section 4.3 and those that mail servers write besides, in
// minutes east of Greenwich.
var zones = map[string]int{
	"UT": 0, "UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "BST": 60, "CET": 60, "MET": 60, "CEST": 120, "MEST": 120, "EET": 120, "EEST": 180, "MSK": 180,
	"EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420, "AKST": -540, "AKDT": -480, "HST": -600,
	"JST": 540, "KST": 540, "IST": 330, "SGT": 480, "HKT": 480, "AEST": 600, "AEDT": 660, "ACST": 570, "AWST": 480, "NZST": 720, "NZDT": 780, "BRT": -180,
}

const months = "janfebmaraprmayjunjulaugsepoctnovdec"

// ParseDate reads the date of a mail as they are in the wild: RFC 5322 section 3.3 with its
// obsolete forms (section 4.3: two-digit years, names of zones), without a weekday or with
// the zone in a comment, asctime(3), and RFC 3339. What is given has the zone of the text;
// without one it is UTC.
func ParseDate(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, strings.TrimSpace(s)); err == nil {
		return t, nil
	}
	if t, err := time.Parse("2006-01-02 15:04:05", strings.TrimSpace(s)); err == nil {
		return t, nil
	}
	var d date
	d.zone = -1 << 20
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
		d.word(word)
	}
	if d.day == 0 || d.month == 0 || !d.hasYear || !d.hasClock {
		return time.Time{}, fmt.Errorf("not a date: %q", s)
	}
	zone := time.UTC
	if d.zone != -1<<20 && d.zone != 0 {
		zone = time.FixedZone("", d.zone*60)
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.second, 0, zone)
	if t.Day() != d.day || d.hour > 23 || d.minute > 59 || d.second > 60 {
		return time.Time{}, fmt.Errorf("not a possible date: %q", s)
	}
	return t, nil
}

// date is what was found of one so far.
type date struct {
	day, month, year, hour, minute, second, zone int
	hasYear, hasClock                            bool
}

// word takes one word of a date. Numbers before the clock are a day, then a year.
func (d *date) word(w string) {
	comment := strings.HasPrefix(w, "(")
	w = strings.Trim(w, "()")
	if parts := strings.Split(w, "-"); len(parts) == 3 && len(parts[1]) == 3 { // 28-Nov-2026
		for _, p := range parts {
			d.word(p)
		}
		return
	}
	switch {
	case strings.Count(w, ":") >= 1 && !d.hasClock:
		d.clock(w)
	case len(w) == 5 && (w[0] == '+' || w[0] == '-'):
		d.offset(w)
	case isNumber(w):
		d.number(w)
	default:
		d.name(w, comment)
	}
}

func (d *date) clock(w string) {
	parts := strings.Split(w, ":")
	values := [3]int{}
	for i, p := range parts {
		if i > 2 || !isNumber(p) || len(p) > 2 {
			return
		}
		values[i], _ = strconv.Atoi(p)
	}
	d.hour, d.minute, d.second, d.hasClock = values[0], values[1], values[2], true
}

func (d *date) offset(w string) {
	if n, err := strconv.Atoi(w[1:]); err == nil && n/100 < 24 && n%100 < 60 {
		d.zone = n/100*60 + n%100
		if w[0] == '-' {
			d.zone = -d.zone
		}
	}
}

func (d *date) number(w string) {
	n, err := strconv.Atoi(w)
	switch {
	case err != nil:
	case d.day == 0 && len(w) <= 2 && n >= 1 && n <= 31:
		d.day = n
	case d.hasYear:
	case len(w) == 4:
		d.year, d.hasYear = n, true
	case len(w) == 2 || len(w) == 3: // RFC 5322 section 4.3
		if n < 50 {
			n += 100
		}
		d.year, d.hasYear = 1900+n, true
	}
}

// name takes the name of a month or a zone; one in a comment counts if there is no other.
func (d *date) name(w string, comment bool) {
	if len(w) >= 3 && d.month == 0 {
		if i := strings.Index(months, strings.ToLower(w[:3])); i >= 0 && i%3 == 0 {
			d.month = i/3 + 1
			return
		}
	}
	if minutes, ok := zones[strings.ToUpper(w)]; ok && (!comment || d.zone == -1<<20) {
		d.zone = minutes
	}
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// utc gives the same moment in UTC; the zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
