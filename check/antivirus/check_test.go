// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/check/antivirus/clamd"
	"rcptgate/unit"
	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	checktest.Run(t, checktest.Suite{Unit: Unit(), Config: fmt.Sprintf("[antivirus]\nclamd = [\"unix:%s\", \"tcp:127.0.0.1:1\"]\n", filepath.Join(t.TempDir(), "none"))})
}

func says(name string, err error) *fakeScanner {
	f := &fakeScanner{}
	f.set(func(_ context.Context, text []byte) (clamd.Finding, error) {
		if found, _ := honest(text); found.Name != "" {
			return found, nil
		}
		return clamd.Finding{Name: name}, err
	})
	return f
}

// TestVerdicts holds what becomes of a message for each finding and setting, and what stands in
// it afterwards: the same whatever the verdict is.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	failed := &clamd.Error{Kind: clamd.Failed, Err: fmt.Errorf("no memory")}
	cut := func(q *rcptgate.Query) { q.Message.Cut = true }
	for _, tc := range []struct {
		name    string
		scanner *fakeScanner
		set     func(*Config)
		message func(*rcptgate.Query)
		want    string // action, code, reason, text
		virus   string
		why     string // Unscanned has it
		edits   string
	}{
		{name: "clean", scanner: says("", nil), want: "continue 0  "},
		{name: "infected", scanner: says("Win.X", nil), want: "reject 550 virus Message refused: it contains a virus (Win.X)", virus: "Win.X"},
		{name: "discard", scanner: says("Win.X", nil), set: func(c *Config) { c.Infected = "discard" }, want: "discard_message 0 virus ", virus: "Win.X"},
		{name: "hold", scanner: says("Win.X", nil), set: func(c *Config) { c.Infected = "hold" }, want: "hold 0 virus virus Win.X", virus: "Win.X"},
		{name: "continue", scanner: says("Win.X", nil), set: func(c *Config) { c.Infected = "continue" }, want: "continue 0 virus ", virus: "Win.X"},
		{name: "mark", scanner: says("Win.X", nil), set: func(c *Config) { c.Infected = "mark" }, want: "continue 0 virus ", virus: "Win.X", edits: "0 X-Virus-Status: infected (Win.X)"},
		{name: "mark a clean one", scanner: says("", nil), set: func(c *Config) { c.Infected = "mark" }, want: "continue 0  ", edits: "0 X-Virus-Status: clean"},
		{name: "forged marks", scanner: says("", nil), set: func(c *Config) { c.Header = "X-AV" }, message: func(q *rcptgate.Query) {
			q.Message.Fields = append(q.Message.Fields, rcptgate.Field{Name: "x-av", Value: " clean"}, rcptgate.Field{Name: "X-AV", Value: " clean"})
		}, want: "continue 0  ", edits: "3 x-av: |3 X-AV: |0 X-AV: clean"},
		{name: "no mark on what is refused", scanner: says("Win.X", nil), set: func(c *Config) { c.Header = "X-AV" }, want: "reject 550 virus Message refused: it contains a virus (Win.X)", virus: "Win.X"},
		{name: "ignored", scanner: says("PUA.Win.X", nil), set: func(c *Config) { _ = c.Ignore[:0]; c.Ignore = globs("other", "pua.*") }, want: "continue 0  "},
		{name: "not ignored", scanner: says("Win.PUA.X", nil), set: func(c *Config) { c.Ignore = globs("PUA.*", "Win.PUA.?X") }, want: "reject 550 virus Message refused: it contains a virus (Win.PUA.X)", virus: "Win.PUA.X"},
		{name: "error", scanner: says("", failed), want: "tempfail 451 unscanned Message cannot be scanned for viruses at the moment", why: "no memory"},
		{name: "error, continue", scanner: says("", failed), set: func(c *Config) { c.Unscanned = "continue"; c.Header = "X-AV" }, want: "continue 0 unscanned ", why: "no memory", edits: "0 X-AV: not scanned (unix:/a: no memory)"},
		{name: "limits", scanner: says("Heuristics.Limits.Exceeded.MaxFileSize", nil), want: "continue 0 unscanned ", why: "Heuristics.Limits"},
		{name: "limits, reject", scanner: says("Heuristics.Limits.Exceeded.MaxFileSize", nil), set: func(c *Config) { c.TooLarge = "reject" }, want: "reject 552 unscanned Message is too large to be scanned for viruses", why: "Heuristics.Limits"},
		{name: "cut", scanner: says("", nil), set: func(c *Config) { c.TooLarge = "tempfail" }, message: cut, want: "tempfail 451 unscanned Message is too large to be scanned for viruses", why: "larger than"},
		{name: "cut header", scanner: says("", nil), message: func(q *rcptgate.Query) { q.Message.HeaderCut = true }, want: "tempfail 451 unscanned Message cannot be scanned for viruses at the moment", why: "header"},
		{name: "cut header, ignored", scanner: says("PUA.Win.X", nil), set: func(c *Config) { c.Ignore = globs("pua.*") }, message: func(q *rcptgate.Query) { q.Message.HeaderCut = true }, want: "tempfail 451 unscanned Message cannot be scanned for viruses at the moment", why: "header"},
		{name: "cut header, infected", scanner: says("Win.X", nil), message: func(q *rcptgate.Query) { q.Message.HeaderCut = true }, want: "reject 550 virus Message refused: it contains a virus (Win.X)", virus: "Win.X"},
		{name: "too large", scanner: says("", nil), set: func(c *Config) { c.TooLarge = "reject" }, message: func(q *rcptgate.Query) {
			big := letter(strings.Repeat("x", 128<<10))
			q.Message.Body, q.Message.Size = big.Message.Body, big.Message.Size
		}, want: "reject 552 unscanned Message is too large to be scanned for viruses", why: "max_size (128KB)"},
		{name: "without a body", scanner: says("", nil), message: func(q *rcptgate.Query) { q.Message = rcptgate.NewMessage(rcptgate.WantMessage | rcptgate.WantHeader) }, want: "tempfail 451 unscanned Message cannot be scanned for viruses at the moment", why: "older than the configuration"},
		{name: "unreadable", scanner: says("", nil), message: func(q *rcptgate.Query) { q.Message.Size++ }, want: "tempfail 451 unscanned Message cannot be scanned for viruses at the moment", why: "EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, tc.set, tc.scanner)
			q := letter("body\r\n")
			if tc.message != nil {
				tc.message(q)
			}
			v := r.ask(t, q)
			if got := fmt.Sprintf("%v %d %s %s", v.Action, v.Code, v.Reason, v.Text); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			m := q.Message
			if !m.Scanned || m.Virus != tc.virus || (m.Unscanned == "") != (tc.why == "") || !strings.Contains(m.Unscanned, tc.why) {
				t.Errorf("scanned %v, virus %q, unscanned %q", m.Scanned, m.Virus, m.Unscanned)
			}
			var edits []string
			for _, e := range m.Proposed() {
				edits = append(edits, fmt.Sprintf("%d %s: %s", e.Kind, e.Name, e.Value))
			}
			if got := strings.Join(edits, "|"); got != tc.edits {
				t.Errorf("edits %q, want %q", got, tc.edits)
			}
		})
	}
}

