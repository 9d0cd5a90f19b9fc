// SPDX-License-Identifier: BSD-2-Clause

package cases

import (
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/test/lab"
)

// Every case runs through every front. The real servers are started once, the gate once a case and front.
func TestCases(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit, lab.DovecotKit)
	w := StartWorld(t)
	w.Gate.Run()
	for _, front := range []Front{w.Bare(), w.Postfix(t), w.Sendmail(t)} {
		for _, path := range files(t) {
			c, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(front.Name()+"/"+c.Name, func(t *testing.T) { w.Run(t, c, front) })
		}
	}
}

func files(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("*.case")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	return paths
}

// Every file can be read, with or without a lab.
func TestFiles(t *testing.T) {
	for _, path := range files(t) {
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
	}
}

// What is written wrongly is named with its line: a case that is not run as meant would prove nothing.
func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"rcpt a@b 250":                 "1: a case needs a comment",
		"# x\n":                        "1: a case needs a comment",
		"# x\nrcpd a@b 250":            `2: no step is called "rcpd"`,
		"# x\nrcpt a@b":                "2: rcpt takes 2 to 4 arguments",
		"# x\nrcpt a@b two":            `2: reply code "two"`,
		"# x\n\n[exim] rcpt a@b 250":   `3: front "exim"`,
		"# x\nrcpt a@b 250 <soon":      "2: time: invalid duration",
		"# x\nuntil 1s mail a@b 250":   "2: until takes rcpt",
		"# x\nlogged":                  "2: logged takes /REGEXP/",
		"# x\nrcpt a@b 250 /no end":    "2: a /REGEXP/ without its end",
		"# x\n[postfix]":               "2: a front without a step",
		"# x\ncut":                     "2: cut takes 1 to 1 arguments",
		"# x\nlogged /(/":              "2: error parsing regexp",
		"# x\nuntil soon rcpt a@b 250": "2: time: invalid duration",
	} {
		_, err := Parse(text)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A step is read as it is meant.
func TestParse(t *testing.T) {
	c, err := Parse("# shows it\nconfig:\n    enforce = false\n    [cache]\n\n[sendmail bare] rcpt \"quo ted\"@pf.test 550 5.1.1 /a .*b/ <9s\nuntil 5s rcpt x@y 250\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.About != "shows it" || c.Config != "enforce = false\n[cache]\n" || len(c.Steps) != 2 {
		t.Fatalf("%+v", c)
	}
	s := c.Steps[0]
	if s.Args[0] != `"quo ted"@pf.test` || s.Want.Code != 550 || s.Want.Enhanced != "5.1.1" || s.Want.Text.String() != "a .*b" ||
		s.Want.Within.Seconds() != 9 || s.runs("postfix") || !s.runs("bare") {
		t.Errorf("%+v", s)
	}
	if c.Steps[1].Until.Seconds() != 5 || !c.Steps[1].runs("postfix") {
		t.Errorf("%+v", c.Steps[1])
	}
}
