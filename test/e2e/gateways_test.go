// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/backend/sim"
	"rcptgate/bench/load"
	"rcptgate/front/admin"
	"rcptgate/kit/testkit"
	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// site is several gateways in front of one mail server, which counts the recipients asked about, and the memcached servers that
// they have in common.
type site struct {
	testing.TB
	behind  *sim.Server
	servers []*lab.Memcached
	gates   []*lab.Gate

	mu    sync.Mutex
	boxes map[string]bool // local parts that do not follow the rule of numbered
}

// known is the mail server's rule for names with a number: one in ten does not exist.
func known(local string) bool {
	digits := strings.TrimLeft(local, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.Atoi(digits)
	return err == nil && len(local) < 12 && n%10 != 0
}

// names makes recipients with numbers, nine of ten of which exist.
func names(series string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%05d@sim.test", series, i)
	}
	return list
}

// newSite starts the mail server and the memcached servers; gateways come with join.
func newSite(t testing.TB, memcacheds int) *site {
	t.Helper()
	s := &site{TB: t, boxes: map[string]bool{}, servers: lab.StartMemcacheds(t, memcacheds, lab.MemcachedOptions{})}
	s.behind = sim.New(sim.Config{Behaviour: s.behaviour()})
	if err := s.behind.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.behind.Stop)
	return s
}

func (s *site) behaviour() sim.Behaviour {
	return sim.Behaviour{Decide: func(recipient string) string {
		local, _, _ := strings.Cut(recipient, "@")
		s.mu.Lock()
		there, set := s.boxes[local]
		s.mu.Unlock()
		if there || !set && known(local) {
			return "250 2.1.5 Ok"
		}
		return "550 5.1.1 no mailbox of that name"
	}}
}

// mailbox makes or deletes one behind.
func (s *site) mailbox(local string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxes[local] = there
}