func globs(list ...string) (out []Glob) {
	for _, text := range list {
		var g Glob
		if err := g.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
		out = append(out, g)
	}
	return out
}

// TestScansOnce has a message looked at by several: one scan, and what it found stays.
func TestScansOnce(t *testing.T) {
	t.Parallel()
	f := says("Win.X", nil)
	r := newRig(t, nil, f)
	q := letter("body")
	r.Scan(t.Context(), q)
	scans, _ := f.count()
	for range 3 {
		if v := r.ask(t, q); v.Action != rcptgate.Reject {
			t.Errorf("%+v", v)
		}
		r.Scan(t.Context(), q)
	}
	if after, _ := f.count(); after != scans || q.Message.Virus != "Win.X" {
		t.Errorf("%d scans more, virus %q", after-scans, q.Message.Virus)
	}
	r.Scan(t.Context(), &rcptgate.Query{}) // of a front that has no messages
}

// TestWhatIsScanned holds what clamd gets: our own field, then the message as it was received.
func TestWhatIsScanned(t *testing.T) {
	t.Parallel()
	var got string
	f := says("", nil)
	r := newRig(t, func(c *Config) { c.Selftest = false }, f)
	f.set(func(_ context.Context, text []byte) (clamd.Finding, error) {
		got = string(text)
		return clamd.Finding{}, nil
	})
	r.ask(t, letter("a\r\n\xff\x00b"))
	if want := ownField + "From: x@client.test\r\nSubject: one\r\n two\r\n\r\na\r\n\xff\x00b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	empty := rcptgate.NewMessage(bodyWants)
	r.ask(t, &rcptgate.Query{Message: empty})
	if got != ownField+"\r\n" {
		t.Errorf("of an empty message: %q", got)
	}
}

