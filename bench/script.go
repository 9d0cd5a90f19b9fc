// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"rcptgate/backend/sim"
)

// scriptMicros is the most of the gate's processor time, in µs, that a script may add to a remembered answer.
const scriptMicros = 6

// withoutScript measures what a script adds to remembered answers: one that a rule calls, compared with a gate whose same
// rule calls nothing, and one on every recipient, compared with a gate that has none.
func withoutScript(ctx context.Context, b *bench, t *Table) error {
	ruleAlone := func(ctx context.Context, backend *sim.Server) (*process, error) {
		return b.gate(ctx, backend, addition{"a rule", func(string) (string, error) { return seldomRule("pass"), nil }})
	}
	for _, row := range []struct {
		what, other string
		compared    starter
		config      func(dir string) (string, error)
		bar         string
		met         func(ratio, added float64) bool
	}{
		{"a script that a rule calls for 1 recipient in 100", "a gate whose rule calls nothing", ruleAlone, calledConfig,
			"0.97", func(ratio, _ float64) bool { return ratio >= 0.97 }},
		{"a script on every recipient", "a gate without it", b.plain, everyConfig,
			fmt.Sprintf("%d µs more", scriptMicros), func(_, added float64) bool { return added <= scriptMicros }},
	} {
		other, gate, done, err := b.pair(ctx, row.compared, addition{row.what, row.config})
		if err != nil {
			return err
		}
		err = b.turns(ctx, other, gate, b.Rounds*pieces, b.Each/pieces, 0)
		done()
		if err != nil {
			return err
		}
		ratio, values := ratioOf(gate, other)
		added := gate.perAnswer() - other.perAnswer()
		values["added_us"] = added
		t.Bar("remembered answers with "+row.what, fmt.Sprintf("%.0f RCPT/s, %s %.0f: %.2f (%.1f µs more)",
			values["gate"], row.other, values["other"], ratio, added), row.bar, row.met(ratio, added), values)
	}
	return nil
}

// scriptText is a function of the usual size: it compares, looks up and formats.
const scriptText = `FARM = re(r"@[a-z0-9-]+\.farm\.example\.net$")
LEAVERS = {"leaver%%d@example.com" %% n: True for n in range(100)}

def %s(r):
    sender = str(r.sender)
    if sender in LEAVERS:
        return reject("No longer here")
    if r.address == "ann@example.com" and FARM.search(sender):
        return discard()
    if r.sender.domain.endswith(".invalid") or r.size > 100000000:
        return tempfail("Later")
    return None
`

// seldomRule is a rule for 1 recipient in 100.
func seldomRule(action string) string {
	return fmt.Sprintf("[[rule]]\nrecipient = [\"*00@%s\"]\naction = %q\n", domain, action)
}

// calledConfig has a rule call a script's function for 1 recipient in 100.
func calledConfig(dir string) (string, error) {
	section, err := scriptConfig(dir, "seldom")
	return section + seldomRule("call") + "call = \"seldom\"\n", err
}

// everyConfig has a script asked about every recipient.
func everyConfig(dir string) (string, error) { return scriptConfig(dir, "recipient") }

// scriptConfig writes a script whose one function has that name.
func scriptConfig(dir, function string) (string, error) {
	path := filepath.Join(dir, "filter.star")
	return fmt.Sprintf("[script]\nfile = %q\n", path), os.WriteFile(path, fmt.Appendf(nil, scriptText, function), 0o600)
}
