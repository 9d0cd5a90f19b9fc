// SPDX-License-Identifier: BSD-2-Clause

package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/report/arf"
)

// TestMoments reads what --since and --until take.
func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.Local)
	for in, want := range map[string]time.Time{
		"": {}, "2026-11-01": time.Date(2026, 11, 1, 0, 0, 0, 0, time.Local), "2026-11-01 10:30:00": time.Date(2026, 11, 1, 10, 30, 0, 0, time.Local),
		"2026-11-01T10:30:00": time.Date(2026, 11, 1, 10, 30, 0, 0, time.Local), "2026-11-01T10:30:00Z": time.Date(2026, 11, 1, 10, 30, 0, 0, time.UTC),
		"90s": now.Add(-90 * time.Second), "15m": now.Add(-15 * time.Minute), "36h": now.Add(-36 * time.Hour), "0d": now, "7d": now.Add(-7 * 24 * time.Hour),
		"1w2d": now.Add(-9 * 24 * time.Hour), "100000h": now.Add(-100_000 * time.Hour),
	} {
		if got, err := moment(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"tomorrow", "7", "d", "7x", "7dd", "-7d", "7/", "7:", "100001h", "1000000s", "2026-13-01"} {
		if got, err := moment(in, now); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}

// TestWhoComplained: those who pressed "not spam" did not, and a hidden address is nobody's.
func TestWhoComplained(t *testing.T) {
	rcpts := map[string]struct{}{}
	for _, r := range []*arf.Report{
		{Type: "abuse", RcptTo: []string{"Ann@Example.org", "ann@example.org", "bob@example.net"}},
		{Type: "opt-out", RcptTo: []string{"carol@example.org"}},
		{Type: "not-spam", RcptTo: []string{"likes@example.org"}}, {Type: "auth-failure", RcptTo: []string{"policy@example.org"}},
		{Type: "abuse", RcptTo: []string{"redacted", "redacted.example", "@example.org", "redacted@redacted", "a@b.example c@d.example", "<x@y.example>", "a@b.example,c"}},
	} {
		collect(rcpts, r)
	}
	if got := slices.Sorted(maps.Keys(rcpts)); strings.Join(got, " ") != "ann@example.org bob@example.net carol@example.org" {
		t.Errorf("%q", got)
	}
}

// TestFlags: what each flag leaves out or adds, and flags that do not go together.
func TestFlags(t *testing.T) {
	box, dir := archive(t), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	numbers, mail := filepath.Join(dir, "numbers"), "From x@y Sat Nov 28 10:00:00 2026\nFrom: a@b.example\nSubject: é\n\nx\n"
	for name, text := range map[string]string{numbers: "12\n", filepath.Join(dir, "sub", "box"): mail} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args string
		code int
		out  string // in the output, or not
		not  string
	}{
		{"arf --format arfparse BOX BOX", 0, "X-Idx: 35\n", ""},
		{"arf --format arfparse --dedupe BOX BOX", 0, "X-Idx: 33\n", "X-Idx: 35\n"},
		{"arf --fail-on-empty BOX", 0, "Report: ", ""},
		{"arf --fail-on-empty /nonexistent", 66, "", ""},
		{"arf --until yesterday BOX", 64, "", ""},
		{"arf --json BOX", 64, "", ""},
		{"arf --format csv --raw BOX", 0, "abuse", ""},
		{"benford", 64, "", ""},
		{"benford --what number --base 3 NUMBERS", 0, "in base 3", ""},
		{"benford --what number --base 36 NUMBERS", 0, "in base 36", ""},
		{"benford --what number --base 37 NUMBERS", 64, "within 3 and 36", ""},
		{"benford -r --unit octets --digits first DIR/sub", 0, "2          1  1.0000", ""},
		{"benford -r DIR/sub", 0, "1          1  1.0000", ""},
		{"benford --unit words BOX", 64, "characters, octets, raw", ""},
		{"benford --by colour BOX", 64, "domain, day, sender-net", ""},
		{"benford --what number --by day NUMBERS", 64, "numbers have no senders", ""},
		{"benford --what mailbox --by day BOX", 64, "mailbox sizes have no senders", ""},
		{"benford --by day --csv BOX", 64, "--by gives a list", ""},
		{"benford --by day --svg DIR/x BOX", 64, "--by gives a list", ""},
		{"benford --by day --html DIR/x BOX", 64, "--by gives a list", ""},
		{"benford --log --what number NUMBERS", 64, "logs have no numbers", ""},
		{"benford --log --what mailbox NUMBERS", 64, "logs have no mailbox sizes", ""},
		{"benford --json --csv BOX", 64, "exclude each other", ""},
		{"benford --what message --by domain --top 1 BOX", 0, "more", ""},
		{"benford --what message --by domain --top 0 BOX", 0, "b.example", "more"},
		{"benford --what number --ascii --width 62 NUMBERS", 0, "###|######\n", "####|"},
		{"benford --what number --svg /nonexistent/x NUMBERS", 64, "/nonexistent/x", "digit"},
		{"benford --what number NUMBERS /nonexistent", 65, "1 number, ", ""},
		{"benford --what number /nonexistent", 66, "/nonexistent", "digit"},
		{"benford --what mailbox NUMBERS /nonexistent", 65, "1 number: too few", ""},
		{"benford --what mailbox /nonexistent", 66, "/nonexistent", "digit"},
	} {
		args := strings.Fields(strings.NewReplacer("BOX", box, "NUMBERS", numbers, "DIR", dir).Replace(tt.args))
		code, out, errs := run(t, "", args...)
		if out += errs; code != tt.code || !strings.Contains(out, tt.out) || tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("%s: exit code %d, want %d, with %q, without %q:\n%.1500s", tt.args, code, tt.code, tt.out, tt.not, out)
		}
	}
	for _, how := range []string{"--by=type", "--suppress", "--format=arfparse"} {
		if _, _, errs := run(t, mail, "arf", how, "-"); errs != "" {
			t.Errorf("%s where nothing is found: %q", how, errs)
		}
	}
}

// full takes no output.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestOutputThatFails: a program that reads the output, and a disk that is full, do not take what is
// missing for all there is.
func TestOutputThatFails(t *testing.T) {
	box := archive(t)
	for _, args := range []string{"arf", "arf --format jsonl", "arf --format csv", "arf --format html", "arf --by type", "arf --by type --json", "arf --suppress", "benford", "benford --csv", "benford --json", "benford --by day"} {
		cmd := command()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append(strings.Fields(args), box))
		cmd.SetOut(full{})
		cmd.SetErr(full{})
		if err := cmd.ExecuteContext(context.Background()); err == nil || !strings.Contains(fmt.Sprint(err), "no space left") {
			t.Errorf("%s: %v", args, err)
		}
	}
}
