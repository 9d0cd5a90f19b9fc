// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// recipe is one block of TOML in docs/rules.md.
type recipe struct{ title, text string }

// recipes reads the document. The first one is the site; the others are its rules.
func recipes(tb testing.TB) (site string, list []recipe) {
	tb.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "rules.md"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, part := range strings.Split(string(doc), "\n### ")[1:] {
		title, _, _ := strings.Cut(part, "\n")
		for _, m := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(part, -1) {
			list = append(list, recipe{title, m[1]})
		}
	}
	head, _, _ := strings.Cut(string(doc), "\n### ")
	m := regexp.MustCompile("(?s)```toml\n(.*?)```").FindStringSubmatch(head)
	if m == nil {
		tb.Fatal("docs/rules.md has no site")
	}
	return strings.Replace(m[1], "hostname = \"mx.example.org\"\n", "", 1), list
}

// TestCookbook runs the very text of each recipe with its expectations.
func TestCookbook(t *testing.T) {
	site, list := recipes(t)
	wishes := make(map[string]bool)
	for _, r := range list {
		number, _, _ := strings.Cut(r.title, ".")
		wishes[number] = true
		t.Run(r.title, func(t *testing.T) {
			c := checkOf(t, site+r.text)
			if n := c.expectations(); n < len(c.rules) {
				t.Errorf("%d expectations for %d rules", n, len(c.rules))
			}
			if err := c.Verify(t.Context(), true); err != nil {
				t.Error(err)
			}
			for _, w := range c.warnings() {
				t.Errorf("a recipe that is warned of: %s", w)
			}
			for i, rule := range c.rules {
				if rule.filed == "every question" && !strings.Contains("16 17 18 23 24 13", number) {
					t.Errorf("rule %d is looked at for every question", i)
				}
			}
		})
	}
	if len(wishes) != 24 {
		t.Errorf("%d of 24 wishes have a recipe", len(wishes))
	}
}

// TestCookbookExpectsSomething: without its rules, each recipe's expectations fail.
func TestCookbookExpectsSomething(t *testing.T) {
	site, list := recipes(t)
	for _, r := range list {
		for i := range checkOf(t, site+r.text).rules {
			c := checkOf(t, site+r.text)
			c.rules[i].says = found{act: Pass}
			if c.Verify(t.Context(), true) == nil {
				t.Errorf("%s: rule %d does nothing, and nobody notices", r.title, i)
			}
		}
	}
}
