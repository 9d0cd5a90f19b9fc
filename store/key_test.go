// SPDX-License-Identifier: BSD-2-Clause

package store

import "testing"

func TestKeys(t *testing.T) {
	const backend, domain = "smtp:[10.0.0.5]:25", "example.com"
	finding := FindingKey(backend, domain)
	for key, want := range map[string]string{
		"user@example.com":                domain,
		"@evil.example x@example.com":     domain,
		"@example.com " + backend:         "example.com " + backend,
		"postmaster":                      "postmaster",
		finding:                           domain,
		ReplacedKey("user@example.com"):   domain,
		ReplacedKey("@x y@z@example.com"): domain,
	} {
		if got := Domain(key); got != want {
			t.Errorf("the domain of %q is %q, not %q", key, got, want)
		}
	}
	text := KeyText(finding)
	if text != "@example.com smtp:[10.0.0.5]:25" || IsRecipient(finding) {
		t.Errorf("%q", text)
	}
	if key, ok := ParseFinding(text); !ok || key != finding {
		t.Errorf("%q, %v", key, ok)
	}
	for _, text := range []string{"", "@", "@ x", "@x ", "x y", "user@example.com"} {
		if key, ok := ParseFinding(text); ok {
			t.Errorf("%q is the finding %q", text, key)
		}
	}
}
