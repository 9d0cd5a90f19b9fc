// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/testkit"
	"rcptgate/route"
	"rcptgate/unit"
)

// TestFollowsMainCF: what main.cf says is active, config show says where it stands, a change
// takes effect without a reload, and one that is broken changes nothing.
func TestFollowsMainCF(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	table := "texthash:" + write("virtual", "x@virt.test ann@elsewhere.test\n")
	main := func(domains string) string {
		return fmt.Sprintf("mydestination = loc.test\nalias_maps =\nvirtual_alias_maps = %s\nvirtual_alias_domains = %s\n", table, domains)
	}
	cf := write("main.cf", main("other.test"))
	h, err := smallHost(t, unit.Options{Look: 10 * time.Millisecond}, smallText(dir, "", fmt.Sprintf("[aliases]\npostfix = %q\n", cf)))
	if err != nil {
		t.Fatal(err)
	}
	action := func() rcptgate.Action {
		q := &rcptgate.Query{Stage: rcptgate.StageRcpt, Recipient: address.Parse("absent@virt.test")}
		q.Target = q.Recipient
		return h.Gate.Ask(t.Context(), q).Action
	}
	if a := action(); a != rcptgate.Continue {
		t.Errorf("a name of no virtual domain: %v", a)
	}
	if text := h.Show(); !strings.Contains(text, "# aliases.virtual_alias_domains = other.test ("+cf+":4)") {
		t.Errorf("config show does not say where a setting stands:\n%s", text)
	}
	write("main.cf", main("other.test, virt.test"))
	testkit.Eventually(t, "the virtual domain is known", func() bool { return action() == rcptgate.Reject })
	write("main.cf", "broken\n")
	testkit.Eventually(t, "the fault is reported", func() bool { return len(h.Notices.List()) > 0 })
	if a := action(); a != rcptgate.Reject {
		t.Errorf("beside a broken main.cf: %v", a)
	}
	write("main.cf", main("other.test"))
	testkit.Eventually(t, "it is active again", func() bool { return action() == rcptgate.Continue && len(h.Notices.List()) == 0 })
}

// TestRoutesFollowMainCF: the next hop of relayed domains is main.cf's, and a change takes
// effect without a reload.
func TestRoutesFollowMainCF(t *testing.T) {
	dir := t.TempDir()
	cf := filepath.Join(dir, "main.cf")
	write := func(hop string) {
		t.Helper()
		if err := os.WriteFile(cf, []byte("compatibility_level = 3.6\nrelay_domains = rela.test\nrelayhost = "+hop+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[192.0.2.1]")
	var router *route.Router
	var mu sync.Mutex
	hook := func(s *unit.Setup) {
		mu.Lock()
		defer mu.Unlock()
		router = s.Router
	}
	h, err := smallHost(t, unit.Options{Hook: hook, Look: 10 * time.Millisecond}, smallText(dir, "", fmt.Sprintf("[routes]\npostfix = %q\n", cf)))
	if err != nil {
		t.Fatal(err)
	}
	hop := func() string {
		q := &rcptgate.Query{Stage: rcptgate.StageRcpt, Recipient: address.Parse("u@sub.rela.test")}
		q.Target = q.Recipient
		mu.Lock()
		defer mu.Unlock()
		if r := router.Route(q); r != nil {
			return r.String()
		}
		return "none"
	}
	if got := hop(); got != "smtp:[192.0.2.1]:25" {
		t.Errorf("route %s", got)
	}
	if text := h.Show(); !strings.Contains(text, "# routes.relay_to = relay:[192.0.2.1] ("+cf+":3)") {
		t.Errorf("config show does not say where a setting stands:\n%s", text)
	}
	write("[192.0.2.200]")
	testkit.Eventually(t, "the other host is the route", func() bool { return hop() == "smtp:[192.0.2.200]:25" })
	write("hub.test")
	testkit.Eventually(t, "a host without brackets is no route", func() bool { return hop() == "none" })
}