// config is that of a gateway; without keys it believes everything.
func (s *site) config(keys ...string) string {
	var sockets []string
	for _, m := range s.servers {
		sockets = append(sockets, strconv.Quote(m.Socket()))
	}
	// A mailbox that is unknown on a connection of ten seconds or more is asked about once more on a new one. Here
	// none gets so old, so that each question can be counted.
	text := "[callahead]\nconnection_age = \"5s\"\n[cache]\nmemcached = [" + strings.Join(sockets, ", ") + "]\n"
	if len(keys) > 0 {
		file := filepath.Join(s.TempDir(), "key")
		if err := os.WriteFile(file, []byte(strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
			s.Fatal(err)
		}
		text += fmt.Sprintf("memcached_key_file = %q\n", file)
	}
	return text + section("sim.test", s.behind.Backend())
}

// join starts n gateways more.
func (s *site) join(n int, config string) []*lab.Gate {
	s.Helper()
	first := len(s.gates)
	for range n {
		s.gates = append(s.gates, lab.StartGate(s, config))
	}
	// The list of what was forgotten began with the first of them: refusals of that second are not believed.
	time.Sleep(1100 * time.Millisecond)
	return s.gates[first:]
}

// code asks one gateway about one recipient.
func (s *site) code(g *lab.Gate, local string) int {
	s.Helper()
	session := open(s, cases.Bare(g, nil))
	defer session.Close()
	return session.Rcpt(local + "@sim.test").Code
}

func (s *site) want(g *lab.Gate, local string, code int) {
	s.Helper()
	if got := s.code(g, local); got != code {
		s.Errorf("%s: %d, want %d", local, got, code)
	}
}

// asked is how often the mail server was asked about the recipients of a list so far.
func (s *site) asked(list ...string) (n int) {
	for _, name := range list {
		n += s.behind.Asked(name)
	}
	return n
}

// connections is the number of MTA connections to each gateway.
const connections = 8

// put asks one gateway about recipients, each once, at so many a second over several connections.
func (s *site) put(g *lab.Gate, list []string, rate float64) *load.Result {
	s.Helper()
	r, err := s.ask(g, list, connections, load.Plan{Count: len(list), Rate: rate})
	if err != nil {
		s.Error(err)
		return &load.Result{Latency: new(load.Histogram)}
	}
	return r
}

// dial opens connections that ask about the recipients of a list, in its order.
func (s *site) dial(g *lab.Gate, list []string, n int) ([]*load.Conn, error) {
	f, err := os.CreateTemp(s.TempDir(), "recipients")
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(strings.Join(list, "\n"))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	recipients, err := load.File(f.Name())
	if err != nil {
		return nil, err
	}
	m := load.Milter{
		Network: "unix", Address: g.Unix, Sender: "sender@client.test", NextHop: "[127.0.0.1]", PerTransaction: 10, Recipients: recipients,
	}
	return load.DialAll(s.Context(), n, m.Dial)
}

// ask is put that gives its errors back. A wrong verdict is one.
func (s *site) ask(g *lab.Gate, list []string, n int, plan load.Plan) (*load.Result, error) {
	conns, err := s.dial(g, list, n)
	if err != nil {
		return nil, err
	}
	defer load.CloseAll(conns)
	r, err := load.Run(s.Context(), conns, plan)
	if err != nil {
		return nil, err
	}
	good := 0
	for _, name := range list {
		if local, _, _ := strings.Cut(name, "@"); known(local) {
			good++
		}
	}
	if r.Failed > 0 || r.Accepted != good || r.Refused != len(list)-good {
		return nil, fmt.Errorf("of %d recipients, %d of which exist, %d were taken, %d refused, %d put off, and %d connections broke (%w)",
			len(list), good, r.Accepted, r.Refused, r.Temporary, r.Failed, r.Err)
	}
	return r, nil
}

// latency is how long the answers of the slowest gateway took.
type latency struct{ median, p99, worst time.Duration }

func (l latency) String() string {
	return fmt.Sprintf("median %v, p99 %v, longest %v", l.median.Round(time.Microsecond), l.p99.Round(time.Microsecond), l.worst.Round(time.Microsecond))
}

func (l *latency) add(h *load.Histogram) {
	l.median, l.p99, l.worst = max(l.median, h.Quantile(0.5)), max(l.p99, h.Quantile(0.99)), max(l.worst, h.Max())
}

// putAll asks every gateway about the same recipients at the same time, each in an order of its own.
func (s *site) putAll(list []string, rate float64) latency {
	s.Helper()
	slowest, err := s.askAll(list, rate)
	if err != nil {
		s.Error(err)
	}
	return slowest
}

// askAll is putAll that gives its errors back.
func (s *site) askAll(list []string, rate float64) (slowest latency, err error) {
	var all sync.WaitGroup
	results, errs := make([]*load.Result, len(s.gates)), make([]error, len(s.gates))
	for i, g := range s.gates {
		order := make([]string, len(list))
		for k, at := range rand.Perm(len(list)) {
			order[k] = list[at]
		}
		plan := load.Plan{Count: len(order), Rate: rate / float64(len(s.gates))}
		all.Go(func() { results[i], errs[i] = s.ask(g, order, connections, plan) })
	}
	all.Wait()
	for _, r := range results {
		if r != nil {
			slowest.add(r.Latency)
		}
	}
	return slowest, errors.Join(errs...)
}

// place is what a gateway says of memcached.
func (s *site) place(g *lab.Gate) (memcached admin.Place) {
	s.Helper()
	var list []admin.Place
	if err := json.Unmarshal([]byte(g.MustCommand(0, "cache", "stats", "--json")), &list); err != nil {
		s.Error(err)
	}
	for _, p := range list {
		if p.Name == "memcached" {
			return p
		}
	}
	s.Errorf("the gateway has no place memcached: %+v", list)
	return admin.Place{}
}

// unanswered is how many questions to memcached got no answer in time, on some gateways: where a machine is busy for
// 40 ms they go on without, as they should, and probe.
func (s *site) unanswered(gates ...*lab.Gate) (n int) {
	s.Helper()
	for _, g := range gates {
		p := s.place(g)
		n += int(p.Errors) //nolint:gosec // a count of one test
		for _, server := range p.Servers {
			n += int(server.Errors) //nolint:gosec // as above
		}
	}
	return n
}

// exactly holds a number of probes against the one that memcached should leave. Each question that memcached did not
// answer in time may have cost some more: a server that does not answer is left alone for a second, and what it has is
// asked for elsewhere. There are never more than most, whatever memcached does.
func (s *site) exactly(what string, probes, want, most, unanswered int) {
	s.Helper()
	if most = min(most, want+10*unanswered); probes < want || probes > most {
		s.Errorf("%s: %d probes, want %d; %d questions had no answer of memcached in time, so that %d are allowed", what, probes, want, unanswered, most)
	}
}

// learnUnknown lets every gateway find out how the mail server says unknown, which may take further questions. All later
// refusals are in that shape, so that one question for each recipient will do.
func (s *site) learnUnknown() {
	s.Helper()
	for i, g := range s.gates {
		s.put(g, names(fmt.Sprintf("first%c", 'a'+i), 20), 100)
	}
}

// lost counts the recipients that none of the servers has an answer for.
func (s *site) lost(list []string, servers ...*lab.Memcached) int {
	s.Helper()
	held := map[string]bool{}
	for _, m := range servers {
		plain := memcache.New(m.Addr)
		plain.Timeout = 10 * time.Second
		for batch := range slices.Chunk(list, 100) {
			keys := make([]string, len(batch))
			for i := range batch {
				keys[i] = "rg:a:" + batch[i]
			}
			found, err := plain.GetMulti(keys)
			if err != nil {
				s.Fatal(err)
			}
			for key := range found {
				held[key] = true
			}
		}
		_ = plain.Close()
	}
	return len(list) - len(held)
}

// TestGateways is the story of three gateways with three memcached servers: new recipients are asked about once, whoever
// is asked first, and a memcached that goes away costs questions and nothing else.
func TestGateways(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.MemcachedKit)
	s := newSite(t, 3)
	s.join(3, s.config())
	s.learnUnknown()
	list := s.onceForAll()
	s.oneProbe()
	s.oneKilled(list)
	s.allGone()
}

