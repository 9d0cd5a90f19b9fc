// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// sharing is a [cache] section that shares through the servers.
func sharing(keyFile string, servers ...*lab.Memcached) string {
	var list []string
	for _, s := range servers {
		list = append(list, fmt.Sprintf("%q", s.Socket()))
	}
	text := "[cache]\nmemcached = [" + strings.Join(list, ", ") + "]\n"
	if keyFile != "" {
		text += fmt.Sprintf("memcached_key_file = %q\n", keyFile)
	}
	return text
}

// TestTwoGatewaysShare: what one learns the other finds; metrics, status page and cache
// stats show the servers, and the log a death.
func TestTwoGatewaysShare(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	key := filepath.Join(t.TempDir(), "cache.key")
	if err := os.WriteFile(key, []byte("the key of this test, long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(locked)
	var gates []*unit.Host
	for range 2 {
		d, err := smallHost(t, unit.Options{Stderr: log, Wait: patience}, smallText(t.TempDir(), "", sharing(key, servers...)))
		if err != nil {
			t.Fatal(err)
		}
		gates = append(gates, d)
	}
	name := func(i int) string { return fmt.Sprintf("user%d@example.org", i) }
	for i := range 20 {
		gates[0].Memory.Learn(name(i), time.Now(), func(store.Record) store.Record { return storetest.Valid(time.Now()) })
	}
	for i := range 20 {
		testkit.Eventually(t, name(i), func() bool {
			_, source, ok := gates[1].Memory.Recall(context.Background(), name(i))
			if ok && !strings.HasPrefix(source, "memcached") && source != "ram" {
				t.Errorf("it comes from %s", source)
			}
			return ok
		})
	}
	servers[1].Kill()
	up := func(s *lab.Memcached, n int) string {
		return fmt.Sprintf("rcptgate_memcached_up{server=%q} %d\n", s.Addr, n)
	}
	testkit.Eventually(t, "the metrics show the death", func() bool {
		for i := range 50 { // somebody has to ask it
			gates[1].Memory.Recall(context.Background(), fmt.Sprintf("other%d@example.org", i))
		}
		text := page(gates[1], "/metrics")
		return strings.Contains(text, up(servers[0], 1)) && strings.Contains(text, up(servers[1], 0))
	})
	text := page(gates[1], "/metrics")
	for _, want := range []string{
		"rcptgate_memcached_hits_total{", "rcptgate_memcached_misses_total{", "rcptgate_memcached_errors_total{", "rcptgate_memcached_seconds_bucket{",
		"rcptgate_memcached_queue 0", "rcptgate_memcached_bad_values_total{", "rcptgate_memcached_tombstones 0", "rcptgate_cache_hits_total{place=\"memcached\"}",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	if text := page(gates[1], "/"); !strings.Contains(text, "memcached server does not answer") || !strings.Contains(text, "(server "+servers[1].Addr) || strings.Contains(text, "(server "+servers[0].Addr) {
		t.Errorf("the status page does not say which server is dead:\n%s", text)
	}
	testkit.Eventually(t, "the log tells of the death", func() bool { return strings.Contains(log.String(), "memcached server does not answer") })

	code, out := gateway{t, writeConfig(t, gates[1])}.run("cache", "stats")
	for _, want := range []string{"memcached             -            -            -", servers[0].Addr + ": ", "dead since"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("cache stats has no %q:\n%s", want, out)
		}
	}
}

// writeConfig makes a file by which commands find a host.
func writeConfig(t *testing.T, h *unit.Host) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rcptgate.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "state = %q\n", h.Config().Core().State), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReloadOfSharedMemory: a key file with a mistake changes nothing, other servers take
// effect at once, and from nothing to something is for a restart.
func TestReloadOfSharedMemory(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	dir := t.TempDir()
	open := filepath.Join(dir, "open.key")
	if err := os.WriteFile(open, []byte("the key of this test, long enough\n"), 0o644); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	next := ""
	p, _ := testConfig(t, "")
	reread := func() (*unit.Config, error) { return unit.Parse(p.schema, "next.toml", smallText(dir, "", next)) }
	h, err := smallHost(t, unit.Options{Reread: reread, Wait: patience}, smallText(dir, "", sharing("", servers[0])))
	if err != nil {
		t.Fatal(err)
	}
	next = sharing(open, servers...)
	if _, err := h.Reload(); err == nil || !strings.Contains(err.Error(), "next.toml:9:1: cache.memcached_key_file") || len(h.Shared.Stats()) != 1 {
		t.Errorf("a key file that everybody can read: %v", err)
	}
	next = sharing("", servers...)
	if done, err := h.Reload(); err != nil || len(done.Restart) > 0 || len(h.Shared.Stats()) != 2 {
		t.Errorf("one server more: %v, %v", done, err)
	}
	next = sharing("")
	if done, err := h.Reload(); err != nil || len(done.Restart) > 0 || !h.Shared.Down() {
		t.Errorf("none: %v, %v", done, err)
	}
	alone, err := smallHost(t, unit.Options{Reread: func() (*unit.Config, error) {
		return unit.Parse(p.schema, "next.toml", smallText(dir+"2", "", sharing("", servers[0])))
	}}, smallText(dir+"2", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if done, err := alone.Reload(); err != nil || !slices.Equal(done.Restart, []string{"cache.memcached"}) {
		t.Errorf("from none to one needs a restart: %v, %v", done, err)
	}
}
