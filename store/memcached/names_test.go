// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/test/lab"
)

func TestNames(t *testing.T) {
	t.Parallel()
	names := NewNames(newClient(t, config(t, lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})...)))
	now := time.Now().Truncate(time.Second)
	values := map[string]string{
		"ann":                    "ann@host.example.org, bob",
		"taken":                  "",
		"with space":             "a\tb\\n\n\\t\x00\xff",
		"\r\nflush_all\r\n":      "x",
		strings.Repeat("n", 300): strings.Repeat("v", store.MaxNameValue),
		"user+*":                 "u",
		"":                       "empty",
	}
	var keys []string
	for name, value := range values {
		keys = append(keys, name)
		if err := names.Publish(ctx, name, store.Name{Value: value, Written: now, Expire: now.Add(time.Hour)}); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
	found, err := names.Find(ctx, append(keys, "absent", "Ann"))
	if err != nil || len(found) != len(values) {
		t.Errorf("found %d of %d, %v", len(found), len(values), err)
	}
	for name, value := range values {
		if got := found[name]; got.Value != value || !got.Written.Equal(now) || !got.Expire.Equal(now.Add(time.Hour)) {
			t.Errorf("%q: %+v", name, got)
		}
	}
	if err := names.Withdraw(ctx, "ann"); err != nil {
		t.Error(err)
	}
	if err := names.Withdraw(ctx, "never"); err != nil {
		t.Error(err)
	}
	if found, err := names.Find(ctx, []string{"ann", "taken"}); err != nil || len(found) != 1 {
		t.Errorf("after the withdrawal: %v, %v", found, err)
	}
}

// TestNamesOfOthers puts values there as a script or a stranger might.
func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	c := newClient(t, config(t, server))
	names := NewNames(c)
	for _, tc := range []struct{ value, want string }{
		{"rgn1\t1700000000\t4102444800\nalias\tbob\n", "bob"},
		{"rgn1\t1700000000\t4102444800\nlater\tword\nalias\tbob", "bob"},
		{"rgn1\t1700000000\t4102444800\ttoo\ntaken\n", ""},
		{"rgn1\t1700000000\t1700000001\nalias\tbob\n", "absent"}, // has ended
		{"rgn2\t1700000000\t4102444800\nalias\tbob\n", "absent"},
		{"rgn1\t1700000000\nalias\tbob\n", "absent"},
		{"rgn1\t1700000000\t99999999999999999\nalias\tbob\n", "absent"},
		{"rgn1\t1700000000\t4102444800\nalias\t\n", "absent"},
		{"rgn1\t1700000000\t4102444800\n", "absent"},
		{"rgn1\t1700000000\t4102444800\nalias\t" + strings.Repeat("v", store.MaxNameValue+1) + "\n", "absent"},
		{"", "absent"},
		{"\x00\xff", "absent"},
	} {
		if err := c.Set(ctx, "rg:n:x", []byte(tc.value), time.Time{}); err != nil {
			t.Fatal(err)
		}
		found, err := names.Find(ctx, []string{"x"})
		if err != nil {
			t.Errorf("%.60q: %v", tc.value, err)
		}
		got, ok := found["x"]
		if ok != (tc.want != "absent") || (ok && got.Value != tc.want) {
			t.Errorf("%.60q: %+v, %v; want %q", tc.value, got, ok, tc.want)
		}
	}
}

// TestNamesAreSealed holds that a name written without the key, or under another name,
// is ignored when there is a key.
func TestNamesAreSealed(t *testing.T) {
	t.Parallel()
	cfg := config(t, lab.StartMemcached(t, lab.MemcachedOptions{}))
	stranger := NewNames(newClient(t, cfg))
	cfg.KeyFile = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(cfg.KeyFile, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, cfg)
	names := NewNames(c)
	in := time.Now().Add(time.Hour)
	for publisher, name := range map[*Names]string{stranger: "forged", names: "ours"} {
		if err := publisher.Publish(ctx, name, store.Name{Value: "x", Written: time.Now(), Expire: in}); err != nil {
			t.Fatal(err)
		}
	}
	st := c.setup.Load()
	item, err := st.ring.servers[0].mc.Get("rg:n:ours")
	if err != nil {
		t.Fatal(err)
	}
	item.Key = "rg:n:copied"
	if err := st.ring.servers[0].mc.Set(item); err != nil {
		t.Fatal(err)
	}
	found, err := names.Find(ctx, []string{"forged", "copied", "ours"})
	if err != nil || len(found) != 1 || found["ours"].Value != "x" {
		t.Errorf("found %v, %v", found, err)
	}
	if st := c.Stats()[0]; st.BadMAC != 2 {
		t.Errorf("%d bad seals counted, want 2", st.BadMAC)
	}
}

// TestSurvey sees what is lost: a server restarted empty, one that died, one that came
// back; and nothing when nothing happened. Publishers do not see each other's marks.
func TestSurvey(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	proxies := []*proxy{startProxy(t, servers[0]), startProxy(t, servers[1])}
	outside := testkit.Outside(t)
	synctest.Test(t, func(t *testing.T) {
		cfg := proxies[0].config()
		cfg.Servers = append(cfg.Servers, proxies[1].config().Servers...)
		cfg.Timeout = 10 * time.Second
		c := newClient(t, cfg)
		names := NewNames(c)
		survey := func(publisher string) store.Survey {
			found, _ := names.Survey(ctx, publisher, time.Hour)
			return found
		}
		if survey("a") != store.Lost || survey("b") != store.Lost {
			t.Error("nothing is there, and nothing is missed")
		}
		if survey("a") != store.Intact || survey("b") != store.Intact || survey("a") != store.Intact {
			t.Error("all is there, and something is missed")
		}
		servers[0].Flush()
		if survey("a") != store.Lost || survey("b") != store.Lost {
			t.Error("one server is empty, and nothing is missed")
		}
		if survey("a") != store.Intact {
			t.Error("missed twice")
		}
		proxies[1].spoil(0, 0, nil)
		if survey("a") != store.Intact || len(alive(c)) != 2 {
			t.Error("a server that lives gives no answer, and something is missed")
		}
		proxies[1].spoil(0, -1, nil)
		outside(proxies[1].down)
		if survey("a") != store.Moved {
			t.Error("a server is dead, and nothing has moved")
		}
		if n := len(alive(c)); n != 1 || survey("a") != store.Intact {
			t.Errorf("%d servers live", n)
		}
		up := func(p *proxy) {
			outside(func() {
				if err := p.up(); err != nil {
					t.Error(err)
				}
			})
		}
		up(proxies[1])
		testkit.Eventually(t, "the server is back", func() bool { return survey("a") == store.Moved })
		if n := len(alive(c)); n != 2 || survey("a") != store.Intact {
			t.Errorf("%d servers live", n)
		}
		// While no server lives nothing is put anywhere, and everything is where it was.
		outside(proxies[0].down)
		outside(proxies[1].down)
		testkit.Eventually(t, "all are dead", func() bool { _ = survey("b"); return c.Down() })
		before := survey("b")
		up(proxies[0])
		up(proxies[1])
		testkit.Eventually(t, "all are back", func() bool { before = max(before, survey("b")); return len(alive(c)) == 2 })
		if before == store.Lost {
			t.Error("a server that was only dead counts as empty")
		}
	})
}

func alive(c *Client) []string {
	var list []string
	for _, s := range c.Stats() {
		if s.Alive {
			list = append(list, s.Name)
		}
	}
	return slices.Clip(list)
}
