// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"fmt"
	"testing"

	"rcptgate/config/setting"
)

func ringOf(names ...string) *ring {
	var servers []*server
	for _, name := range names {
		servers = append(servers, newServer(Server{setting.Socket{Network: "tcp", Address: name}}, 0))
	}
	return newRing(servers)
}

// TestRingIsKetama holds the ring to values computed by docs/memcached.md's script: other
// programs find our keys by them.
func TestRingIsKetama(t *testing.T) {
	t.Parallel()
	r := ringOf("10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211")
	if len(r.points) != 480 {
		t.Errorf("%d points", len(r.points))
	}
	for key, want := range goldenRing {
		if got := r.pick(key).name; got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	other := ringOf("10.0.0.3:11211", "10.0.0.1:11211", "10.0.0.2:11211")
	for i := range 1000 {
		key := fmt.Sprintf("rg:a:user%d@example.org", i)
		if a, b := r.pick(key).name, other.pick(key).name; a != b {
			t.Fatalf("the order of the list matters: %s is on %s and %s", key, a, b)
		}
	}
}

// TestRingMovesAShare: a dead server's keys go to both others, and no other keys move.
func TestRingMovesAShare(t *testing.T) {
	t.Parallel()
	r := ringOf("a:1", "b:1", "c:1")
	before := map[string]string{}
	count := map[string]int{}
	for i := range 30_000 {
		key := fmt.Sprintf("rg:a:user%d@example.org", i)
		before[key] = r.pick(key).name
		count[before[key]]++
	}
	for name, n := range count {
		if n < 7_000 || n > 13_000 {
			t.Errorf("%s has %d of 30,000 keys", name, n)
		}
	}
	r.servers[1].alive.Store(false)
	heirs := map[string]int{}
	for key, name := range before {
		switch now := r.pick(key).name; {
		case name == "b:1":
			heirs[now]++
		case now != name:
			t.Fatalf("%s moved from %s to %s, and %s lives", key, name, now, name)
		}
	}
	if heirs["b:1"] > 0 || heirs["a:1"] < count["b:1"]/5 || heirs["c:1"] < count["b:1"]/5 {
		t.Errorf("the dead server's keys went to %v", heirs)
	}
	r.servers[0].alive.Store(false)
	r.servers[2].alive.Store(false)
	if s := r.pick("x"); s != nil {
		t.Errorf("all are dead, and %s was picked", s.name)
	}
}

var goldenRing = map[string]string{
	"rg:a:user@example.org":       "10.0.0.3:11211",
	"rg:a:someone@example.com":    "10.0.0.2:11211",
	"rg:a:postmaster@example.org": "10.0.0.2:11211",
	"rg:h:00":                     "10.0.0.2:11211",
	"rg:a:a@b":                    "10.0.0.2:11211",
	"rg:a:user1@example.org":      "10.0.0.1:11211",
	"rg:a:user2@example.org":      "10.0.0.2:11211",
	"rg:a:user3@example.org":      "10.0.0.3:11211",
}
