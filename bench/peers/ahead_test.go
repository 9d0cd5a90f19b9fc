// SPDX-License-Identifier: BSD-2-Clause

//go:build peers

package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/bench"
	"rcptgate/bench/load"
	"rcptgate/test/lab"
)

// aheadPeople is the number of remembered recipients: as many as "rcptgate bench" has.
const aheadPeople = 10_000

// What a milter-ahead is asked to leave out at its best. Its lists of top-level domains have 12,700 names and are
// searched from the beginning for the sender and every recipient, which takes more time than all else of a remembered
// answer; the gate has no such check.
const aheadBest = "-reject-unknown-tld"

// startMilterAhead runs a milter-ahead 1.14 with all as by default but the options given and what would keep it from
// working here: example.com may be asked about (-reject-rfc2606), and an unreachable backend is a temporary failure
// instead of "accept" (-backup-mx), so that no failure counts as an answer. Without an access map it fails every MAIL with
// 4xx; the map is empty and of its quickest kind (text, kept in memory). Its cache is a Berkeley DB file, its default and
// quicker than its cache in memory ("hash"), whose lists of equal hash values grow long. It finds the backend in
// {rcpt_host}. It logs no answers by default, and so writes less than the gate, which does.
//
// It asks its name servers for the root zone when it starts and can not be told not to. It sees a resolv.conf of its own
// with a name server that is not there, waits 3 s, and looks up nothing later: a next hop in brackets needs no DNS.
func startMilterAhead(t testing.TB, binary string, options ...string) running {
	t.Helper()
	dir := lab.NewDir(t, "milter-ahead")
	run(t, "chown", "nobody:nogroup", dir)
	resolver := writeFile(t, filepath.Join(dir, "resolv.conf"), "nameserver 127.0.0.1\n")
	access := writeFile(t, filepath.Join(dir, "access"), "")
	socket := filepath.Join(dir, "milter.sock")
	args := []string{
		"--mount", "--propagation", "private", "/bin/sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolver, binary,
		"file=", "-daemon", "run-user=nobody", "run-group=nogroup", "interface-name=mx.gate.test", "interface-ip=192.0.2.1",
		"dns-max-timeout=1", "work-dir=" + dir, "pid-file=" + filepath.Join(dir, "pid"), "milter-socket=unix:" + socket,
		"cache-type=bdb", "cache-file=" + filepath.Join(dir, "cache.db"), "access-db=text!" + access, "-reject-rfc2606", "-backup-mx",
	}
	return startMilter(t, "milter-ahead", dir, socket, exec.Command("/usr/bin/unshare", append(args, options...)...))
}

// costed is a program whose processor time is measured too.
type costed struct {
	*program
	process *lab.Process
	used    time.Duration
	asked   int
}

func (c *costed) perAnswer() float64 { return c.used.Seconds() * 1e6 / float64(max(c.asked, 1)) }

// turn measures one turn, over the program's own connections or over new ones.
func (c *costed) turn(t *testing.T, conns []*load.Conn, length time.Duration) *load.Result {
	t.Helper()
	before := processorTime(t, c.process.Pid())
	r := ask(t, c.program, conns, load.Plan{Duration: length})
	c.used += processorTime(t, c.process.Pid()) - before
	c.asked += r.Asked
	c.rates = append(c.rates, r.PerSecond())
	c.p99 = append(c.p99, float64(r.Latency.Quantile(0.99))/float64(time.Microsecond))
	return r
}

