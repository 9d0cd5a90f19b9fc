// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"context"
	"io"
	"testing"

	"rcptgate"
	"rcptgate/check/alias"
	"rcptgate/check/trusted"
	"rcptgate/pattern"
	"rcptgate/unit"
)

// hostOf opens the unit, with those that it gets words from, under a configuration.
func hostOf(tb testing.TB, text string) (*unit.Host, error) {
	tb.Helper()
	units := []unit.Unit{Unit(), trusted.Unit(), alias.Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", "state = \""+tb.TempDir()+"\"\nhostname = \"mx.example.org\"\n"+text)
	if err != nil {
		return nil, err
	}
	h, err := unit.Open(context.Background(), units, c, unit.Options{Offline: true, Stderr: io.Discard})
	if err == nil {
		tb.Cleanup(h.Stop)
	}
	return h, err
}

// testLanguage has own.example for the local domain.
func testLanguage() pattern.Language {
	return pattern.Language{Delimiters: "+", Local: func(_ context.Context, domain string) (bool, error) {
		return domain == "" || domain == "own.example", nil
	}}
}

// checkOf gives the rules of a configuration.
func checkOf(tb testing.TB, text string) *Check {
	tb.Helper()
	h, err := hostOf(tb, text)
	if err != nil {
		tb.Fatal(err)
	}
	c, _ := h.Step(rcptgate.StageRcpt, stepName).(*Check)
	if c == nil {
		tb.Fatal("no rules are configured")
	}
	return c
}
