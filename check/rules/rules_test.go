// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) {
	checktest.Run(t, checktest.Suite{Unit: Unit(), Config: `
[rules]
local = ["b.example"]
[[list]]
name = "x"
entries = ["a*@b.example", "@c.example"]
[[rule]]
recipient = ["list:x"]
sender = ["!@$local"]
[[rule]]
recipient = ["/user/"]
action = "tempfail"
[[rule]]
sender = ["*"]
recipient = ["!@b.example"]
client = ["192.0.2.0/24"]
text = "no ü"
`, Recipients: []string{"ann@b.example", "x@c.example"}})
}

// questionOf makes a query of the left side of an expectation.
func questionOf(tb testing.TB, text string) *expectation {
	tb.Helper()
	e, err := parseExpect(text + ": continue")
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func ask(tb testing.TB, c *Check, text string) rcptgate.Verdict {
	tb.Helper()
	v, err := c.Check(tb.Context(), &questionOf(tb, text).query)
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestActions: each action's verdict, and its words.
func TestActions(t *testing.T) {
	var text strings.Builder
	for _, a := range actionWords {
		if a == Call.String() {
			continue // package script
		}
		fmt.Fprintf(&text, "[[rule]]\nname = \"the %s\"\nrecipient = [\"%s@x\"]\naction = %q\n", a, a, a)
	}
	text.WriteString("[[rule]]\nname = \"words\"\nrecipient = [\"words@x\"]\ncode = 551\nenhanced = \"5.7.9\"\ntext = \"Not \\u00fc\\nhere\"\nenforce = true\n")
	c := checkOf(t, text.String())
	for _, tc := range []struct {
		to   string
		want rcptgate.Verdict
	}{
		{"reject", rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.7.1", Text: textReject}},
		{"tempfail", rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.7.1", Text: textTempfail}},
		{"discard", rcptgate.Verdict{Action: rcptgate.DiscardRecipient}},
		{"discard_message", rcptgate.Verdict{Action: rcptgate.Discard}},
		{"pass", rcptgate.Verdict{}},
		{"accept", rcptgate.Verdict{Action: rcptgate.Accept}},
		{"hold", rcptgate.Verdict{Action: rcptgate.Hold, Text: "held by rule the hold"}},
		{"words", rcptgate.Verdict{Action: rcptgate.Reject, Code: 551, Enhanced: "5.7.9", Text: "Not ü\nhere", Enforce: true}},
	} {
		tc.want.Reason, tc.want.Source = rcptgate.Reason("rule:the "+tc.to), "rule"
		if tc.to == "words" {
			tc.want.Reason = "rule:words"
		}
		if v := ask(t, c, "a@b -> "+tc.to+"@x"); v != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.to, v, tc.want)
		}
	}
	if w := c.wants(); w != rcptgate.EditRecipients|rcptgate.Quarantine {
		t.Errorf("wants %b", w)
	}
	if w := checkOf(t, "[[rule]]\nrecipient = [\"a@b\"]\ntls = false\n").wants(); w != rcptgate.WantSession {
		t.Errorf("a rule about TLS wants %b", w)
	}
	if w := checkOf(t, "[[rule]]\nrecipient = [\"a@b\"]\n").wants(); w != 0 {
		t.Errorf("a rule that refuses wants %b: others would pay for it", w)
	}
}

// TestRehearsedRule: it is counted and logged, and the rules after it decide.
func TestRehearsedRule(t *testing.T) {
	c := checkOf(t, `
[[rule]]
name = "new"
recipient = ["@x"]
enforce = false
[[rule]]
name = "old"
recipient = ["a@x"]
action = "tempfail"
[[rule]]
name = "exception"
recipient = ["b@x"]
action = "pass"
[[rule]]
name = "broken"
recipient = ["c@x"]
sender = ["list:gone"]
enforce = false
[[list]]
name = "gone"
table = ["texthash:/nonexistent/list"]
`)
	for to, want := range map[string]rcptgate.Verdict{
		"a@x": {Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.7.1", Text: textTempfail, Reason: "rule:old", Source: "rule"},
		"b@x": {Would: rcptgate.Reject, Code: 550, Enhanced: "5.7.1", Text: textReject, Reason: "rule:new", Source: "rule"},
		"c@x": {Would: rcptgate.Reject, Code: 550, Enhanced: "5.7.1", Text: textReject, Reason: "rule:new", Source: "rule"},
		"a@y": {},
	} {
		if v := ask(t, c, "s@t -> "+to); v != want {
			t.Errorf("%s: %+v, want %+v", to, v, want)
		}
	}
	for i, want := range []uint64{3, 1, 1, 0} {
		if n, last := c.rules[i].hits.read(); n != want || (n > 0) != !last.IsZero() {
			t.Errorf("rule %q: %d hits, last %v; want %d", c.rules[i].name, n, last, want)
		}
	}
}

// TestRehearsedOnce: a rule that names a user twice is asked and counted once.
func TestRehearsedOnce(t *testing.T) {
	c := checkOf(t, `
[[list]]
name = "l"
entries = ["ann"]
[[rule]]
auth_user = ["ann", "list:l"]
enforce = false
`)
	ask(t, c, "a@b auth=ann -> c@d")
	if n, _ := c.rules[0].hits.read(); n != 1 {
		t.Errorf("%d hits of one question", n)
	}
}

// TestTablesOfLists: keys of tables are patterns without globs, and changes count at once.
func TestTablesOfLists(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "list"), "Ann@Example.NET x\n@partner.example x\n@.deep.example x\nbob@ x\n\"quo ted\"@q.example x\nexample.com x\n*@glob.example x\n<> x\n")
	write(t, filepath.Join(dir, "clients"), "192.0.2.1 x\nIPv6:2001:DB8::1 x\n10.0.0.0/8 x\n")
	write(t, filepath.Join(dir, "hosts"), "mx.example.net x\n.dsl.example x\n")
	c := checkOf(t, fmt.Sprintf(`
[[list]]
name = "l"
table = ["texthash:%[1]s/list"]
[[list]]
name = "c"
table = ["texthash:%[1]s/clients"]
[[list]]
name = "h"
table = ["texthash:%[1]s/hosts"]
[[rule]]
name = "address"
sender = ["list:l"]
[[rule]]
name = "client"
client = ["list:c"]
[[rule]]
name = "host"
helo = ["list:h"]
`, dir))
	for question, want := range map[string]string{
		"ANN@example.net -> x@y": "address", "ann+d@example.net -> x@y": "address", "x@partner.example -> x@y": "address", "x@a.deep.example -> x@y": "address", "bob@z -> x@y": "address",
		"<> -> x@y": "address", "x@example.com -> x@y": "", "x@glob.example -> x@y": "", "x@deep.example -> x@y": "", "z@z client=192.0.2.1 -> x@y": "client", "z@z client=2001:db8::1 -> x@y": "client",
		"z@z client=10.1.1.1 -> x@y": "", "z@z helo=MX.example.net -> x@y": "host", "z@z helo=a.dsl.example -> x@y": "host", "z@z helo=dsl.example -> x@y": "",
	} {
		if want != "" {
			want = "rule:" + want
		}
		if v := ask(t, c, question); string(v.Reason) != want {
			t.Errorf("%s: %q, want %q", question, v.Reason, want)
		}
	}
	warnings := strings.Join(c.warnings(), "\n")
	for _, want := range []string{`/list: left out 2 keys, not a pattern; the first is "example.com"`, `/clients: left out 1 key,`} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no warning %q in:\n%s", want, warnings)
		}
	}
	write(t, filepath.Join(dir, "new"), "carl@example.net x\nann@example.net x\n")
	if err := rename(filepath.Join(dir, "new"), filepath.Join(dir, "list")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ask(t, c, "carl@example.net -> x@y").Reason != "rule:address"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a new entry does not count")
		}
	}
}

