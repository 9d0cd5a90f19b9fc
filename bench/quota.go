// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// rememberedQuota measures remembered answers with a quota source configured: whether there
// is room for the message is asked of memory, too.
func rememberedQuota(ctx context.Context, b *bench, t *Table) error {
	echo, gate, done, err := b.pair(ctx, withQuota)
	if err != nil {
		return err
	}
	defer done()
	if err := b.turns(ctx, echo, gate, b.Rounds, b.Each, 0); err != nil {
		return err
	}
	ratio := MedianRatio(gate.rates, echo.rates)
	values := map[string]float64{"gate": Median(gate.rates), "echo": Median(echo.rates), "ratio": ratio}
	t.Bar("remembered answers with quota on", fmt.Sprintf("%.0f RCPT/s, echo milter %.0f: %.2f", values["gate"], values["echo"], ratio),
		"0.80 of the echo milter", ratio >= 0.80, values)
	return nil
}

// withQuota has the gate ask a file that gives everybody 1 GB, and counts nothing as used.
func withQuota(dir string) error {
	var users strings.Builder
	names := people(goodUser, 1, rememberedPeople, domain)
	for range rememberedPeople {
		fmt.Fprintf(&users, "%s 0 1000000000\n", names.Append(nil))
	}
	path := filepath.Join(dir, "quotas")
	if err := os.WriteFile(path, []byte(users.String()), 0o600); err != nil {
		return err
	}
	config, err := os.OpenFile(filepath.Join(dir, "rcptgate.toml"), os.O_APPEND|os.O_WRONLY, 0) // #nosec G304 -- our own folder
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(config, "\n[quota]\nsources = [%q]\n", "file:"+path); err != nil {
		_ = config.Close()
		return err
	}
	return config.Close()
}
