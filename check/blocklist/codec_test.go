// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rcptgate"
)

// line is an entry as it is written, with some of its fields changed.
func line(change map[int]string) string {
	now := time.Unix(1_800_000_000, 0)
	e := &entry{Listing: rcptgate.Listing{
		Network: netip.MustParsePrefix("198.51.100.7/32"), First: now, Last: now, Until: now.Add(time.Hour), Count: 3, Evidence: "Win.X", QueueID: "4Q1",
	}, life: time.Hour}
	fields := strings.Split(strings.TrimSuffix(string(appendEntry(nil, e)), "\n"), "\t")
	for i, text := range change {
		fields[i] = text
	}
	return strings.Join(fields, "\t")
}

// TestEntriesThatCannotBe reads what damaged files, other gateways and strangers may write.
func TestEntriesThatCannotBe(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	millis := func(d time.Duration) string { return fmt.Sprint(now.Add(d).UnixMilli()) }
	if e, err := parseEntry(line(nil)+"\tfurther", now, time.Hour); err != nil || e.Count != 3 || e.Evidence != "Win.X" || e.QueueID != "4Q1" || !e.Until.Equal(now.Add(time.Hour)) || e.life != time.Hour {
		t.Fatalf("%v, %+v", err, e)
	}
	for name, text := range map[string]string{
		"too long":             line(map[int]string{8: strings.Repeat("x", lineMax)}),
		"another version":      line(map[int]string{0: "rgl2"}),
		"nine fields":          strings.TrimSuffix(line(nil), "\t4Q1"),
		"not a network":        line(map[int]string{1: "198.51.100.7"}),
		"host bits":            line(map[int]string{1: "198.51.100.7/24"}),
		"IPv4 in IPv6":         line(map[int]string{1: "::ffff:198.51.100.7/128"}),
		"not a number":         line(map[int]string{5: "x"}),
		"below zero":           line(map[int]string{6: "-1"}),
		"after the year 9999":  line(map[int]string{4: fmt.Sprint(maxMillis + 1)}),
		"last in the future":   line(map[int]string{3: millis(ahead + time.Millisecond)}),
		"removed in it":        line(map[int]string{7: millis(ahead + time.Millisecond)}),
		"first after the last": line(map[int]string{2: millis(time.Millisecond)}),
	} {
		if e, err := parseEntry(text, now, time.Hour); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
	for name, text := range map[string]string{
		"a clock ahead": line(map[int]string{3: millis(ahead), 4: millis(ahead + time.Hour), 7: millis(ahead)}),
		"no life":       line(map[int]string{5: "0"}), "the last year": line(map[int]string{4: fmt.Sprint(maxMillis)}),
		"as long as can be": line(map[int]string{8: strings.Repeat("x", lineMax-len(line(map[int]string{8: ""})))}),
	} {
		if _, err := parseEntry(text, now, time.Hour); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, err := parseEntry(line(map[int]string{4: millis(100 * time.Hour), 5: fmt.Sprint(maxMillis)}), now, 2*time.Hour)
	if err != nil || !e.Until.Equal(now.Add(2*time.Hour)) || e.life != 2*time.Hour {
		t.Errorf("a list with a shorter time: %v, %+v", err, e)
	}
}

func TestTextsOfEntries(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"Win.X\n\t\x00\x1b", "Win.X    "}, {strings.Repeat("x", 300), strings.Repeat("x", evidenceMax)},
		{strings.Repeat("x", evidenceMax-1) + "é", strings.Repeat("x", evidenceMax-1)},
	} {
		if got := word(tt.text, evidenceMax); got != tt.want || !utf8.ValidString(got) {
			t.Errorf("%q: %q", tt.text, got)
		}
	}
	long := line(map[int]string{8: strings.Repeat("x", evidenceMax+1), 9: strings.Repeat("y", queueIDMax+1)})
	e, err := parseEntry(long, time.Unix(1_800_000_000, 0), time.Hour)
	if err != nil || len(e.Evidence) != evidenceMax || len(e.QueueID) != queueIDMax {
		t.Errorf("%v, %+v", err, e)
	}
	e.Evidence, e.QueueID = strings.Repeat("x", evidenceMax+1), strings.Repeat("y", queueIDMax+1)
	if fields := strings.Split(string(appendEntry(nil, e)), "\t"); len(fields[8]) != evidenceMax || len(fields[9]) != queueIDMax+1 { // LF
		t.Errorf("%q", fields)
	}
}
