// SPDX-License-Identifier: BSD-2-Clause

//go:build peers

package peers

import (
	"context"
	"fmt"
	"net"
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

// The size of the run. RCPTGATE_PEERS_SECONDS is the length of one turn.
const (
	connections  = 8
	slowSessions = 64
	rounds       = 5
	people       = 400 // remembered recipients: Postfix verify needs a second for each it does not know
	slowReply    = 200 * time.Millisecond
)

func turn(t testing.TB) time.Duration {
	text := os.Getenv("RCPTGATE_PEERS_SECONDS")
	if text == "" {
		return 3 * time.Second
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds <= 0 {
		t.Fatalf("RCPTGATE_PEERS_SECONDS = %q is no length of a turn", text)
	}
	return time.Duration(seconds * float64(time.Second))
}

// program is one of those compared.
type program struct {
	name  string
	dial  func(r *load.Recipients) func(context.Context) (*load.Conn, error)
	conns []*load.Conn
	rates []float64
	p99   []float64 // µs
}

func (p *program) connect(t testing.TB, n int, r *load.Recipients) []*load.Conn {
	t.Helper()
	conns, err := load.DialAll(t.Context(), n, p.dial(r))
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return conns
}

// overMilter asks a milter as an MTA does whose next hop for everybody is the backend.
func overMilter(name, socket string, backend *sim.Server) *program {
	host, port, _ := net.SplitHostPort(backend.Addr()) // ours
	return &program{name: name, dial: func(r *load.Recipients) func(context.Context) (*load.Conn, error) {
		return load.Milter{
			Network: "unix", Address: socket, Sender: "sender@example.net", NextHop: "[" + host + "]:" + port,
			PerTransaction: 10, Recipients: r,
		}.Dial
	}}
}

func overSMTP(name, addr string) *program {
	return &program{name: name, dial: func(r *load.Recipients) func(context.Context) (*load.Conn, error) {
		return load.SMTP{Network: "tcp", Address: addr, Helo: "client.example.net", Sender: "sender@example.net", PerTransaction: 10, Recipients: r}.Dial
	}}
}

func pattern(t testing.TB, text string, size int) *load.Recipients {
	t.Helper()
	r, err := load.Pattern(text, size)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// decide is the backend: "goodN" exists, "mixedN" too but for 1 in 20.
func decide(recipient string) string {
	local, _, _ := strings.Cut(strings.ToLower(recipient), "@")
	number, good := strings.CutPrefix(local, "good")
	if !good {
		number, _ = strings.CutPrefix(local, "mixed")
	}
	if n, err := strconv.Atoi(number); err != nil || !good && n%20 == 19 {
		return "550 5.1.1 User unknown"
	}
	return "250 2.1.5 Ok"
}

func startBackend(t testing.TB, delay time.Duration) *sim.Server {
	t.Helper()
	s := sim.New(sim.Config{Behaviour: sim.Behaviour{Decide: decide, Delays: map[sim.Stage]time.Duration{sim.Rcpt: delay}}})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// binary builds rcptgate as it is shipped.
func binary(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rcptgate")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", name, "rcptgate/cmd/rcptgate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building rcptgate: %v\n%s", err, out)
	}
	return name
}

// running is a milter that runs, and its unix socket.
type running struct {
	*lab.Process
	socket string
}

// startMilter runs a command whose milter listens on a unix socket, and lets Postfix use it.
func startMilter(t testing.TB, name, dir, socket string, cmd *exec.Cmd) running {
	t.Helper()
	m := running{lab.Start(t, name, dir, cmd), socket}
	m.WaitFor(t, answers(socket))
	if err := os.Chmod(socket, 0o666); err != nil { //nolint:gosec // Postfix's user connects
		t.Fatal(err)
	}
	return m
}

// startEcho starts "rcptgate bench --echo", which answers "continue" to everything unless more flags say otherwise.
func startEcho(t testing.TB, rcptgate string, flags ...string) running {
	t.Helper()
	dir := lab.NewDir(t, "echo")
	socket := filepath.Join(dir, "milter.sock")
	return startMilter(t, "echo", dir, socket, exec.Command(rcptgate, append([]string{"bench", "--echo", "unix:" + socket}, flags...)...))
}

// startGate starts rcptgate with nothing configured but the domain and where to listen.
func startGate(t testing.TB, rcptgate string, backend *sim.Server) running {
	t.Helper()
	dir := lab.NewDir(t, "rcptgate")
	socket := filepath.Join(dir, "milter.sock")
	conf := writeFile(t, filepath.Join(dir, "rcptgate.toml"), fmt.Sprintf(`
hostname = "mx.gate.test"
enforce = true
state = %q
[listen]
milter = [%q]
http = "127.0.0.1:%d"
[[domain]]
name = "example.com"
backend = [%q]
`, filepath.Join(dir, "state"), "unix:"+socket, lab.FreePort(t), backend.Backend()))
	return startMilter(t, "rcptgate", dir, socket, exec.Command(rcptgate, "serve", "-c", conf))
}

// cast is everybody, before one backend.
type cast struct {
	backend                                  *sim.Server
	echo, gate, defang                       *program // over milter
	plain, withEcho, withGate, verify, exim4 *program // over SMTP
}

func startCast(t testing.TB, rcptgate string, delay time.Duration) *cast {
	t.Helper()
	backend := startBackend(t, delay)
	addr := backend.Addr()
	echo, gate := startEcho(t, rcptgate), startGate(t, rcptgate, backend)
	return &cast{
		backend:  backend,
		echo:     overMilter("echo milter", echo.socket, backend),
		gate:     overMilter("rcptgate", gate.socket, backend),
		defang:   overMilter("MIMEDefang + memcached", startMIMEDefang(t, addr), backend),
		plain:    overSMTP("Postfix, no check", startPostfix(t, "plain", addr, nil, nil)),
		withEcho: overSMTP("Postfix + echo milter", startPostfix(t, "withecho", addr, []string{"unix:" + echo.socket}, nil)),
		withGate: overSMTP("Postfix + rcptgate", startPostfix(t, "withgate", addr, []string{"unix:" + gate.socket}, nil)),
		verify:   overSMTP("Postfix verify", startPostfix(t, "verify", addr, nil, verifyMain)),
		exim4:    overSMTP("Exim callout", startExim(t, addr)),
	}
}

// TestPeers prints the table of "make bench-peers".
func TestPeers(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.MemcachedKit)
	rcptgate, length := binary(t), turn(t)
	table := new(bench.Table)
	fast := startCast(t, rcptgate, 0)
	fast.remembered(t, table, length)
	fromMemcached(t, table, rcptgate, length)
	misses(t, table, fast, "a fast backend", connections, 2*length, fast.gate, fast.defang, fast.withGate, fast.exim4, fast.verify)
	slow := startCast(t, rcptgate, slowReply)
	misses(t, table, slow, "a backend that takes 200 ms", slowSessions, 4*length, slow.gate, slow.defang, slow.withGate, slow.exim4, slow.verify)
	table.Note("%d turns of %v each, in turns; 10 recipients a transaction; %d Perl workers.", rounds, length, workers)
	if err := table.Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
}

// inTurns calls f for each program in each round.
func inTurns[P any](all []P, what string, f func(round int, p P)) {
	fmt.Printf("%s, %d turns ...\n", what, rounds)
	_ = bench.InTurns(rounds, all, func(round int, p P) error { // f ends the test where it cannot go on
		f(round, p)
		return nil
	})
}

// askInTurns has the programs asked for recipients that exist, over their own connections.
func askInTurns(t *testing.T, all []*program, what string, length time.Duration) {
	t.Helper()
	inTurns(all, what, func(_ int, p *program) {
		r := ask(t, p, p.conns, load.Plan{Duration: length})
		if r.Accepted != r.Asked {
			t.Errorf("%s took %d of %d recipients that exist", p.name, r.Accepted, r.Asked)
		}
		p.rates = append(p.rates, r.PerSecond())
		p.p99 = append(p.p99, float64(r.Latency.Quantile(0.99))/float64(time.Microsecond))
	})
}

// remembered measures answers that everybody remembers.
func (c *cast) remembered(t *testing.T, table *bench.Table, length time.Duration) {
	all := []*program{c.echo, c.gate, c.defang, c.plain, c.withEcho, c.withGate, c.verify, c.exim4}
	for _, p := range all {
		fmt.Printf("warming %s ...\n", p.name)
		p.warm(t)
		p.conns = p.connect(t, connections, pattern(t, "good%05d@example.com", people).Shuffled())
		defer load.CloseAll(p.conns)
	}
	askInTurns(t, all, "remembered answers", length)
	for _, p := range all[:3] {
		row(table, "milter, remembered: ", p, c.echo, c.gate, c.defang)
	}
	for _, p := range all[3:] {
		row(table, "SMTP, remembered: ", p, c.plain, nil, nil)
	}
}

// warm has a program ask the backend about everybody once, over many sessions, because Postfix verify takes a second for
// each; then again until it knows them all.
func (p *program) warm(t *testing.T) {
	t.Helper()
	for range 5 {
		conns := p.connect(t, 40, pattern(t, "good%05d@example.com", people))
		r := ask(t, p, conns, load.Plan{Count: people})
		load.CloseAll(conns)
		if r.Accepted == people && r.Elapsed < 3*time.Second {
			return
		}
	}
	t.Errorf("%s does not come to know %d recipients", p.name, people)
}

func ask(t testing.TB, p *program, conns []*load.Conn, plan load.Plan) *load.Result {
	t.Helper()
	r, err := load.Run(t.Context(), conns, plan)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	if r.Failed > 0 {
		t.Errorf("%s: %d of %d connections broke: %v", p.name, r.Failed, len(conns), r.Err)
	}
	return r
}

// row prints a program's rate beside that of another; the gate is held against 15 times MIMEDefang's.
func row(table *bench.Table, what string, p, beside, gate, defang *program) {
	ratio := bench.MedianRatio(p.rates, beside.rates)
	measured := fmt.Sprintf("%.0f RCPT/s, %.2f of %s; p99 %.0f µs", bench.Median(p.rates), ratio, beside.name, bench.Median(p.p99))
	values := map[string]float64{"rate": bench.Median(p.rates), "ratio": ratio, "p99_us": bench.Median(p.p99)}
	if p == gate && gate != nil {
		times := bench.MedianRatio(gate.rates, defang.rates)
		values["times"] = times
		table.Bar(what+p.name, fmt.Sprintf("%s; %.0f x MIMEDefang", measured, times), "15 x MIMEDefang", times >= 15, values)
		return
	}
	table.Figure(what+p.name, measured, values)
}

// misses measures recipients that nobody has asked about before, 1 in 20 of them unknown.
func misses(t *testing.T, table *bench.Table, c *cast, behind string, n int, length time.Duration, programs ...*program) {
	for i, p := range programs {
		fmt.Printf("misses against %s: %s ...\n", behind, p.name)
		conns := p.connect(t, n, pattern(t, fmt.Sprintf("mixed%d%%07d@example.com", 1+i), 9_000_000))
		before := c.backend.Stats()
		r := ask(t, p, conns, load.Plan{Duration: length})
		load.CloseAll(conns)
		after := c.backend.Stats()
		probes, opened := after.Probes-before.Probes, after.Connections-before.Connections
		if r.Temporary > 0 || float64(r.Refused) > 0.05*float64(r.Asked)+float64(n) || float64(r.Refused) < 0.05*float64(r.Asked)-float64(n) {
			t.Errorf("%s refused %d of %d recipients and was not sure of %d; 1 in 20 is unknown", p.name, r.Refused, r.Asked, r.Temporary)
		}
		table.Figure(fmt.Sprintf("misses against %s, %d sessions: %s", behind, n, p.name),
			fmt.Sprintf("%.1f RCPT/s; %.0f backend connections for 1,000 probes", r.PerSecond(), 1000*float64(opened)/float64(max(probes, 1))),
			map[string]float64{"rate": r.PerSecond(), "asked": float64(r.Asked), "connections": float64(opened), "probes": float64(probes)})
	}
}
