// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/kit/testkit"
	"rcptgate/store"
	"rcptgate/store/storetest"
	"rcptgate/test/lab"
)

const (
	keyOne = "the first key of this site"
	keyTwo = "the second key of this site"
)

// raw writes as a stranger on the network does.
func raw(t testing.TB, server *lab.Memcached, key string, value []byte) {
	t.Helper()
	mc := memcache.New(server.Addr)
	mc.Timeout = 10 * time.Second
	defer mc.Close() //nolint:errcheck // nothing is pending
	if err := mc.Set(&memcache.Item{Key: key, Value: value}); err != nil {
		t.Fatal(err)
	}
}

func peek(t testing.TB, server *lab.Memcached, key string) []byte {
	t.Helper()
	mc := memcache.New(server.Addr)
	mc.Timeout = 10 * time.Second
	defer mc.Close() //nolint:errcheck // nothing is pending
	item, err := mc.Get(key)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return item.Value
}

func absent(t testing.TB, s *Store, what, key string) {
	t.Helper()
	if rec, err := s.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s was believed: %v, %v", what, rec, err)
	}
}

func TestForgedEntries(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	cfg := config(t, server)
	cfg.KeyFile = keyFile(t, "# the site's key", keyOne)
	s, log := logging(t, cfg, Options{})
	other := cfg
	other.KeyFile = keyFile(t, "a key that is another site's")
	stranger := gateway(t, other, Options{})
	plain := gateway(t, config(t, server), Options{})

	fill(t, s, 1)
	forged := encode(entry{rec: numbered(1), written: time.Now(), generation: time.Now().UnixNano()})
	raw(t, server, "rg:a:"+user(1), forged)
	absent(t, s, "an entry without a seal", user(1))
	raw(t, server, "rg:a:"+user(1), append(forged, "mac\t00112233445566778899aabbccddeeff\n"...))
	absent(t, s, "an entry with a made-up seal", user(1))
	raw(t, server, "rg:a:"+user(2), peek(t, server, "rg:a:"+user(0)))
	absent(t, s, "another recipient's entry", user(2))
	fill(t, stranger, 4)
	absent(t, s, "an entry sealed with another key", user(3))
	if st := s.c.Stats()[0]; st.BadMAC != 4 {
		t.Errorf("%d bad seals counted, want 4", st.BadMAC)
	}
	if n := log.count("is ignored"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if log.count("all gateways need the same keys") != 1 {
		t.Error("the log does not say that the key files differ")
	}
	absent(t, stranger, "an entry of ours", "nobody@example.org")
	if found, _, _ := look(t, plain, 4); found != 4 {
		t.Errorf("without a key file %d of 4 were read", found)
	}
	fill(t, s, 4)
	if found, _, _ := look(t, s, 4); found != 4 {
		t.Errorf("written again, %d of 4 were read", found)
	}
}

// TestReplay: an entry that is kept and put back later gains an attacker nothing: it ends when it
// says, and is void once it was forgotten.
func TestReplay(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	cfg := config(t, server)
	cfg.KeyFile = keyFile(t, keyOne)
	s := gateway(t, cfg, Options{})
	later := gateway(t, cfg, Options{Clock: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	_ = s.Put(ctx, user(0), storetest.Unknown(user(0), time.Now()))
	_ = s.Put(ctx, user(1), numbered(1))
	written(t, s)
	kept0, kept1 := peek(t, server, "rg:a:"+user(0)), peek(t, server, "rg:a:"+user(1))
	server.Flush()
	raw(t, server, "rg:a:"+user(0), kept0)
	raw(t, server, "rg:a:"+user(1), kept1)
	if _, err := s.Get(ctx, user(0)); err != nil {
		t.Errorf("within its life: %v", err)
	}
	absent(t, later, "a refusal past its end", user(0))
	if _, err := s.Forget(ctx, store.Tombstone{Pattern: store.Pattern{Address: user(1)}, When: s.After(time.Now())}); err != nil {
		t.Fatal(err)
	}
	raw(t, server, "rg:a:"+user(1), kept1)
	absent(t, s, "a forgotten answer", user(1))
}

// TestLongLife: memcached takes more than 30 days for a date. Nothing is believed for
// longer than anything lives.
func TestLongLife(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	const days = 24 * time.Hour
	s := gateway(t, config(t, server), Options{Life: 100 * days})
	short := gateway(t, config(t, server), Options{Life: days})
	for _, life := range []time.Duration{time.Hour, 29 * days, 30 * days, 31 * days, 90 * days} {
		rec := numbered(0)
		rec.Standing.Expire = time.Now().Add(life)
		_ = s.Put(ctx, user(0), rec)
		written(t, s)
		reply, err := server.Command("mg rg:a:" + user(0) + " t")
		if err != nil {
			t.Fatal(err)
		}
		seconds, _ := strconv.Atoi(strings.TrimPrefix(reply, "HD t"))
		if got := time.Duration(seconds) * time.Second; got < life-time.Minute || got > life+5*time.Second {
			t.Errorf("%v: the server keeps it for %v (%s)", life, got, reply)
		}
		got, err := short.Get(ctx, user(0))
		if err != nil || got.Standing.Expire.After(time.Now().Add(days+time.Second)) {
			t.Errorf("%v: believed until %v, %v", life, got.Standing.Expire, err)
		}
	}
}

// TestRotation changes keys on two gateways without losing an answer or the list of
// what was forgotten.
func TestRotation(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	var files []string
	var gates []*Store
	var cfgs []testConfig
	for range 2 {
		cfg := config(t, server)
		cfg.KeyFile = keyFile(t, keyOne)
		files = append(files, cfg.KeyFile)
		cfgs = append(cfgs, cfg)
		gates = append(gates, gateway(t, cfg, Options{}))
	}
	for _, s := range gates {
		s.Start(nil, func(store.Tombstone) {}, func() {})
	}
	tomb := store.Tombstone{Pattern: store.Pattern{Domain: "gone.example"}, When: gates[0].After(time.Now())}
	if _, err := gates[0].Forget(ctx, tomb); err != nil {
		t.Fatal(err)
	}
	fill(t, gates[0], 50)
	for step, keys := range [][]string{{keyOne, keyTwo}, {keyTwo, keyOne}} {
		for i, s := range gates {
			writeKeys(t, files[i], keys...)
			if err := s.c.Configure(cfgs[i].Config); err != nil {
				t.Fatal(err)
			}
			for j, reader := range gates {
				if found, _, _ := look(t, reader, 50); found != 50 {
					t.Errorf("step %d, gateway %d: gateway %d finds %d of 50", step, i, j, found)
				}
			}
			fill(t, s, 50)
		}
	}
	// The list of what was forgotten is written with the new key in the next round, or now.
	tomb = store.Tombstone{Pattern: store.Pattern{Domain: "too.example"}, When: gates[0].After(time.Now())}
	if _, err := gates[0].Forget(ctx, tomb); err != nil {
		t.Fatal(err)
	}
	for i, s := range gates { // everything was written again, or has ended
		writeKeys(t, files[i], keyTwo)
		if err := s.c.Configure(cfgs[i].Config); err != nil {
			t.Fatal(err)
		}
		if found, _, _ := look(t, gates[1-i], 50); found != 50 {
			t.Errorf("the old key is gone on gateway %d: %d of 50 found", i, found)
		}
	}
	if st := gates[1].c.Stats()[0]; st.BadMAC > 0 {
		t.Errorf("%d seals were not believed", st.BadMAC)
	}
}

// TestReload: a mistake leaves everything as it was; other servers take effect at once.
func TestReload(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	cfg := config(t, servers[0])
	cfg.KeyFile = keyFile(t, keyOne)
	s := gateway(t, cfg, Options{})
	fill(t, s, 10)
	writeKeys(t, cfg.KeyFile, "short")
	if err := s.c.Configure(cfg.Config); err == nil || !strings.Contains(err.Error(), "at least 16") {
		t.Errorf("a short key: %v", err)
	}
	if found, _, _ := look(t, s, 10); found != 10 {
		t.Errorf("after a mistake %d of 10 found", found)
	}
	writeKeys(t, cfg.KeyFile, keyOne)
	both := config(t, servers...)
	both.KeyFile = cfg.KeyFile
	if err := s.c.Configure(both.Config); err != nil {
		t.Fatal(err)
	}
	if st := s.c.Stats(); len(st) != 2 || st[0].Hits != 10 {
		t.Errorf("after the change: %+v", st)
	}
	fill(t, s, 10)
	if found, _, _ := look(t, s, 10); found != 10 {
		t.Errorf("on two servers %d of 10 found", found)
	}
	if err := s.c.Configure(DefaultConfig()); err != nil || !s.Down() {
		t.Errorf("no servers: %v, down %v", err, s.Down())
	}
	if _, err := s.Get(ctx, user(0)); !errors.Is(err, store.ErrDown) {
		t.Errorf("no servers: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // past the umask
			t.Fatal(err)
		}
		return path
	}
	if os.Geteuid() == 0 {
		path := file("another's", "0123456789abcdef\n", 0o600)
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(path); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
			t.Errorf("another user's key file: %v", err)
		}
	}
	for _, c := range []struct{ path, want string }{
		{"", ""},
		{file("good", "# comment\n\n  0123456789abcdef  \nfedcba9876543210\n", 0o640), ""},
		{filepath.Join(dir, "missing"), "no such file"},
		{dir, "a regular file"},
		{file("open", "0123456789abcdef\n", 0o644), "only its group can read"},
		{file("writable", "0123456789abcdef\n", 0o602), "only its group can read"},
		{file("of a group", "0123456789abcdef\n", 0o660), "only its group can read"},
		{file("short", "# comment\n0123456789abcde\n", 0o600), "short:2: the key has 15 octets: at least 16"},
		{file("empty", "# nothing\n\n", 0o600), "holds no key"},
		{file("many", strings.Repeat("0123456789abcdef\n", 17), 0o600), "at most 16"},
		{file("long", strings.Repeat("x", 100_000), 0o600), "longer than"},
	} {
		keys, err := ReadKeys(c.path)
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %q, %v; want %q", c.path, keys, err, c.want)
		case c.path == "":
		case c.want == "" && (len(keys) != 2 || string(keys[0]) != "0123456789abcdef"):
			t.Errorf("%s: %q", c.path, keys)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ server, want, err string }{
		{"10.0.0.1", "inet:10.0.0.1:11211", ""},
		{"mc.example.org", "inet:mc.example.org:11211", ""},
		{"::1", "inet:[::1]:11211", ""},
		{"[::1]:7", "inet:[::1]:7", ""},
		{"inet:7@10.0.0.1", "inet:10.0.0.1:7", ""},
		{"10.0.0.1:7", "inet:10.0.0.1:7", ""},
		{"unix:/run/memcached.sock", "unix:/run/memcached.sock", ""},
		{"unix:memcached.sock", "", "absolute path"},
		{"10.0.0.1:http", "", "is not a number"},
		{"10.0.0.1:0", "", "no server answers on port 0"},
		{"inet:0@10.0.0.1", "", "no server answers on port 0"},
		{"10.0.0.1:99999", "", "\"HOST\" means port 11211"},
		{"two words", "", "is not a socket address"},
	} {
		got, err := ParseServer(c.server)
		if (err != nil) != (c.err != "") || (err != nil && !strings.Contains(err.Error(), c.err)) || (err == nil && got.String() != c.want) {
			t.Errorf("%q: %q, %v", c.server, got, err)
		}
	}
	a, _ := ParseServer("10.0.0.1")
	for want, cfg := range map[string]Config{
		"named twice":     {Servers: []Server{a, a}},
		"at most 64":      {Servers: make([]Server, 65)},
		"empty server":    {Servers: []Server{{}}},
		"absolute path":   {KeyFile: "cache.key"},
		"is not a prefix": {Prefix: "a b"},
		"at most 32 let":  {Prefix: strings.Repeat("x", 33)},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// TestKeys: no name breaks the protocol or is taken for another one.
func TestKeys(t *testing.T) {
	t.Parallel()
	c := newClient(t, testConfig{Config: DefaultConfig()})
	seen := map[string]string{}
	names := append([]string{
		strings.Repeat("x", maxPlain-len("rg:a:")), strings.Repeat("x", maxPlain-len("rg:a:")+1), strings.Repeat("x", 250), strings.Repeat("é", 512),
		"a\x7f@b", "a\t@b", "~!#$%&'*+/=?^_`{|}@b", "A@b", "a@b ", "a@b\r\nset x 0 0 1\r\n1\r\n", strings.Repeat("x", 1024),
	}, storetest.OddKeys...)
	for _, name := range names {
		key := c.Key("a", "h", name)
		if len(key) > maxPlain || !printable(key) {
			t.Errorf("%.40q: %q", name, key)
		}
		if other, ok := seen[key]; ok && other != name {
			t.Errorf("%.40q and %.40q share %q", name, other, key)
		}
		seen[key] = name
	}
	if got := c.Key("a", "h", "user@example.org"); got != "rg:a:user@example.org" {
		t.Error(got)
	}
	if got := c.Key("a", "h", "a b@example.org"); got != "rg:h:6ef3109c94e6bfb40b41ecc2fb3a1fca94d577c57d9aa8e33eb18807518024b0" {
		t.Error(got)
	}
}

// TestClocksApart: a minute between two gateways changes nothing but the minute.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	server := lab.StartMemcached(t, lab.MemcachedOptions{})
	clock := func(off time.Duration) Options {
		return Options{Clock: func() time.Time { return time.Now().Add(off) }}
	}
	ahead, behind := gateway(t, config(t, server), clock(time.Minute)), gateway(t, config(t, server), clock(-time.Minute))
	for _, s := range []*Store{ahead, behind} {
		s.Start(nil, func(store.Tombstone) {}, func() {})
	}
	for i, s := range []*Store{ahead, behind} {
		rec := numbered(i)
		rec.Standing.Learnt = s.now()
		_ = s.Put(ctx, user(i), rec)
		written(t, s)
	}
	for _, s := range []*Store{ahead, behind} {
		if found, _, _ := look(t, s, 2); found != 2 {
			t.Errorf("%d of 2 found", found)
		}
	}
	// What the gateway that is ahead wrote is void once the one that is behind forgets it, and
	// what is written after that is not.
	tomb := store.Tombstone{Pattern: store.Pattern{Address: user(0)}, When: behind.After(behind.now())}
	if _, err := behind.Forget(ctx, tomb); err != nil {
		t.Fatal(err)
	}
	ahead.c.signalBack()
	testkit.Eventually(t, "the other knows", func() bool { return ahead.tombstones.newest.Load() >= tomb.When.UnixNano() })
	absent(t, ahead, "a forgotten answer", user(0))
	absent(t, behind, "a forgotten answer", user(0))
	_ = behind.Put(ctx, user(0), numbered(0))
	written(t, behind)
	if _, err := ahead.Get(ctx, user(0)); err != nil {
		t.Errorf("learnt again: %v", err)
	}
	// A second forget is newer than the first, whichever clock gives its time.
	second := behind.After(behind.now())
	third := ahead.After(ahead.now())
	if _, err := ahead.Forget(ctx, store.Tombstone{When: third}); err != nil {
		t.Fatal(err)
	}
	behind.c.signalBack()
	testkit.Eventually(t, "the other knows", func() bool { return behind.tombstones.newest.Load() >= third.UnixNano() })
	if fourth := behind.After(behind.now()); !fourth.After(third) || !third.After(second) {
		t.Errorf("times of tombstones: %v, %v, %v", second, third, fourth)
	}
}