// onceForAll puts 10,000 new recipients to all gateways, and the same again. Where the machine was too busy for
// memcached to answer in time it is tried again with others, more slowly.
func (s *site) onceForAll() (list []string) {
	const people = 10_000
	rate := 3000.0
	for try, series := range []string{"ann", "bob", "carl"} {
		list = names(series, people)
		slow := s.unanswered(s.gates...)
		took, err := s.askAll(list, rate)
		probes := s.asked(list...)
		slow = s.unanswered(s.gates...) - slow
		s.Logf("%d new recipients on three gateways, %.0f RCPT/s: %d probes, %v; %d questions without an answer of memcached", people, rate, probes, took, slow)
		if err == nil && probes <= people+people/100 || try == 2 {
			if err != nil {
				s.Error(err)
			}
			s.exactly("10,000 new recipients", probes, people, people*len(s.gates), slow)
			break
		}
		rate /= 2
	}
	before := s.asked(list...)
	took := s.putAll(list, 3000)
	if again := s.asked(list...) - before; again != 0 {
		s.Errorf("the same again made %d probes", again)
	}
	s.Logf("the same again: %v", took)
	return list
}

// oneProbe puts one new address to three gateways over 300 connections at the same moment: one who exists, and one who
// does not. Where the machine was too busy for memcached to answer in time it is tried again with others.
func (s *site) oneProbe() {
	slow := s.behaviour()
	slow.Delays = map[sim.Stage]time.Duration{sim.Rcpt: 300 * time.Millisecond}
	s.behind.SetBehaviour(slow)
	defer s.behind.SetBehaviour(s.behaviour())
	for _, digits := range []string{"1", "10"} {
		for try, series := range []string{"dora", "doris", "dorothy"} {
			name := series + digits + "@sim.test"
			unanswered := s.allAtOnce(name)
			s.Logf("300 questions for %s: %d probes, %d questions without an answer of memcached", name, s.asked(name), unanswered)
			if unanswered == 0 || try == 2 {
				s.exactly("300 questions for "+name+" over three gateways", s.asked(name), 1, len(s.gates), unanswered)
				break
			}
		}
	}
}

// allAtOnce asks about one recipient over 100 connections to each gateway. It reports how many questions to memcached had
// no answer in time.
func (s *site) allAtOnce(name string) (unanswered int) {
	var conns []*load.Conn
	for _, g := range s.gates {
		more, err := s.dial(g, []string{name}, 100)
		if err != nil {
			s.Fatal(err)
		}
		conns = append(conns, more...)
	}
	before := s.unanswered(s.gates...)
	r, err := load.Run(s.Context(), conns, load.Plan{Count: len(conns)})
	load.CloseAll(conns)
	if err != nil || r.Failed > 0 || max(r.Accepted, r.Refused) != 300 {
		s.Errorf("%s: %+v, %v", name, r, err)
	}
	return s.unanswered(s.gates...) - before
}

// oneKilled kills one of three memcached servers under load: no sender notices, and a gateway that has lost everything
// finds what the others hold.
func (s *site) oneKilled(list []string) {
	const second = 1
	before := s.putAll(names("erna", 1000), 1000)
	timer := time.AfterFunc(500*time.Millisecond, s.servers[second].Kill)
	then := s.putAll(names("fay", 2000), 1000)
	timer.Stop()
	s.servers[second].Kill()
	s.Logf("before a server is killed under load: %v", before)
	s.Logf("while it is: %v", then)

	g, slow := s.gates[2], s.unanswered(s.gates...)
	g.Fresh(s.config())
	lost, asked := s.lost(list, s.servers[0], s.servers[2]), s.asked(list...)
	s.put(g, list, 1500)
	asked = s.asked(list...) - asked
	s.Logf("a gateway that has lost everything: %d probes for %d recipients, %d of which memcached has lost", asked, len(list), lost)
	s.exactly("a gateway that has lost everything", asked, lost, len(list), slow+s.unanswered(g))
}

// patience is longer than any answer may take without memcached, on a busy machine.
const patience = 5 * time.Second

// allGone stops the servers that are left, then kills them: the gateways go on. Then all are back, empty.
func (s *site) allGone() {
	for i, c := range []struct {
		what string
		do   func(m *lab.Memcached)
	}{{"hang", (*lab.Memcached).Stop}, {"are gone", func(m *lab.Memcached) { m.Kill() }}} {
		c.do(s.servers[0])
		c.do(s.servers[2])
		took := s.putAll(append(names("gil"+string(rune('a'+i)), 500), names("ann", 500)...), 1000)
		s.Logf("servers that %s: %v", c.what, took)
		if took.worst > patience {
			s.Errorf("with servers that %s an answer took %v", c.what, took.worst)
		}
	}
	for _, m := range s.servers {
		m.Restart()
	}
	testkit.Eventually(s, "one probe for all again", func() bool {
		local := fmt.Sprintf("hal%d", 1+10*rand.IntN(1_000_000))
		for _, g := range s.gates {
			s.want(g, local, 250)
		}
		return s.behind.Asked(local+"@sim.test") == 1
	})
}