// processorTime is what a process has used so far (proc(5), /proc/PID/stat), in steps of 10 ms.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		t.Fatalf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// TestMilterAhead prints the table of milter-ahead, the echo milter and rcptgate, measured in turns.
func TestMilterAhead(t *testing.T) {
	binaryAhead := os.Getenv("RCPTGATE_MILTER_AHEAD")
	if binaryAhead == "" {
		t.Skip("RCPTGATE_MILTER_AHEAD names no milter-ahead")
	}
	rcptgate, length := binary(t), turn(t)
	backend := startBackend(t, 0)
	over := func(name string, m running) *costed {
		return &costed{program: overMilter(name, m.socket, backend), process: m.Process}
	}
	start := func() []*costed { // each measurement has programs of its own: figures of one are not in the other
		return []*costed{
			over("rcptgate", startGate(t, rcptgate, backend)),
			over("milter-ahead, its best", startMilterAhead(t, binaryAhead, aheadBest)),
			over("milter-ahead, its defaults", startMilterAhead(t, binaryAhead)),
		}
	}
	table := new(bench.Table)
	all := start()
	all = append(all, over("echo milter", startEcho(t, rcptgate)))
	aheadRemembered(t, all, length)
	aheadRows(table, fmt.Sprintf("milter, %d recipients remembered: ", aheadPeople), all)
	all = start()
	all = append(all, over("one dialogue a recipient, the stand-in", startEcho(t, rcptgate, "--dialogue", backend.Addr())))
	connected := aheadMisses(t, backend, all, length)
	aheadRows(table, "misses against a fast backend: ", all)
	table.Note("%d turns of %v each, in turns; %d connections, 10 recipients a transaction; backend connections for 1,000 probes: %s.",
		rounds, length, connections, connected)
	if err := table.Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
}

func aheadRemembered(t *testing.T, all []*costed, length time.Duration) {
	for _, c := range all {
		c.conns = c.connect(t, connections, pattern(t, "good%07d@example.com", aheadPeople).Shuffled())
		defer load.CloseAll(c.conns)
		if r := ask(t, c.program, c.conns, load.Plan{Count: aheadPeople}); r.Accepted != aheadPeople {
			t.Fatalf("%s took %d of %d recipients that exist", c.name, r.Accepted, aheadPeople)
		}
	}
	inTurns(all, "remembered answers", func(_ int, c *costed) {
		if r := c.turn(t, c.conns, length); r.Accepted != r.Asked {
			t.Errorf("%s took %d of %d recipients that exist", c.name, r.Accepted, r.Asked)
		}
	})
}

// aheadMisses asks about new recipients, 1 in 20 of them unknown, and says how many connections each program made.
func aheadMisses(t *testing.T, backend *sim.Server, all []*costed, length time.Duration) string {
	probes, opened := make(map[*costed]int), make(map[*costed]int)
	inTurns(all, "misses", func(round int, c *costed) {
		conns := c.connect(t, connections, pattern(t, fmt.Sprintf("mixed%d%%07d@example.com", 1+round), 9_000_000))
		defer load.CloseAll(conns)
		before := backend.Stats()
		r := c.turn(t, conns, length)
		after := backend.Stats()
		probes[c] += after.Probes - before.Probes
		opened[c] += after.Connections - before.Connections
		if want := r.Asked / 20; r.Temporary > 0 || r.Refused < want-connections || r.Refused > want+connections {
			t.Errorf("%s refused %d of %d recipients and was not sure of %d; 1 in 20 is unknown", c.name, r.Refused, r.Asked, r.Temporary)
		}
	})
	var text []string
	for _, c := range all {
		text = append(text, fmt.Sprintf("%s %.0f", c.name, 1000*float64(opened[c])/float64(max(probes[c], 1))))
	}
	return strings.Join(text, "; ")
}

// aheadRows holds rcptgate, the first, against milter-ahead at its best, the second; the third is the one with its
// defaults.
func aheadRows(table *bench.Table, what string, all []*costed) {
	gate, best, defaults := all[0], all[1], all[2]
	times, plain := bench.MedianRatio(gate.rates, best.rates), bench.MedianRatio(gate.rates, defaults.rates)
	for _, c := range all {
		measured := fmt.Sprintf("%.0f RCPT/s; p99 %.0f µs; %.1f µs of processor time an answer",
			bench.Median(c.rates), bench.Median(c.p99), c.perAnswer())
		values := map[string]float64{"rate": bench.Median(c.rates), "p99_us": bench.Median(c.p99), "cpu_us": c.perAnswer()}
		if c != gate {
			table.Figure(what+c.name, measured, values)
			continue
		}
		values["times"], values["times_defaults"] = times, plain
		table.Bar(what+c.name, fmt.Sprintf("%s; %.1f x milter-ahead at its best, %.1f x with its defaults", measured, times, plain),
			"3 x milter-ahead at its best", times >= 3, values)
	}
}
