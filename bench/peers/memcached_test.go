// SPDX-License-Identifier: BSD-2-Clause

//go:build peers

package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/backend/sim"
	"rcptgate/bench"
	"rcptgate/bench/load"
	"rcptgate/test/lab"
)

// memcachedPeople is the number of recipients that memcached holds. The gate keeps 1,000 of them in RAM, the least it can
// be told, so that nearly every answer is from memcached, as every one of MIMEDefang's is.
const memcachedPeople = 50_000

// startSharingGate starts rcptgate with a memcached and next to no memory of its own.
func startSharingGate(t testing.TB, rcptgate string, backend *sim.Server, memory *lab.Memcached) running {
	t.Helper()
	dir := lab.NewDir(t, "rcptgate")
	socket := filepath.Join(dir, "milter.sock")
	conf := writeFile(t, filepath.Join(dir, "rcptgate.toml"), fmt.Sprintf(`
hostname = "mx.gate.test"
state = %q
[listen]
milter = [%q]
http = "127.0.0.1:%d"
[cache]
entries = 1000
disk_entries = 0
memcached = [%q]
[[domain]]
name = "example.com"
backend = [%q]
`, filepath.Join(dir, "state"), "unix:"+socket, lab.FreePort(t), memory.Socket(), backend.Backend()))
	return startMilter(t, "rcptgate", dir, socket, exec.Command(rcptgate, "serve", "-c", conf))
}

// fill writes an answer for everybody, as a script would (docs/memcached.md, and filter.pl).
func fill(t testing.TB, socket, prefix, value string) {
	t.Helper()
	c := memcache.New(socket)
	c.Timeout = 10 * time.Second
	defer func() { _ = c.Close() }()
	names := pattern(t, "good%07d@example.com", memcachedPeople)
	for range memcachedPeople {
		if err := c.Set(&memcache.Item{Key: prefix + string(names.Append(nil)), Value: []byte(value), Expiration: 86400}); err != nil {
			t.Fatal(err)
		}
	}
}

// fromMemcached measures answers that are in memcached alone.
func fromMemcached(t *testing.T, table *bench.Table, rcptgate string, length time.Duration) {
	backend := startBackend(t, 0)
	memory := lab.StartMemcached(t, lab.MemcachedOptions{Unix: true})
	now := time.Now()
	fill(t, memory.Addr, "rg:a:", fmt.Sprintf("rg1\t%d\t%d\t0\nstanding\tvalid\t250\t2.1.5\t%d\t%d\t%d\t%s\tOk\n",
		now.Unix(), now.UnixNano(), now.Unix(), now.Add(time.Hour).Unix(), now.Add(24*time.Hour).Unix(), backend.Backend()))
	mimedefang := startMIMEDefang(t, backend.Addr())
	fill(t, filepath.Join(filepath.Dir(mimedefang), "memcached.sock"), "rcpt:", "ok")
	all := []*program{
		overMilter("echo milter", startEcho(t, rcptgate).socket, backend),
		overMilter("rcptgate", startSharingGate(t, rcptgate, backend, memory).socket, backend),
		overMilter("MIMEDefang + memcached", mimedefang, backend),
	}
	for _, p := range all {
		p.conns = p.connect(t, connections, pattern(t, "good%07d@example.com", memcachedPeople).Shuffled())
		defer load.CloseAll(p.conns)
	}
	askInTurns(t, all, "answers from memcached", length)
	for _, p := range all {
		measured := fmt.Sprintf("%.0f RCPT/s, %.2f of %s; p99 %.0f µs", bench.Median(p.rates), bench.MedianRatio(p.rates, all[0].rates), all[0].name, bench.Median(p.p99))
		values := map[string]float64{"rate": bench.Median(p.rates), "p99_us": bench.Median(p.p99)}
		if p == all[1] {
			values["times"] = bench.MedianRatio(p.rates, all[2].rates)
			measured += fmt.Sprintf("; %.1f x MIMEDefang; %d probes", values["times"], backend.Stats().Probes)
		}
		table.Figure("milter, answers from memcached: "+p.name, measured, values)
	}
}

// TestFromMemcached prints these rows alone.
func TestFromMemcached(t *testing.T) {
	lab.Need(t, lab.MemcachedKit)
	table := new(bench.Table)
	fromMemcached(t, table, binary(t), turn(t))
	if err := table.Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
}
