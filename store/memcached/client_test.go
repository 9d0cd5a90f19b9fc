// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/test/lab"
)

var ctx = context.Background()

// config names the servers.
// testConfig is a configuration and the time for one question: on a busy machine more than
// the default, where the test is not about time.
type testConfig struct {
	Config
	Timeout time.Duration
}

func config(t testing.TB, servers ...*lab.Memcached) testConfig {
	t.Helper()
	cfg := testConfig{Config: DefaultConfig()}
	cfg.Timeout = 10 * time.Second
	for _, s := range servers {
		addr, err := ParseServer(s.Socket())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Servers = append(cfg.Servers, addr)
	}
	return cfg
}

func newClient(t testing.TB, cfg testConfig) *Client {
	t.Helper()
	c, err := NewClient(cfg.Config, slog.New(slog.DiscardHandler), ClientOptions{Timeout: cfg.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestClientKeepsValues(t *testing.T) {
	t.Parallel()
	servers := append(lab.StartMemcacheds(t, 2, lab.MemcachedOptions{}), lab.StartMemcached(t, lab.MemcachedOptions{Unix: true}))
	c := newClient(t, config(t, servers...))
	in := time.Now().Add(time.Hour)
	for _, name := range []string{"a@example.org", "b@example.org", "with space@example.org", "\r\nflush_all\r\n", "d", "e", "f", "g"} {
		key := c.Key("a", "h", name)
		if _, _, err := c.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q before: %v", name, err)
		}
		if err := c.Set(ctx, key, []byte("value of "+name+"\n"), in); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if err := c.Add(ctx, key, []byte("other\n"), in); !errors.Is(err, ErrExists) {
			t.Errorf("%q: add: %v", name, err)
		}
		got, from, err := c.Get(ctx, key)
		if err != nil || string(got) != "value of "+name+"\n" || from != c.Server(key) {
			t.Errorf("%q: %q from %q, %v", name, got, from, err)
		}
	}
	if err := c.Delete(ctx, c.Key("a", "h", "d")); err != nil {
		t.Error(err)
	}
	found, err := c.GetMulti(ctx, []string{c.Key("a", "h", "d"), c.Key("a", "h", "e"), c.Key("a", "h", "f")})
	if err != nil || len(found) != 2 {
		t.Errorf("several: %q, %v", found, err)
	}
}

// keyFile writes a key file of the lines given.
func keyFile(t testing.TB, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	writeKeys(t, name, lines...)
	return name
}

func writeKeys(t testing.TB, name string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
