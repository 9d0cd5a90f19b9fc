// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// addition is something that a gate has besides its defaults.
type addition struct {
	what string
	// config writes the files it needs into a directory, and gives what stands in the
	// configuration.
	config func(dir string) (string, error)
}

var (
	addQuota = addition{"quota", quotaConfig}
	addRules = addition{"10,000 pairs and 100 rules", rulesConfig}
	addLists = addition{"a blocklist", func(string) (string, error) { return "[[blocklist]]\nname = \"virus\"\n", nil }}
)

// withEcho measures remembered answers of a gate that has more, compared with the echo milter.
func withEcho(more ...addition) func(ctx context.Context, b *bench, t *Table) error {
	return func(ctx context.Context, b *bench, t *Table) error {
		echo, gate, done, err := b.pair(ctx, b.echo, more...)
		if err != nil {
			return err
		}
		defer done()
		if err := b.turns(ctx, echo, gate, b.Rounds, b.Each, 0); err != nil {
			return err
		}
		ratio, values := ratioOf(gate, echo)
		values["gate_us"], values["echo_us"] = gate.perAnswer(), echo.perAnswer()
		t.Bar("remembered answers with "+describe(more), fmt.Sprintf("%.0f RCPT/s, echo milter %.0f: %.2f; %.1f µs and %.1f µs of processor time",
			values["gate"], values["other"], ratio, gate.perAnswer(), echo.perAnswer()), "0.80 of the echo milter", ratio >= 0.80, values)
		return nil
	}
}

// ratioOf compares the rates of turns that followed each other.
func ratioOf(gate, other *side) (float64, map[string]float64) {
	ratio := MedianRatio(gate.rates, other.rates)
	return ratio, map[string]float64{"gate": Median(gate.rates), "other": Median(other.rates), "ratio": ratio}
}

func describe(list []addition) string {
	var words []string
	for _, a := range list {
		words = append(words, a.what)
	}
	return strings.Join(words, ", ")
}

// quotaConfig has the gate ask a file that gives everybody 1 GB, and counts nothing as used.
func quotaConfig(dir string) (string, error) {
	var users strings.Builder
	names := people(goodUser, 1, rememberedPeople, domain)
	for range rememberedPeople {
		fmt.Fprintf(&users, "%s 0 1000000000\n", names.Append(nil))
	}
	path := filepath.Join(dir, "quotas")
	return fmt.Sprintf("[quota]\nsources = [%q]\n", "file:"+path), os.WriteFile(path, []byte(users.String()), 0o600)
}

// rulesConfig has 10,000 pairs and 100 rules of the usual kinds.
func rulesConfig(dir string) (string, error) {
	var pairs, rules strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&pairs, "someone%d@sender%d.example user%d@%s reject\n", i, i%100, i, domain)
	}
	path := filepath.Join(dir, "pairs")
	fmt.Fprintf(&rules, "[rules]\npairs = [%q]\n", "texthash:"+path)
	for i := range 20 {
		for _, conditions := range []string{
			"recipient = [\"list%[1]d@%[2]s\"]\nauth = false", "sender = [\"*@*.farm%[1]d.example\"]\nrecipient = [\"ann@%[2]s\"]",
			"sender = [\"leaver%[1]d@%[2]s\"]\nrecipient = [\"!@$local\"]", "auth_user = [\"kiosk%[1]d\"]\nrecipient = [\"!@%[2]s\"]",
			"client = [\"10.%[1]d.0.0/16\"]\nrecipient = [\"!@%[2]s\"]",
		} {
			fmt.Fprintf(&rules, "[[rule]]\n"+conditions+"\n", i, domain)
		}
	}
	return rules.String(), os.WriteFile(path, []byte(pairs.String()), 0o600)
}
