// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/front/admin"
	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// inquiryScript counts, remembers and lists whoever writes to ann.
const inquiryScript = `
SEEN = counter("seen", window="1h")
LAST = memory("last", expire="1h")
BAD = blocklist("bad")

def recipient(r):
    if r.address.startswith("ann@"):
        SEEN.add("all")
        LAST.set("sender", "somebody")
        BAD.add(r.client.ip, "wrote to ann")
`

// counts is what the gate has counted, as status, metrics and the script's own stores show it.
func counts(h *unit.Host) (text string) {
	for _, name := range []string{"harvest", "rules", "script-memory", "blocklist", "blocklists", "script", "decisions", "quota"} {
		for _, v := range h.Views() {
			if v.Name == name {
				text += fmt.Sprintln(v.Name, v.Rows)
			}
		}
	}
	for line := range strings.Lines(page(h, "/metrics")) {
		for _, word := range []string{"decisions_total", "duration_seconds_count", "rule_hits", "harvest", "blocklist", "script_calls", "quota_refused", "quota_served"} {
			if strings.Contains(line, word) && strings.HasPrefix(line, "rcptgate_") { // not those of Go itself
				text += line
			}
		}
	}
	return text
}

// TestAPersonsQuestionIsNotMail asks with "rcptgate check", again and again, what an MTA asks
// as well. The verdicts are the same; only the MTA's questions count.
func TestAPersonsQuestionIsNotMail(t *testing.T) {
	dir := t.TempDir()
	server := sim.New(sim.Config{Behaviour: testUsers()})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	quotas, script := filepath.Join(dir, "quotas"), filepath.Join(dir, "filter.star")
	for path, text := range map[string]string{quotas: "ann@" + testDomain + " 0 2000000\nbob@" + testDomain + " 9000000 8000000\n", script: inquiryScript} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := new(locked)
	h, err := smallHost(t, unit.Options{Stderr: log}, smallText(dir, "", fmt.Sprintf(`
[quota]
sources = ["file:%s"]
timeout = "10s"
[script]
file = %q
[[blocklist]]
name = "bad"
[harvest]
limit = 2
[[rule]]
name = "no dave"
recipient = ["dave@*"]
[[domain]]
name = %q
backend = [%q]
`, quotas, script, testDomain, server.Backend())))
	if err != nil {
		t.Fatal(err)
	}
	put := func(local, client string, inquiry bool) string {
		t.Helper()
		req := admin.CheckRequest{Recipient: local + "@" + testDomain, Sender: "s@sender.example", Client: client, Size: 500_000}
		q, err := req.Query()
		if err != nil {
			t.Fatal(err)
		}
		if q.Inquiry = q.Inquiry && inquiry; inquiry && !q.Inquiry {
			t.Fatal("rcptgate check does not say that a person asks")
		}
		v := h.Gate.Ask(t.Context(), q)
		return fmt.Sprint(v.Action, " ", v.Reason)
	}
	all := []string{"nobody", "bob", "dave", "ann"} // ann comes last: her mail lists the client
	for _, local := range all {                     // the answers are known from here on
		put(local, "198.51.100.1", true)
	}
	before := counts(h)
	for range 5 {
		for _, local := range all {
			if got := put(local, "198.51.100.1", true); strings.HasSuffix(got, "harvest") {
				t.Errorf("%s: %s: a person was counted", local, got)
			}
		}
	}
	if after := counts(h); after != before {
		t.Errorf("a person's questions count:\n%s\nbefore:\n%s", after, before)
	}
	said := map[string]string{}
	for _, local := range all {
		said[local] = put(local, "198.51.100.2", true)
	}
	for _, local := range all {
		if got := put(local, "198.51.100.2", false); got != said[local] {
			t.Errorf("%s: a person heard %q, mail hears %q", local, said[local], got)
		}
	}
	after := counts(h)
	for _, want := range []string{"decisions_total{", `rule_hits_total{action="reject",rule="no dave"} 1`, `script_calls_total{function="recipient"} 3`, `blocklist_entries{list="bad"} 1`, "[seen counter 1 ", "[last memory 1 "} {
		if !strings.Contains(after, want) || strings.Contains(before, want) {
			t.Errorf("%q does not tell mail from questions; before:\n%s\nafter:\n%s", want, before, after)
		}
	}
	put("bob", "198.51.100.2", true) // from a listed client
	if again := counts(h); again != after {
		t.Errorf("a question about a listed client counts:\n%s\nbefore:\n%s", again, after)
	}
	testkit.Eventually(t, "the log", func() bool { return strings.Contains(log.String(), "msg=decision") })
	h.Telemetry.Flush(time.Minute)
	for word, n := range map[string]int{"msg=check": 7*len(all) + 1, "msg=decision": len(all)} {
		if got := strings.Count(log.String(), word); got != n {
			t.Errorf("%d lines with %s, want %d", got, word, n)
		}
	}
}
