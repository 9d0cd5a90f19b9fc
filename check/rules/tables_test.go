// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/pattern"
)

func rename(from, to string) error { return os.Rename(from, to) }

// withTable writes a map file and gives the rules that read it.
func withTable(tb testing.TB, key, text string) *Check {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), key)
	write(tb, path, text)
	return checkOf(tb, fmt.Sprintf("[rules]\n%s = [\"texthash:%s\"]\n[[rule]]\nname = \"last\"\nrecipient = [\"rule@x.example\"]\n", key, path))
}

// said is a verdict in a few words.
func said(tb testing.TB, c *Check, question string) string {
	tb.Helper()
	v := ask(tb, c, question)
	return strings.Join(strings.Fields(fmt.Sprintf("%s %d %s %s", v.Action, v.Code, v.Enhanced, v.Text)), " ")
}

// TestCompat: the outcomes of compat_check, what Sendmail ignores, and further keys.
func TestCompat(t *testing.T) {
	c := withTable(t, nameAccess, `Compat:a@b.example<@>d1@x.example	DISCARD
Compat:a@b.example<@>d2@x.example	discard:go away
Compat:a@b.example<@>d3@x.example	DISCARD go away
Compat:a@b.example<@>t1@x.example	TEMP:450 Not now
Compat:a@b.example<@>t2@x.example	TEMP:Not now
Compat:a@b.example<@>e1@x.example	ERROR:550 Go away
Compat:a@b.example<@>e2@x.example	ERROR:5.7.9:551 Go away
Compat:a@b.example<@>e3@x.example	ERROR:551 5.7.8 Go away
Compat:a@b.example<@>e4@x.example	ERROR:450 Later
Compat:a@b.example<@>e5@x.example	ERROR:
Compat:a@b.example<@>o1@x.example	OK
Compat:a@b.example<@>o2@x.example	ERROR
Compat:a@b.example<@>o3@x.example	Whatever
Compat:a@b.example<@>r1@x.example	REJECT
Compat:a@b.example<@>r2@x.example	550 No
Compat:a@b.example<@>r3@x.example	450 Later
Compat:<><@>null@x.example	ERROR:550 No bounces
COMPAT:A@B.Example<@>Case@X.Example	DISCARD
Compat:@dom.example<@>u@x.example	ERROR:550 domain
Compat:ok@dom.example<@>u@x.example	OK
Compat:a@b.example<@>@closed.example	ERROR:550 closed
Compat:<@>any@x.example	ERROR:550 anybody
Compat:root<@>z@x.example	DISCARD
Compat:a@b.example<@>localuser	DISCARD
Compat:nothing	DISCARD
Connect:192.0.2.1	REJECT
a@b.example<@>plain@x.example	DISCARD
`)
	for question, want := range map[string]string{
		"d1@x.example": "discard 0", "d2@x.example": "discard 0", "d3@x.example": "discard 0", "t1@x.example": "tempfail 450 4.7.1 Not now", "t2@x.example": "tempfail 451 4.7.1 Not now",
		"e1@x.example": "reject 550 5.7.1 Go away", "e2@x.example": "reject 551 5.7.9 Go away", "e3@x.example": "reject 551 5.7.8 Go away", "e4@x.example": "tempfail 450 4.7.1 Later",
		"e5@x.example": "reject 550 5.7.1 " + textReject, "o1@x.example": "continue 0", "o2@x.example": "continue 0", "o3@x.example": "continue 0",
		"r1@x.example": "reject 550 5.7.1 " + textReject, "r2@x.example": "reject 550 5.7.1 No", "r3@x.example": "tempfail 450 4.7.1 Later", "CASE@x.example.": "discard 0",
		"d1+x@x.example": "continue 0", "any@x.example": "reject 550 5.7.1 anybody", "z@closed.example": "reject 550 5.7.1 closed", "plain@x.example": "continue 0", "rule@x.example": "reject 550 5.7.1 " + textReject,
	} {
		if got := said(t, c, "a@b.example -> "+question); got != want {
			t.Errorf("%s: %q, want %q", question, got, want)
		}
	}
	for question, want := range map[string]string{
		"<> -> null@x.example": "reject 550 5.7.1 No bounces", "<> -> any@x.example": "continue 0", "a+d@b.example -> d1@x.example": "continue 0", "x@dom.example -> u@x.example": "reject 550 5.7.1 domain",
		"ok@dom.example -> u@x.example": "continue 0", "root -> z@x.example": "continue 0", "a@b.example -> localuser": "continue 0",
	} {
		if got := said(t, c, question); got != want {
			t.Errorf("%s: %q, want %q", question, got, want)
		}
	}
	warnings := strings.Join(c.warnings(), "\n")
	for _, want := range []string{`ignores the value "REJECT"`, `ignores the value "550 No"`, `the value "ERROR" means nothing`, `the value "Whatever" means nothing`, "and 3 more such entries"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no warning of %s in:\n%s", want, warnings)
		}
	}
	bare := strings.Join(withTable(t, nameAccess, "Compat:a@b.example<@>localuser DISCARD\nCompat:nothing DISCARD\n").warnings(), "\n")
	for _, want := range []string{`"compat:a@b.example<@>localuser" names an address without a domain`, `"compat:nothing" has no "<@>"`} {
		if !strings.Contains(bare, want) {
			t.Errorf("no warning of %s in:\n%s", want, bare)
		}
	}
}

