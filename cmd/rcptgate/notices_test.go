// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/front/admin"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// attention is what status lists, each on a line.
func attention(h *unit.Host) string { return strings.Join(h.Status().Attention, "\n") }

// TestAttentionEndsWithItsCause: what was mended is off the list once the configuration is read
// again or the fault is gone, and nothing is listed twice.
func TestAttentionEndsWithItsCause(t *testing.T) {
	dir := t.TempDir()
	server := sim.New(sim.Config{Behaviour: testUsers()})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	script := filepath.Join(dir, "filter.star")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A folder that is not empty stands where the admin socket belongs.
	if err := os.MkdirAll(filepath.Join(dir, "state", "admin.sock", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, _ := testConfig(t, "")
	config := func(more string) string {
		return smallText(dir, "", fmt.Sprintf("[script]\nfile = %q\non_error = \"continue\"\n[[domain]]\nname = %q\nbackend = [%q]\n%s", script, testDomain, server.Backend(), more))
	}
	var text atomic.Pointer[string]
	set := func(more string) { c := config(more); text.Store(&c) }
	write("def recipient(r):\n    return reject(1/0)\n")
	set("[quota]\nsources = [\"tcp:127.0.0.1:1\"]\nkey_file = \"" + quotaKey(t, dir) + "\"\n")
	h, err := smallHost(t, unit.Options{Look: 5 * time.Millisecond, Reread: func() (*unit.Config, error) { return unit.Parse(p.schema, "next.toml", *text.Load()) }}, *text.Load())
	if err != nil {
		t.Fatal(err)
	}
	if got := attention(h); !strings.Contains(got, "no admin socket") {
		t.Errorf("before the socket can be made: %s", got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state", "admin.sock")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the notice's end", func() bool { return !strings.Contains(attention(h), "no admin socket") })

	ask := func() {
		q, err := (&admin.CheckRequest{Recipient: "ann@" + testDomain}).Query()
		if err != nil {
			t.Fatal(err)
		}
		q.Inquiry = false
		h.Gate.Ask(t.Context(), q)
	}
	for range 10 {
		ask()
	}
	testkit.Eventually(t, "the quota source's notice", func() bool { return strings.Contains(attention(h), "quota source does not answer") })
	got := attention(h)
	if n := strings.Count(got, "quota source "); n != 1 || strings.Count(got, "a function of the script fails") != 1 {
		t.Errorf("%d lines about the source:\n%s", n, got)
	}
	write("def recipient(r):\n    return None\n")
	set("")
	if _, err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	ask()
	if got := attention(h); got != "" {
		t.Errorf("after all was mended:\n%s", got)
	}
}

func quotaKey(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "quota.key")
	if err := os.WriteFile(path, []byte("g1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
