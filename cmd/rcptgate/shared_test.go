// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/front/admin"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
)

// sharing makes a configuration of one gateway that shares through the servers.
func sharing(t *testing.T, keyFile string, servers ...*lab.Memcached) func(*loaded) {
	t.Helper()
	var list []memcached.Server
	for _, s := range servers {
		addr, err := memcached.ParseServer(s.Socket())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, addr)
	}
	return func(l *loaded) {
		l.Cache.Servers, l.Cache.KeyFile = list, keyFile
		l.Cache.Timeout, l.Cache.Budget = patience, patience
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never came true", what)
		}
	}
}

func page(d *daemon, path string) string {
	w := httptest.NewRecorder()
	d.web.Handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Body.String()
}

// TestTwoGatewaysShare: what one learns the other finds; metrics, status page and cache
// stats show the servers, and the log a death.
func TestTwoGatewaysShare(t *testing.T) {
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	key := filepath.Join(t.TempDir(), "cache.key")
	if err := os.WriteFile(key, []byte("the key of this test, long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(locked)
	var gates []*daemon
	for range 2 {
		d, err := smallDaemon(t, t.TempDir(), daemonOptions{stderr: log}, sharing(t, key, servers...))
		if err != nil {
			t.Fatal(err)
		}
		gates = append(gates, d)
	}
	name := func(i int) string { return fmt.Sprintf("user%d@example.org", i) }
	for i := range 20 {
		gates[0].memory.Learn(name(i), time.Now(), func(store.Record) store.Record { return storetest.Valid(time.Now()) })
	}
	for i := range 20 {
		eventually(t, name(i), func() bool {
			_, source, ok := gates[1].memory.Recall(context.Background(), name(i))
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
	eventually(t, "the metrics show the death", func() bool {
		for i := range 50 { // somebody has to ask it
			gates[1].memory.Recall(context.Background(), fmt.Sprintf("other%d@example.org", i))
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
	if text := page(gates[1], "/"); !strings.Contains(text, servers[1].Addr+` <span class="bad">dead for`) || !strings.Contains(text, servers[0].Addr+` <span class="good">alive`) {
		t.Errorf("the status page does not show the servers:\n%s", text[strings.Index(text, "<h2>Memory"):])
	}
	eventually(t, "the log tells of the death", func() bool { return strings.Contains(log.String(), "a memcached server is dead") })

	client := admin.NewClient(gates[1].begun.adminSocket().Address)
	defer client.Close()
	places, err := client.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printPlaces(&out, places); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"memcached             -            -            -", servers[0].Addr + ": ", "dead since"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("cache stats has no %q:\n%s", want, out.String())
		}
	}
}

// TestReloadOfSharedMemory: a key file with a mistake changes nothing, other servers take
// effect at once, and from nothing to something is for a restart.
func TestReloadOfSharedMemory(t *testing.T) {
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	dir := t.TempDir()
	open := filepath.Join(dir, "open.key")
	if err := os.WriteFile(open, []byte("the key of this test, long enough\n"), 0o644); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	var next func(*loaded)
	var d *daemon
	reread := func() (*loaded, error) {
		l := &loaded{Config: d.begun}
		next(l)
		return l, nil
	}
	d, err := smallDaemon(t, dir, daemonOptions{reread: reread}, sharing(t, "", servers[0]))
	if err != nil {
		t.Fatal(err)
	}
	next = sharing(t, open, servers...)
	if _, err := d.reload(); err == nil || !strings.Contains(err.Error(), "memcached_key_file") || len(d.shared.client.Stats()) != 1 {
		t.Errorf("a key file that everybody can read: %v", err)
	}
	next = sharing(t, "", servers...)
	if restart, err := d.reload(); err != nil || len(restart) > 0 || len(d.shared.client.Stats()) != 2 {
		t.Errorf("one server more: %v, %v", restart, err)
	}
	next = sharing(t, "")
	if restart, err := d.reload(); err != nil || len(restart) > 0 || !d.shared.store.Down() {
		t.Errorf("none: %v, %v", restart, err)
	}
	alone, l := defaults(), &loaded{Config: defaults()}
	sharing(t, "", servers[0])(l)
	if got := needRestart(&alone, &l.Config); !slices.Equal(got, []string{"cache.memcached"}) {
		t.Errorf("from none to one needs a restart: %v", got)
	}
}
