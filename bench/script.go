// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// scriptMicros is the most of the gate's processor time, in µs, that a script may add to a remembered answer.
const scriptMicros = 6

// withoutScript measures what a script adds to remembered answers, compared with a gate that has none.
func withoutScript(ctx context.Context, b *bench, t *Table) error {
	calls := addition{"a script that a rule calls for 1 recipient in 100", func(dir string) (string, error) { return scriptConfig(dir, true) }}
	every := addition{"a script on every recipient", func(dir string) (string, error) { return scriptConfig(dir, false) }}
	for _, more := range []addition{calls, every} {
		plain, gate, done, err := b.pair(ctx, b.plain, more)
		if err != nil {
			return err
		}
		err = b.turns(ctx, plain, gate, b.Rounds, b.Each, 0)
		done()
		if err != nil {
			return err
		}
		ratio, values := ratioOf(gate, plain)
		added := gate.perAnswer() - plain.perAnswer()
		values["added_us"] = added
		bar, met := fmt.Sprintf("%d µs more", scriptMicros), added <= scriptMicros
		if more.what == calls.what {
			bar, met = "0.97", ratio >= 0.97
		}
		t.Bar("remembered answers with "+more.what, fmt.Sprintf("%.0f RCPT/s, a gate without it %.0f: %.2f (%.1f µs more)",
			values["gate"], values["other"], ratio, added), bar, met, values)
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

// scriptConfig has a script asked about every recipient, or about 1 in 100, by a rule.
func scriptConfig(dir string, byRule bool) (string, error) {
	path := filepath.Join(dir, "filter.star")
	name, rule := "recipient", ""
	if byRule {
		name = "seldom"
		rule = fmt.Sprintf("[[rule]]\nrecipient = [\"*00@%s\"]\naction = \"call\"\ncall = \"seldom\"\n", domain)
	}
	return fmt.Sprintf("[script]\nfile = %q\n%s", path, rule), os.WriteFile(path, fmt.Appendf(nil, scriptText, name), 0o600)
}
