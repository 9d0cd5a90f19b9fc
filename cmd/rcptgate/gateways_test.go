// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/front/admin"
	"rcptgate/kit/exit"
	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// gateway is one of two daemons that share a memcached, as its administrator sees it:
// commands find the daemon by its configuration's state directory.
type gateway struct {
	t    *testing.T
	file string
}

func (g gateway) run(args ...string) (code int, out string) {
	var text locked
	code = run(g.t.Context(), units(), append(args, "-c", g.file), &text, &text)
	return code, text.String()
}

func (g gateway) check(recipient string) (r admin.Result) {
	_, out := g.run("check", "--json", recipient)
	_ = json.Unmarshal([]byte(out), &r)
	return r
}

// TestTwoGateways shares one answer between two daemons, and forgets it: on both, and,
// with memcached gone, on one.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	server := sim.New(sim.Config{Behaviour: sim.Behaviour{Users: []string{"eve@shared.example"}}})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	memcached := lab.StartMemcached(t, lab.MemcachedOptions{})
	var list [2]gateway
	for i := range list {
		dir := t.TempDir()
		list[i] = gateway{t, filepath.Join(dir, "rcptgate.toml")}
		text := smallText(dir, "", fmt.Sprintf("[cache]\nmemcached = [%q]\n[[domain]]\nname = \"shared.example\"\nbackend = [%q]", memcached.Socket(), server.Backend()))
		if err := os.WriteFile(list[i].file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := smallHost(t, unit.Options{Every: 200 * time.Millisecond, Wait: patience}, text); err != nil {
			t.Fatal(err)
		}
	}
	if r := list[0].check("eve@shared.example"); r.Source != "probe" || r.Reason != "valid" {
		t.Fatalf("the first gateway: %+v", r)
	}
	var r admin.Result
	testkit.Eventually(t, "the second gateway to know it", func() bool {
		r = list[1].check("eve@shared.example")
		return r.Source == "memcached"
	})
	if r.Server != memcached.Addr || r.AgeS == nil {
		t.Errorf("the second gateway: server %q, age %v", r.Server, r.AgeS)
	}
	if notes := fmt.Sprint(r.Trace); !strings.Contains(notes, "known by memcached "+memcached.Addr) {
		t.Errorf("the trace does not name the server: %s", notes)
	}
	if n := server.Asked("eve@shared.example"); n != 1 {
		t.Errorf("%d probes", n)
	}
	if code, out := list[0].run("cache", "forget", "eve@shared.example"); code != exit.OK {
		t.Errorf("forget: exit code %d: %s", code, out)
	}
	testkit.Eventually(t, "the second gateway to forget", func() bool {
		code, _ := list[1].run("cache", "show", "eve@shared.example")
		return code == exit.UnknownUser
	})
	if r := list[1].check("eve@shared.example"); r.Source != "probe" {
		t.Errorf("after the forget: %+v", r)
	}
	testkit.Eventually(t, "the first gateway to know it", func() bool {
		code, out := list[0].run("cache", "show", "eve@shared.example")
		return code == exit.OK && strings.Contains(out, "(from memcached "+memcached.Addr+")")
	})
	memcached.Kill()
	for _, command := range [][]string{{"cache", "forget", "eve@shared.example"}, {"cache", "flush"}} {
		code, out := list[0].run(command...)
		if code != exit.Tempfail || !strings.Contains(out, "only this gateway has forgotten so far") {
			t.Errorf("%v without memcached: exit code %d: %s", command, code, out)
		}
	}
}