// TestUnreadableIsNotAbsent: a table that cannot be read is an error if it decides.
func TestUnreadableIsNotAbsent(t *testing.T) {
	c := checkOf(t, `
[[list]]
name = "gone"
table = ["texthash:/nonexistent/list"]
[[rule]]
sender = ["!list:gone"]
recipient = ["a@x"]
[[rule]]
sender = ["list:gone"]
recipient = ["b@x"]
client = ["192.0.2.0/24"]
[[rule]]
recipient = ["c@x"]
sender = ["list:gone", "s@t"]
`)
	for question, want := range map[string]string{
		"s@t -> a@x": "error", "s@t client=192.0.2.1 -> b@x": "error", "s@t client=10.0.0.1 -> b@x": "", "s@t -> c@x": "rule:3", "u@t -> c@x": "error", "s@t -> d@x": "",
	} {
		v, err := c.Check(t.Context(), &questionOf(t, question).query)
		got := string(v.Reason)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %q (%v), want %q", question, got, err, want)
		}
	}
	if v, err := checkOf(t, "[rules]\naccess = [\"hash:/nonexistent/access\"]\n").Check(t.Context(), &questionOf(t, "a@b -> c@d").query); err == nil {
		t.Errorf("an access map that cannot be read lets everything through: %+v", v)
	}
}

