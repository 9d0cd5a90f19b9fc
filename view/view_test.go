// SPDX-License-Identifier: BSD-2-Clause

package view

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sample(now time.Time) Table {
	t := Table{Name: "backends", Title: "Servers behind", Columns: Columns("backend", "server", "up", "up", "asked", "asked", "last", "last answer", "latency", "latency")}
	t.Add("", "smtp:[192.0.2.1]:25", true, int64(12345), now.Add(-90*time.Second), 350*time.Millisecond)
	t.Add("smtp:[192.0.2.2]:25 is down", "smtp:[192.0.2.2]:25", false, int64(7), time.Time{}, time.Duration(0))
	return t
}

func TestPrint(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	table := sample(now)
	table.More = 3
	var out strings.Builder
	if err := table.Print(&out, now); err != nil {
		t.Fatal(err)
	}
	want := `Servers behind
  server               up    asked  last answer  latency
  smtp:[192.0.2.1]:25  yes  12` + "\u202f" + `345  1m 30s ago   350ms
  smtp:[192.0.2.2]:25  no        7  never        0s
  and 3 more
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	_ = (&Table{Title: "Rules", Empty: "no rules are configured"}).Print(&out, now)
	if out.String() != "Rules\n  no rules are configured\n" {
		t.Errorf("empty: %q", out.String())
	}
}

// TestALongCellIsItsOwn: a cell of any length does not widen the other lines.
func TestALongCellIsItsOwn(t *testing.T) {
	table := Table{Title: "Remembered", Columns: Columns("recipient", "Recipient", "answer", "Answer")}
	table.Add("", "ann@example.com", "valid")
	long := strings.Repeat("x", 2000)
	table.Add("", long, "unknown")
	var out strings.Builder
	_ = table.Print(&out, time.Now())
	want := "Remembered\n  Recipient        Answer\n  ann@example.com  valid\n  " + long + "  unknown\n"
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

// TestJSON: what is written is read again, and programs find values by their keys.
func TestJSON(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	in := sample(now)
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"latency_s":0.35`, `"last":"2026-11-01T11:58:30Z"`, `"asked":12345`, `"attention":"smtp:[192.0.2.2]:25 is down"`, `"last":null`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %s in %s", want, data)
		}
	}
	var out Table
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	in.Rows[1].Cells[3] = nil // a zero time is nothing
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got\n%+v, want\n%+v", out, in)
	}
	if why := out.Attention(); len(why) != 1 {
		t.Errorf("attention: %v", why)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 300 * time.Nanosecond: "0s", 59*time.Second + 700*time.Millisecond: "1m", 31*24*time.Hour - 2*time.Millisecond: "31d", 999 * time.Millisecond: "999ms", 999_900 * time.Microsecond: "1s", 40 * time.Microsecond: "40µs", 350 * time.Millisecond: "350ms", 59 * time.Second: "59s", 250 * time.Second: "4m 10s", time.Hour: "1h",
		743*time.Hour + 59*time.Minute + 59*time.Second: "30d 23h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"grüße": "grüße", "\x1b[2Ja": "�[2Ja", "a\u202eb": "a�b", "a\xffb": "a�b", "a\nb": "a�b"} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLimit(t *testing.T) {
	table := sample(time.Now())
	table.Limit(1)
	if len(table.Rows) != 1 || table.More != 1 {
		t.Errorf("%d rows, %d more", len(table.Rows), table.More)
	}
}

// TestWhen: a moment is written with how far away it is, in the same words whichever side
// of now it is on.
func TestWhen(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.Local)
	for d, want := range map[time.Duration]string{
		-192 * time.Second:       "2026-11-01 11:56:48 (3m 12s ago)",
		192 * time.Second:        "2026-11-01 12:03:12 (in 3m 12s)",
		0:                        "2026-11-01 12:00:00 (0s ago)",
		24 * 14 * time.Hour:      "2026-11-15 12:00:00 (in 14d)",
		-200 * time.Millisecond:  "2026-11-01 11:59:59 (0s ago)",
		-90*time.Minute - 1500e6: "2026-11-01 10:29:58 (1h 30m ago)",
	} {
		if got := When(now, now.Add(d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := When(now, time.Time{}); got != "never" {
		t.Errorf("zero: %q", got)
	}
}
