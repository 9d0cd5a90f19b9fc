// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// rememberedRules measures remembered answers with the rules of a large site, none of which
// matches.
func rememberedRules(ctx context.Context, b *bench, t *Table) error {
	echo, gate, done, err := b.pair(ctx, withRules)
	if err != nil {
		return err
	}
	defer done()
	if err := b.turns(ctx, echo, gate, b.Rounds, b.Each, 0); err != nil {
		return err
	}
	ratio := MedianRatio(gate.rates, echo.rates)
	values := map[string]float64{"gate": Median(gate.rates), "echo": Median(echo.rates), "ratio": ratio}
	t.Bar("remembered answers with 10,000 pairs and 100 rules", fmt.Sprintf("%.0f RCPT/s, echo milter %.0f: %.2f", values["gate"], values["echo"], ratio),
		"0.80 of the echo milter", ratio >= 0.80, values)
	return nil
}

// withRules gives the gate 10,000 pairs and 100 rules of the usual kinds.
func withRules(dir string) error {
	var pairs, rules strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&pairs, "someone%d@sender%d.example user%d@%s reject\n", i, i%100, i, domain)
	}
	path := filepath.Join(dir, "pairs")
	if err := os.WriteFile(path, []byte(pairs.String()), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(&rules, "\n[rules]\npairs = [%q]\n", "texthash:"+path)
	for i := range 20 {
		for _, conditions := range []string{
			"recipient = [\"list%[1]d@%[2]s\"]\nauth = false", "sender = [\"*@*.farm%[1]d.example\"]\nrecipient = [\"ann@%[2]s\"]",
			"sender = [\"leaver%[1]d@%[2]s\"]\nrecipient = [\"!@$local\"]", "auth_user = [\"kiosk%[1]d\"]\nrecipient = [\"!@%[2]s\"]",
			"client = [\"10.%[1]d.0.0/16\"]\nrecipient = [\"!@%[2]s\"]",
		} {
			fmt.Fprintf(&rules, "[[rule]]\n"+conditions+"\n", i, domain)
		}
	}
	config, err := os.OpenFile(filepath.Join(dir, "rcptgate.toml"), os.O_APPEND|os.O_WRONLY, 0) // #nosec G304 -- our own folder
	if err != nil {
		return err
	}
	if _, err := config.WriteString(rules.String()); err != nil {
		_ = config.Close()
		return err
	}
	return config.Close()
}