// columns are those of places in a file.
var columns = regexp.MustCompile(`(test\.toml:\d+:)\d+: `)

// TestMistakes: what is wrong is named with its line.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"[[rule]]\naction = \"shout\"\n":                                                `test.toml:4: rule[1].action: "shout" is not an action: expected reject, tempfail, discard`,
		"[[rule]]\nrecipient = [\"a@b\",\n\"example.org\"]\n":                           `test.toml:5: rule[1].recipient[2]: "example.org" has no "@"`,
		"[[rule]]\nsender = [\"list:x\"]\n":                                             `test.toml:4: rule[1].sender[1]: list:x: no [[list]] has this name`,
		"[[rule]]\ncode = 450\n":                                                        `test.toml:4: rule[1].code: 450 is not a code for action "reject"`,
		"[[rule]]\naction = \"call\"\n":                                                 `"call" needs call = "NAME"`,
		"[[rule]]\ncall = \"f\"\n":                                                      `action "reject" calls nothing`,
		"[[rule]]\naction = \"call\"\ncall = \"f\"\n":                                   `test.toml:5: rule[1].call: "f": no script is configured`,
		"[[rule]]\ncode = 521\n":                                                        `end the client's session`,
		"[[rule]]\naction = \"pass\"\ncode = 550\n":                                     `action "pass" has no reply code`,
		"[[rule]]\naction = \"tempfail\"\nenhanced = \"5.7.1\"\n":                       `"5.7.1" is not a status code for action "tempfail"`,
		"[[rule]]\naction = \"accept\"\ntext = \"x\"\n":                                 `action "accept" has no text`,
		"[[rule]]\nname = \"access\"\n":                                                 `"access" is reserved`,
		"[[rule]]\nname = \"a\"\n[[rule]]\nname = \"a\"\n":                              `test.toml:6: rule[2].name: another rule is called "a"`,
		"[[rule]]\nname = \"2\"\n[[rule]]\nsender = [\"a@b\"]\n":                        `another rule is called "2"`,
		"[[list]]\nname = \"a\"\n[[list]]\nname = \"a\"\n":                              `another list is called "a"`,
		"[[list]]\nentries = [\"a@b\"]\n":                                               `a list needs a name`,
		"[[list]]\nname = \"a\"\nentries = [\"a@b\", \"x\"]\n":                          `test.toml:5: list[1].entries[2]: "x" has no "@"`,
		"[[list]]\nname = \"a\"\ntable = [\"text:/x\"]\n":                               `write texthash:/x`,
		"[[rule]]\nexpect = [\"a@b -> c@d: reject\", \"nonsense\"]\n":                   `test.toml:4: rule[1].expect[2]: "nonsense": not an expectation`,
		"[[rule]]\nexpect = [\"a@b colour=red -> c@d: reject\"]\n":                      `"colour" is not a circumstance`,
		"[[rule]]\nexpect = [\"a@b -> c@d: refuse\"]\n":                                 `"refuse" is not an action`,
		"[[rule]]\nexpect = [\"a@b -> c@d: reject 250\"]\n":                             `"250" is not a reply code`,
		"[[rule]]\nsize = \"> many\"\n":                                                 `"> many" is not a range`,
		"[[rule]]\nat = [\"Mon-Fri 8-18\"]\n":                                           `expected days and times`,
		"[rules]\nlocal = [\"example.org\", \"@x\"]\n[[rule]]\nrecipient = [\"a@b\"]\n": `rules.local[2]: "@x" is not a domain`,
		"[[rule]]\nclient = [\"192.0.2.1/24\"]\n":                                       `did you mean "192.0.2.0/24"`,
		"[[rule]]\nhelo = [\"$trusted\"]\n":                                             `only "$own" is known`,
		"[[rule]]\nrecipients = [\"a@b\"]\n":                                            `did you mean "recipient"`,
		"[[rule]]\nname = \"" + strings.Repeat("x", 65) + "\"\nrecipient = [\"a@b\"]\n": `up to 64 printable characters`,
		"[rules]\npairs = [\"text:/x\"]\n[[rule]]\nrecipient = [\"a@b\"]\ncode = 550\n": `write texthash:/x`,
	} {
		_, err := hostOf(t, text)
		if err == nil || !strings.Contains(columns.ReplaceAllString(err.Error(), "$1 "), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	c := checkOf(t, `
[[rule]]
name = "bounces"
sender = ["!a@b"]
recipient = ["x@y"]
[[rule]]
name = "meant"
sender = ["<>"]
recipient = ["noreply@y"]
[[rule]]
name = "open"
sender = ["friend@b"]
action = "accept"
[[rule]]
name = "wide"
recipient = ["X@y", "z@y"]
[[rule]]
name = "dead"
recipient = ["z@y", "x@y"]
client = ["10.0.0.0/8"]
[[rule]]
name = "alive"
recipient = ["z@y"]
[[rule]]
name = "all"
[[rule]]
name = "last"
recipient = ["q@y"]
`)
	got := strings.Join(c.warnings(), "\n")
	want := `rule "bounces": sender also matches <>, the sender of bounces and receipts; add "!<>" to let them pass
rule "open" accepts all mail that claims to come from these senders, and anybody can claim that
rule "dead" never matches: rule "wide" before it has no other conditions and always decides first
rule "all" has no condition: it decides for every recipient
rule "last" never matches: rule "all" before it has no other conditions and always decides first`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestWarningsOfOtherPatterns: patterns that differ in case alone are equal, except where the case
// means something.
func TestWarningsOfOtherPatterns(t *testing.T) {
	for _, tt := range []struct {
		first, second string
		dead          bool
	}{
		{`/^\\s/`, `/^\\S/`, false}, {`!/\\d/`, `!/\\D/`, false}, {"list:Good", "list:good", false}, {"Ann@X.example", "ann@x.EXAMPLE", true}, {`/^\\s/`, `/^\\s/`, true}, {"!Ann@x.example", "!ann@X.example", true},
	} {
		c := checkOf(t, fmt.Sprintf(`
[[list]]
name = "Good"
entries = ["a@b.example"]
[[list]]
name = "good"
entries = ["c@b.example"]
[[rule]]
name = "first"
recipient = ["%s"]
[[rule]]
name = "second"
recipient = ["%s"]
`, tt.first, tt.second))
		if got := strings.Contains(strings.Join(c.warnings(), "\n"), "never matches"); got != tt.dead {
			t.Errorf("%s, then %s: never matches: %v", tt.first, tt.second, got)
		}
	}
}

// TestOwnWithoutAddress: a program of this machine that has no address is this machine, and a client of
// which nothing is known is not.
func TestOwnWithoutAddress(t *testing.T) {
	c := checkOf(t, `
[[rule]]
name = "own"
recipient = ["a@x.example"]
client = ["$own"]
[[rule]]
name = "other"
recipient = ["b@x.example"]
client = ["!$own"]
[[rule]]
name = "network"
client = ["127.0.0.0/8"]
action = "tempfail"
`)
	for _, tt := range []struct {
		noAddress bool
		client    string
		want      [3]string
	}{
		{true, "", [3]string{"reject", "tempfail", "tempfail"}},
		{false, "", [3]string{"continue", "reject", "continue"}},
		{false, "127.0.0.1", [3]string{"reject", "tempfail", "tempfail"}},
		{true, "192.0.2.9", [3]string{"continue", "reject", "continue"}},
	} {
		for i, recipient := range []string{"a@x.example", "b@x.example", "c@x.example"} {
			q := &rcptgate.Query{Recipient: address.Parse(recipient), Target: address.Parse(recipient), Sender: "s@y.example", Session: &rcptgate.Session{NoAddress: tt.noAddress}}
			if tt.client != "" {
				q.Client = netip.MustParseAddr(tt.client)
			}
			if v, err := c.Check(t.Context(), q); err != nil || v.Action.String() != tt.want[i] {
				t.Errorf("%+v, %s: %s, %v", tt, recipient, v.Action, err)
			}
		}
	}
}

func TestRange(t *testing.T) {
	for text, want := range map[string][2]int64{
		">100": {101, math.MaxInt64}, ">= 100": {100, math.MaxInt64}, "<100": {0, 99}, "<=1KB": {0, 1024}, "10-20": {10, 20}, "7": {7, 7}, "1MB-2MB": {1 << 20, 2 << 20},
	} {
		var r Range
		if err := r.UnmarshalText([]byte(text)); err != nil || r.low != want[0] || r.high != want[1] {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
	for _, text := range []string{"", ">", "-", "20-10", "><3", ">1-2", "many", "-5", "<0", "1-", "9223372036854775808"} {
		if err := new(Range).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a range", text)
		}
	}
}

func TestWindow(t *testing.T) {
	for _, tc := range []struct{ text, in, out string }{
		{"Mon-Fri 08:00-18:00", "Mon,08:00 Fri,17:59", "Mon,07:59 Fri,18:00 Sat,12:00"},
		{"Sat,Sun", "Sat,00:00 Sun,23:59", "Fri,23:59 Mon,00:00"},
		{"22:00-06:00", "Mon,22:00 Tue,05:59 Sun,00:00", "Mon,06:00 Mon,21:59"},
		{"fri 22:00-06:00", "Fri,22:00 Sat,05:59", "Fri,05:59 Sat,06:00 Sat,22:00"},
		{"Sat-Mon", "Sat,12:00 Sun,12:00 Mon,12:00", "Tue,12:00 Fri,12:00"},
		{"00:00-24:00", "Mon,00:00 Mon,23:59", ""},
	} {
		var w Window
		if err := w.UnmarshalText([]byte(tc.text)); err != nil {
			t.Fatal(err)
		}
		for want, list := range map[bool]string{true: tc.in, false: tc.out} {
			for _, moment := range strings.Fields(list) {
				at, err := parseMoment(moment)
				if err != nil || w.Has(at) != want {
					t.Errorf("%s has %s: %v, %v", tc.text, moment, w.Has(at), err)
				}
			}
		}
	}
	for _, text := range []string{"2026-11-28T18:30", "2026-11-28 18:30", "Sat 18:30", "Sat,18:30"} {
		if at, err := parseMoment(text); err != nil || at.Weekday() != time.Saturday || at.Hour() != 18 || at.Minute() != 30 {
			t.Errorf("%s: %v, %v", text, at, err)
		}
	}
	if at, err := parseMoment("2026-11-28T18:30:00+01:00"); err != nil || at.Unix() != 1795887000 {
		t.Errorf("%v, %d, %v", at, at.Unix(), err)
	}
	for _, text := range []string{"", "Mon Tue", "8:00-18:00", "08:00", "08:00-08:00", "25:00-26:00", "Mox", "Mon-", "Mon 08:00-18:00 x", "08:00-18:00 Mon", "24:00-01:00"} {
		if err := new(Window).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a window", text)
		}
	}
}

// TestRewritten: the target is what the MTA made of the recipient.
func TestRewritten(t *testing.T) {
	c := checkOf(t, "[[rule]]\ntarget = [\"real@store.example\"]\n")
	for question, want := range map[string]rcptgate.Action{
		"a@b target=real@store.example -> info@example.org": rcptgate.Reject, "a@b -> real@store.example": rcptgate.Reject, "a@b -> info@example.org": rcptgate.Continue,
		"a@b target=other@store.example -> real@store.example": rcptgate.Continue,
	} {
		if v := ask(t, c, question); v.Action != want {
			t.Errorf("%s: %+v", question, v)
		}
	}
	q := &rcptgate.Query{Recipient: address.Parse("Real@Store.example")}
	q.Target = q.Recipient
	if v, _ := c.Check(t.Context(), q); v.Action != rcptgate.Reject {
		t.Errorf("%+v", v)
	}
}

// TestExplainTables: "rule test" says what became of each table, too.
func TestExplainTables(t *testing.T) {
	c := withTable(t, namePairs, "a@b.example c@d.example discard\n")
	for question, want := range map[string]string{"a@b.example -> c@d.example": "has this pair: discard", "x@b.example -> c@d.example": "no such pair in texthash:"} {
		list, f, err := c.explain(t.Context(), &questionOf(t, question).query, time.Time{})
		if err != nil || !strings.HasPrefix(list[0].result, want) || (f.act == Discard) != (len(list) == 1) {
			t.Errorf("%s: %+v, %+v, %v; want %q", question, list, f, err, want)
		}
	}
	if n := c.counters.of(namePairs, Discard); n != nil {
		if hits, _ := n.read(); hits != 0 {
			t.Errorf("explaining counts %d hits", hits)
		}
	}
}