// TestFindingsAreShown holds what people see of infected messages.
func TestFindingsAreShown(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, says("Win.X", nil))
	for range findingsMax + 5 {
		q := letter("body")
		q.Client = netip.MustParseAddr("192.0.2.7")
		r.ask(t, q)
	}
	tables := r.live.show()
	if rows := tables[1].Rows; len(rows) != findingsMax || rows[0].Cells[1] != "Win.X" || rows[0].Cells[2] != "192.0.2.7" || rows[0].Cells[4] != "Q1" {
		t.Errorf("%+v", rows)
	}
	for _, family := range r.live.metrics() {
		if family.Name == "antivirus_messages_total" {
			family.Read(func(value float64, labels ...string) {
				if want := map[string]float64{"infected": findingsMax + 5}[labels[0]]; value != want {
					t.Errorf("%s: %v, want %v", labels[0], value, want)
				}
			})
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	u := []unit.Unit{Unit()}
	schema, err := unit.Compose(u)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`clamd = ["unix:/run/c", "tcp:127.0.0.1:3310", "tcp:[2001:db8::1]:3310", "inet:3310@host.example"]`: "",
		`clamd = ["udp:127.0.0.1:3310"]`:                 `expected "unix:/path" or "tcp:HOST:PORT"`,
		`clamd = [""]`:                                   `expected "unix:/path"`,
		`clamd = ["unix:/a", "unix:/a"]`:                 "listed twice",
		`infected = "quarantine"`:                        "hold",
		`unscanned = "reject"`:                           "tempfail",
		`too_large = "discard"`:                          "reject",
		`max_size = "1KB"`:                               "64KB",
		`ignore = [""]`:                                  "1 to 256 octets",
		`header = "X Virus"`:                             "is not the name of a header field",
		`header = "X-Virus:"`:                            "is not the name of a header field",
		"ignore = [\"PUA.*\", \"[x\"]\nheader = \"X-V\"": "",
		`connections = 0`:                                "1",
		`timeout = "0s"`:                                 "1s",
	} {
		c, err := unit.Parse(schema, "test.toml", "[antivirus]\n"+text+"\n")
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line") && !strings.Contains(err.Error(), "test.toml:2")):
			t.Errorf("%s: %v; want %q and the line", text, err, want)
		case err == nil && !strings.Contains(c.Show(), "[antivirus]"):
			t.Errorf("%s: not shown:\n%s", text, c.Show())
		}
	}
	if g := globs("a.?*")[0]; g.Matches("a.") || !g.Matches("A.bc") || g.Matches("xa.b") {
		t.Error("the pattern a.?*")
	}
	c := testConfig(func(c *Config) { c.Unscanned, c.Selftest, c.MaxSize = "continue", false, 200<<20 }, &fakeScanner{})
	if list := warnings(c, 60e9); len(list) != 3 || !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "3m49s") || strings.Contains(s, "3m50s") }) {
		t.Errorf("warnings %q", list)
	}
	if list := warnings(testConfig(nil, &fakeScanner{}), 60e9); len(list) > 0 {
		t.Errorf("warnings of the defaults: %q", list)
	}
}