// TestPairs: the most exact pair counts.
func TestPairs(t *testing.T) {
	c := withTable(t, namePairs, `a@b.example	c@d.example	discard
a@b.example @d.example reject 551 5.7.9 Not there
a@b.example *   tempfail
@b.example	c@d.example pass
*   chief@d.example reject Ask the assistant
<>  noreply@d.example discard_message
x+y@b.example z@ hold suspicious
@.b.example @.d.example accept
key@b.example<@>value@d.example reject
`)
	for question, want := range map[string]string{
		"a@b.example -> c@d.example": "discard 0", "a+x@b.example -> c+y@d.example": "discard 0", "a@b.example -> e@d.example": "reject 551 5.7.9 Not there",
		"a@b.example -> e@f.example": "tempfail 451 4.7.1 " + textTempfail, "q@b.example -> c@d.example": "continue 0", "q@b.example -> chief@d.example": "reject 550 5.7.1 Ask the assistant",
		"<> -> chief@d.example": "continue 0", "<> -> noreply@d.example": "discard_message 0", "x+y@b.example -> z@any.example": "hold 0 suspicious", "x@b.example -> z@any.example": "continue 0",
		"q@c.b.example -> q@x.d.example": "accept 0", "key@b.example -> value@d.example": "reject 550 5.7.1 " + textReject, "q@z -> rule@x.example": "reject 550 5.7.1 " + textReject,
	} {
		if got := said(t, c, question); got != want {
			t.Errorf("%s: %q, want %q", question, got, want)
		}
	}
	for line, want := range map[string]string{
		"a@b c@d bogus": `"bogus" is not an action`, "a@b c@d": `"" is not an action`, "a@b c*@d discard": "expected", "list:x c@d discard": "expected", "a@b c@d reject 450 x": "450 is not a code",
	} {
		c := withTable(t, namePairs, "x@y z@w discard\n"+line+"\n")
		if _, err := c.Check(t.Context(), &questionOf(t, "x@y -> z@w").query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

// TestOrder: access before pairs before rules; OK in an access map is no answer for the rest.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "access"), "Compat:a@b.example<@>1@x.example DISCARD\nCompat:a@b.example<@>2@x.example OK\n")
	write(t, filepath.Join(dir, "pairs"), "a@b.example @x.example tempfail\na@b.example 3@x.example pass\n")
	c := checkOf(t, fmt.Sprintf("[rules]\naccess = [\"texthash:%[1]s/access\"]\npairs = [\"texthash:%[1]s/pairs\"]\n[[rule]]\nname = \"r\"\nrecipient = [\"@x.example\"]\n", dir))
	for question, want := range map[string]string{
		"a@b.example -> 1@x.example": "rule:access", "a@b.example -> 2@x.example": "rule:pairs", "a@b.example -> 3@x.example": "rule:pairs", "b@b.example -> 1@x.example": "rule:r",
	} {
		if v := ask(t, c, question); string(v.Reason) != want {
			t.Errorf("%s: %+v, want %s", question, v, want)
		}
	}
}

// FuzzCompat: no entry of an access map breaks the reader, and what is kept can be read.
func FuzzCompat(f *testing.F) {
	f.Add("Compat:a@b<@>c@d", "ERROR:5.7.1:550 no")
	f.Add("compat:<><@>c@d", "TEMP:450")
	f.Add("Compat:<@>@d", "\"550 x\"")
	f.Add("Compat:@<@>@", "DISCARD x")
	f.Fuzz(func(t *testing.T, key, value string) {
		sender, recipient, kept, _, err := readCompat(key, value)
		o := parseCompat(value)
		if err != nil {
			if !errors.Is(err, errNotOurs) {
				t.Errorf("%q: %v", key, err)
			}
			return
		}
		fits(t, o)
		_ = kept
		if sender.Text == "" || recipient.Text == "" || strings.Contains(sender.Text, "\x00") {
			t.Errorf("%q: the keys %q and %q", key, sender.Text, recipient.Text)
		}
	})
}

// fits holds that a refusal's parts fit together.
func fits(t *testing.T, o outcome) {
	t.Helper()
	if !o.verdict.Action.Refuses() {
		return
	}
	fitted := o.verdict
	if fitted.Fit(0, "", ""); fitted != o.verdict || fitted.Text == "" {
		t.Errorf("%+v does not fit together: %+v", o.verdict, fitted)
	}
}

// FuzzPairs: no line of a file of pairs breaks the reader, and what is kept can be read again.
func FuzzPairs(f *testing.F) {
	f.Add("a@b", "c@d discard")
	f.Add("*", "@d reject 550 5.7.1 x")
	f.Add("a@b<@>c@d", "tempfail x")
	f.Fuzz(func(t *testing.T, key, value string) {
		sender, recipient, kept, _, err := readPair(key, value)
		if err != nil {
			return
		}
		o, err := parsePair(kept)
		if err != nil {
			t.Fatalf("%q %q: %q cannot be read: %v", key, value, kept, err)
		}
		fits(t, o)
		if sender.Form > pattern.FormNull || recipient.Form > pattern.FormNull {
			t.Errorf("%v %v", sender, recipient)
		}
	})
}
