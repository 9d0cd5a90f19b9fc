// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// stranger can write to a memcached and has no key: a plain client.
type stranger struct {
	testing.TB
	*memcache.Client
}

func newStranger(t testing.TB, m *lab.Memcached) stranger {
	t.Helper()
	c := memcache.New(m.Addr)
	c.Timeout = 10 * time.Second
	t.Cleanup(func() { _ = c.Close() })
	return stranger{t, c}
}

func (s stranger) put(key, value string) {
	s.Helper()
	if err := s.Set(&memcache.Item{Key: key, Value: []byte(value)}); err != nil {
		s.Fatal(err)
	}
}

// take is what lies under a key, which a gateway may be writing this moment.
func (s stranger) take(key string) (value string) {
	s.Helper()
	testkit.Eventually(s, key+" is in memcached", func() bool {
		item, err := s.Get(key)
		if err == nil {
			value = string(item.Value)
		}
		return err == nil
	})
	return value
}

// entry is an answer as docs/memcached.md has it, learnt this moment and good for a day.
func entry(class string, code int, enhanced, backend string) string {
	now := time.Now()
	return fmt.Sprintf("rg1\t%d\t%d\t0\nstanding\t%s\t%d\t%s\t%d\t%d\t%d\t%s\tforged\n",
		now.Unix(), now.UnixNano(), class, code, enhanced, now.Unix(), now.Add(time.Hour).Unix(), now.Add(24*time.Hour).Unix(), backend)
}

// TestGatewaysTrust forges entries, copies good ones under other recipients' keys, and has gateways with different keys
// use one memcached: with a key file no gateway believes what is not sealed for that recipient.
func TestGatewaysTrust(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.MemcachedKit)
	s := newSite(t, 1)
	const ours, next, theirs = "0123456789abcdef0123456789abcdef", "a-new-key-0123456789abcdef012345", "fedcba9876543210fedcba9876543210"
	writer := s.join(1, s.config(ours))[0]
	s.want(writer, "real1", 250)
	s.want(writer, "real10", 550)
	thief := newStranger(t, s.servers[0])
	good, bad := thief.take("rg:a:real1@sim.test"), thief.take("rg:a:real10@sim.test")
	if !strings.Contains(good, "\nmac\t") {
		t.Fatalf("an entry is not sealed:\n%s", good)
	}
	backend := s.behind.Backend()
	forged := map[string]string{
		"forged10": entry("valid", 250, "2.1.5", backend), "forged1": entry("unknown", 550, "5.1.1", backend),
		"forged20": entry("valid", 250, "2.1.5", backend) + "mac\t00112233445566778899aabbccddeeff\n",
		"copied10": good, "copied1": bad,
		"cut10": strings.Replace(good, "\nmac\t", "\nmac\tx", 1), "longer10": strings.Replace(good, "standing\tvalid\t250", "standing\tvalid\t251", 1),
	}
	for local, value := range forged {
		thief.put("rg:a:"+local+"@sim.test", value)
	}
	thief.put("rg:forgotten", fmt.Sprintf("rgf1\nforget\t%d\tall\n", time.Now().UnixNano()))

	reader := s.join(1, s.config(ours))[0]
	s.notBelieved(reader, forged)
	if n := s.place(reader).Servers[0].Bad; int(n) < len(forged) { //nolint:gosec // a count
		t.Errorf("%d bad values are counted, there were %d", n, len(forged))
	}
	if !reader.Logged("a value in memcached is ignored") {
		t.Error("the log does not say that values are ignored")
	}
	s.source(reader, "real1", "memcached")

	s.source(s.join(1, s.config(next, ours))[0], "real1", "memcached") // the first signs, each is believed
	other := s.join(1, s.config(theirs))[0]
	s.source(other, "real1", "probe")
	s.source(other, "real10", "probe")
	s.notBelieved(other, forged)
	careless := s.join(1, s.config())[0] // as the documentation says of a gateway without keys
	thief.put("rg:a:open10@sim.test", entry("valid", 250, "2.1.5", backend))
	s.want(careless, "open10", 250)
}

// notBelieved asks about recipients whose entries say the opposite.
func (s *site) notBelieved(g *lab.Gate, forged map[string]string) {
	s.Helper()
	for local := range forged {
		want := 550
		if known(local) {
			want = 250
		}
		asked := s.behind.Asked(local + "@sim.test")
		s.want(g, local, want)
		if n := s.behind.Asked(local + "@sim.test"); asked == 0 && n != 1 {
			s.Errorf("%s: the mail server was asked %d times", local, n)
		}
	}
}

// source asks about a recipient and wants the answer from there. What memcached does not give within 40 ms is probed, so
// one who is known there is looked for again.
func (s *site) source(g *lab.Gate, local, source string) {
	s.Helper()
	recipient := local + "@sim.test"
	var line string
	out := g.MustCommand(map[bool]int{true: 0, false: 67}[known(local)], "check", "--json", recipient)
	if _, line, _ = strings.Cut(out, `"source":"`); !strings.HasPrefix(line, source) {
		if source != "probe" && s.unanswered(g) > 0 {
			s.Logf("%s is not from %s, which gave no answer in time", recipient, source)
			return
		}
		s.Errorf("%s is not from %s:\n%s", recipient, source, out)
	}
}
