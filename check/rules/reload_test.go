// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/unit"
)

// TestFailedExpectation: a configuration with an expectation that does not hold does not replace the
// active one, and config check refuses it. The error names the line, and what the rules say instead.
func TestFailedExpectation(t *testing.T) {
	units := []unit.Unit{Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	state := "state = \"" + t.TempDir() + "\"\n"
	good := state + "[[rule]]\nname = \"old\"\nrecipient = [\"a@x\"]\nexpect = [\"s@t -> a@x: reject 550\", \"s@t -> b@x: continue\"]\n"
	text := good
	c, err := unit.Parse(schema, "test.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Offline: true, Stderr: t.Output(), Reread: func() (*unit.Config, error) { return unit.Parse(schema, "test.toml", text) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	says := func(want rcptgate.Action) {
		t.Helper()
		v, err := h.Step(rcptgate.StageRcpt, stepName).Check(t.Context(), &rcptgate.Query{Sender: "s@t", Recipient: rcptgate.Mailbox{Path: "a@x", Local: "a", Domain: "x"}})
		if err != nil || v.Action != want {
			t.Errorf("%+v, %v; want %v", v, err, want)
		}
	}
	for name, c := range map[string]struct{ rules, want string }{
		"another action": {"[[rule]]\nname = \"new\"\nrecipient = [\"a@x\"]\naction = \"discard\"\nexpect = [\"s@t -> b@x: continue\",\n\"s@t -> a@x: reject\"]\n", `test.toml:7: rule[1].expect[2]: "s@t -> a@x: reject" does not hold: the rules say discard (rule "new")`},
		"no rule":        {"[[rule]]\nrecipient = [\"b@x\"]\nexpect = [\"s@t -> a@x: reject\"]\n", `test.toml:4: rule[1].expect[1]: "s@t -> a@x: reject" does not hold: the rules say continue (no rule matches)`},
		"another code":   {"[[rule]]\nrecipient = [\"a@x\"]\nexpect = [\"s@t -> a@x: reject 551\"]\n", `test.toml:4: rule[1].expect[1]: "s@t -> a@x: reject 551" does not hold: the reply code is 550 (rule "1")`},
		"shadowed":       {"[[rule]]\nsender = [\"@t\"]\naction = \"pass\"\n[[rule]]\nrecipient = [\"a@x\"]\nexpect = [\"s@t -> a@x: reject\"]\n", `test.toml:7: rule[2].expect[1]`},
		"rehearsed":      {"[[rule]]\nrecipient = [\"a@x\"]\nenforce = false\nexpect = [\"s@t -> a@x: continue\"]\n", `does not hold: the rules say reject`},
	} {
		text = state + c.rules
		_, err := h.Reload()
		if err == nil || !strings.Contains(columns.ReplaceAllString(err.Error(), "$1 "), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
		says(rcptgate.Reject)
		if checked, err := hostOf(t, c.rules); err != nil || checked.Verify() == nil {
			t.Errorf("%s: config check says nothing: %v", name, err)
		}
	}
	text = strings.ReplaceAll(good, "reject 550", "tempfail") + "action = \"tempfail\"\n"
	if _, err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	says(rcptgate.Tempfail)
}
