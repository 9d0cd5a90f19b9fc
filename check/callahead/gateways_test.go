// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/backend/sim"
	"rcptgate/kit/testkit"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/store/disk"
	"rcptgate/store/memcached"
	"rcptgate/store/ram"
	"rcptgate/store/tiers"
	"rcptgate/test/lab"
)

// patient is the timing of gateways whose tests are not about time: machines are busy,
// and a question that gives up too early costs a probe.
var patient = tiers.Timing{Fresh: time.Second, Stale: 2 * time.Second, Budget: 5 * time.Minute}

// gatewayOptions say how a real gateway is made.
type gatewayOptions struct {
	dir     string // of the disk store; "" is none
	servers []*lab.Memcached
	timing  tiers.Timing
	lease   time.Duration // how long a lease outlives its holder, and is honoured; 0 is the default
}

// realGateway is a check over real parts: a real memcached between it and the others.
type realGateway struct {
	*site
	server *sim.Server
	client *memcached.Client
	close  func()
}

// newGateway starts one gateway in front of server.
func newGateway(t *testing.T, server *sim.Server, o gatewayOptions) *realGateway {
	t.Helper()
	cfg := memcached.DefaultConfig()
	for _, m := range o.servers {
		s, err := memcached.ParseServer(m.Socket())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Servers = append(cfg.Servers, s)
	}
	client, err := memcached.NewClient(cfg, slog.New(slog.DiscardHandler), memcached.ClientOptions{Timeout: o.timing.Budget})
	if err != nil {
		t.Fatal(err)
	}
	places := []store.Store{memcached.New(client, memcached.Options{Every: 200 * time.Millisecond, Lease: o.lease, Honour: o.lease})}
	if o.dir != "" {
		d, err := disk.Open(disk.Options{Dir: o.dir, Entries: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, d)
	}
	memory := tiers.New(ram.New(ram.Options{Entries: 200_000}), places...)
	state := NewState(nil)
	memory.OnForget(state.Forget)
	memory.Join(o.timing)
	set := backend.NewSet(backend.DefaultConfig(), "mx1.example.org", nil)
	router, err := route.New(route.Options{
		Domains:   []route.DomainConfig{{Name: "example.com", Backend: []string{server.Backend()}}},
		FollowMTA: true, Enforce: true, Hostname: "mx1.example.org", Set: set,
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &realGateway{site: &site{t: t, memory: memory, state: state}, server: server, client: client}
	g.close = sync.OnceFunc(func() {
		state.Close()
		if err := memory.Close(); err != nil {
			t.Error(err)
		}
		_ = client.Close()
		router.Close()
		set.Close()
	})
	t.Cleanup(g.close)
	g.check, err = New(Options{
		Config: DefaultConfig(), Lives: DefaultLives(), Domains: make([]DomainConfig, 1), Hostname: "mx1.example.org",
		Router: router, Memory: memory, State: state,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.chain = &rcptgate.Chain{Deadline: 5 * time.Minute, Steps: []rcptgate.Step{{Name: "existence", Check: g.check}}}
	return g
}

// newGateways starts n of them, and the backend. Recipients that begin with "no" do not
// exist.
func newGateways(t *testing.T, n int, o gatewayOptions) (*sim.Server, []*realGateway) {
	t.Helper()
	server := sim.New(sim.Config{Behaviour: exists("no")})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	var list []*realGateway
	for range n {
		list = append(list, newGateway(t, server, o))
	}
	// Without a list of what was forgotten refusals of the same second are not believed.
	time.Sleep(1100 * time.Millisecond)
	return server, list
}

func exists(but string) sim.Behaviour {
	return sim.Behaviour{Decide: func(recipient string) string {
		if strings.HasPrefix(recipient, but) || strings.HasPrefix(recipient, "rcptgate") {
			return "550 5.1.1 no such user"
		}
		return "250 2.1.5 Ok"
	}}
}

// learnUnknown lets every gateway find out how the backend says unknown, which may take further questions. From then on
// one question answers for each recipient.
func learnUnknown(list []*realGateway) {
	for i, g := range list {
		g.expectCode(fmt.Sprintf("first%d@example.com", i), 250)
		g.awaitTest()
		g.expectCode(fmt.Sprintf("nofirst%d@example.com", i), 550)
	}
}

// awaitTest waits for the end of the test with a made-up name that follows the first valid answer.
func (g *realGateway) awaitTest() {
	testkit.Eventually(g.t, "the test with a made-up name", func() bool {
		_, source := g.check.finding(g.t.Context(), g.server.Backend(), "example.com")
		return source != ""
	})
}

// probes are those about real recipients.
func probes(server *sim.Server) (n int) {
	for recipient, asked := range server.Stats().PerRecipient {
		if !strings.HasPrefix(recipient, "rcptgate") {
			n += asked
		}
	}
	return n
}

// TestGatewaysOneProbe puts 300 questions for one new address to three gateways at once.
func TestGatewaysOneProbe(t *testing.T) {
	t.Parallel()
	server, list := newGateways(t, 3, gatewayOptions{servers: lab.StartMemcacheds(t, 3, lab.MemcachedOptions{}), timing: patient, lease: 5 * time.Minute})
	// A backend that takes three seconds between two replies is asked once more, without pipelining.
	for i, delay := range []time.Duration{0, 100 * time.Millisecond, 600 * time.Millisecond} {
		b := exists("no")
		b.Delays = map[sim.Stage]time.Duration{sim.Rcpt: delay}
		server.SetBehaviour(b)
		for _, recipient := range []string{fmt.Sprintf("user%d@example.com", i), fmt.Sprintf("nobody%d@example.com", i)} {
			var all sync.WaitGroup
			for k := range 300 {
				all.Go(func() {
					v, _ := list[k%3].chain.Check(t.Context(), query(recipient))
					if want := map[bool]int{true: 250, false: 550}[recipient[0] == 'u']; v.Code != want {
						t.Errorf("%s: %+v", recipient, v)
					}
				})
			}
			all.Wait()
			if n := server.Asked(recipient); n != 1 {
				t.Errorf("300 questions for %s made %d probes, with answers after %v", recipient, n, delay)
			}
		}
	}
	tests := 0
	for recipient, n := range server.Stats().PerRecipient {
		if strings.HasPrefix(recipient, "rcptgate") {
			tests += n
		}
	}
	if tests != 1 {
		t.Errorf("%d accept-all tests, want one for all gateways", tests)
	}
}

// TestGatewaysManyRecipients asks three gateways about the same new recipients, each in
// an order of its own, and again.
func TestGatewaysManyRecipients(t *testing.T) {
	t.Parallel()
	// Two gateways meet at one recipient about as often whatever their number: 48 are asked about at a time.
	n := testkit.Rounds(500, 10_000)
	server, list := newGateways(t, 3, gatewayOptions{servers: lab.StartMemcacheds(t, 3, lab.MemcachedOptions{}), timing: patient, lease: 5 * time.Minute})
	name := func(i int) string {
		if i%10 == 0 {
			return fmt.Sprintf("no%d@example.com", i)
		}
		return fmt.Sprintf("user%d@example.com", i)
	}
	learnUnknown(list)
	before := probes(server)
	askAll := func() {
		var all sync.WaitGroup
		for _, g := range list {
			order := rand.Perm(n)
			next := make(chan int)
			all.Go(func() {
				defer close(next)
				for _, i := range order {
					next <- i
				}
			})
			for range 16 { // which bounds the rate
				all.Go(func() {
					for i := range next {
						v, _ := g.chain.Check(t.Context(), query(name(i)))
						if (v.Code == 550) != (i%10 == 0) || v.Code != 550 && v.Code != 250 {
							t.Errorf("%s: %+v", name(i), v)
						}
					}
				})
			}
		}
		all.Wait()
	}
	askAll()
	first := probes(server) - before
	if first != n {
		t.Errorf("%d recipients, asked about on three gateways: %d probes", n, first)
	}
	askAll()
	if again := probes(server) - before - first; again != 0 {
		t.Errorf("the same again made %d probes", again)
	}
}

// TestGatewaysForget: what one gateway forgets the others ask again.
func TestGatewaysForget(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	server, list := newGateways(t, 3, gatewayOptions{servers: servers, timing: patient, lease: 5 * time.Minute})
	learnUnknown(list)
	for _, g := range list {
		g.expectCode("nobody@example.com", 550)
		g.expectCode("user@example.com", 250)
	}
	server.SetBehaviour(exists("user"))
	if _, err := list[0].memory.Forget(t.Context(), store.Pattern{Domain: "example.com"}); err != nil {
		t.Fatal(err)
	}
	list[0].expectCode("nobody@example.com", 250) // at once
	list[0].expectCode("user@example.com", 550)
	for i, g := range list[1:] {
		testkit.Eventually(t, fmt.Sprintf("gateway %d asks again", i+1), func() bool {
			return g.code("nobody@example.com") == 250 && g.code("user@example.com") == 550
		})
	}
	// Each before, and once for all gateways after. How the backend says unknown was forgotten too, and a made-up name
	// is not tried twice a minute: the refusal is believed after a control question about who was just taken.
	controls := 0
	for _, g := range list {
		controls += int(g.state.Stats().Controls) //nolint:gosec // a few
	}
	if n, m := server.Asked("user@example.com"), server.Asked("nobody@example.com"); n != 2 || m != 2+controls || controls != 1 {
		t.Errorf("asked about %d and %d times, with %d control questions", n, m, controls)
	}
}

func (g *realGateway) code(recipient string) int {
	v, _ := g.chain.Check(g.t.Context(), query(recipient))
	return v.Code
}

func (g *realGateway) expectCode(recipient string, want int) {
	g.t.Helper()
	if got := g.code(recipient); got != want {
		g.t.Errorf("%s: %d, want %d", recipient, got, want)
	}
}

// TestGatewaysForgetWithoutMemcached forgets while no server lives, on a gateway that is
// then restarted, and brings an empty memcached back: the other gateway, whose RAM and
// disk have the old answer, forgets nevertheless.
func TestGatewaysForgetWithoutMemcached(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	timing := patient
	timing.Fresh, timing.Stale = 200*time.Millisecond, 400*time.Millisecond
	o := gatewayOptions{servers: servers, timing: timing}
	server, _ := newGateways(t, 0, o)
	first, second := o, o
	first.dir, second.dir = t.TempDir(), t.TempDir()
	g, other := newGateway(t, server, first), newGateway(t, server, second)
	g.expectCode("user@example.com", 250)
	other.expectCode("user@example.com", 250)
	for _, m := range servers {
		m.Kill()
	}
	server.SetBehaviour(exists("user"))
	_, err := g.memory.Forget(t.Context(), store.Pattern{Address: "user@example.com"})
	if !errors.Is(err, store.ErrUnpublished) {
		t.Fatalf("forgetting without memcached: %v, want ErrUnpublished", err)
	}
	g.expectCode("user@example.com", 550)
	other.expectCode("user@example.com", 250) // it cannot know
	g.close()
	for _, m := range servers {
		m.Restart()
	}
	g = newGateway(t, server, first)
	testkit.Eventually(t, "the other gateway has been told", func() bool { return other.code("user@example.com") == 550 })
	other.close()
	other = newGateway(t, server, second) // nor is it on its disk
	other.expectCode("user@example.com", 550)
	for _, m := range servers {
		m.Flush() // the list is lost once more
	}
	time.Sleep(3 * timing.Stale)
	g.expectCode("user@example.com", 550)
	other.expectCode("user@example.com", 550)
}

// TestGatewayOffDuringForget starts a gateway, whose disk has the old answer, after
// another one forgot and memcached was emptied.
func TestGatewayOffDuringForget(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 1, lab.MemcachedOptions{})
	o := gatewayOptions{servers: servers, timing: patient}
	server, list := newGateways(t, 1, o)
	off := o
	off.dir = t.TempDir()
	other := newGateway(t, server, off)
	other.expectCode("user@example.com", 250)
	other.close()
	server.SetBehaviour(exists("user"))
	if _, err := list[0].memory.Forget(t.Context(), store.Pattern{Domain: "example.com"}); err != nil {
		t.Fatal(err)
	}
	list[0].expectCode("user@example.com", 550)
	servers[0].Flush()
	other = newGateway(t, server, off)
	testkit.Eventually(t, "the gateway has been told", func() bool { return other.code("user@example.com") == 550 })
}

// TestGatewaysForgetDuringProbe: a probe that began on another gateway before the forget
// leaves nothing behind.
func TestGatewaysForgetDuringProbe(t *testing.T) {
	t.Parallel()
	timing := patient
	timing.Fresh, timing.Stale = 200*time.Millisecond, 400*time.Millisecond
	server, list := newGateways(t, 2, gatewayOptions{servers: lab.StartMemcacheds(t, 1, lab.MemcachedOptions{}), timing: timing})
	told, done := make(chan struct{}), make(chan struct{})
	tell := sync.OnceFunc(func() { close(told) })
	t.Cleanup(tell)
	list[1].memory.OnForget(func(store.Pattern) { tell() })
	server.SetBehaviour(sim.Behaviour{Decide: func(string) string { <-told; return "550 5.1.1 no such user" }})
	go func() { list[1].code("user@example.com"); close(done) }()
	testkit.Eventually(t, "the probe has begun", func() bool { return server.Asked("user@example.com") == 1 })
	server.SetBehaviour(exists("no"))
	if _, err := list[0].memory.Forget(t.Context(), store.Pattern{Address: "user@example.com"}); err != nil {
		t.Fatal(err)
	}
	<-done // the probe is answered once its gateway has heard of the forget
	list[0].expectCode("user@example.com", 250)
	testkit.Eventually(t, "the other gateway knows the new answer", func() bool { return list[1].code("user@example.com") == 250 })
	time.Sleep(2 * timing.Stale)
	list[0].expectCode("user@example.com", 250)
}

// TestGatewaysHolderKilled: a lease whose holder is gone delays no question for longer than
// it lives.
func TestGatewaysHolderKilled(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 1, lab.MemcachedOptions{})
	server, list := newGateways(t, 1, gatewayOptions{servers: servers, timing: patient})
	list[0].expectCode("first@example.com", 250)
	sum := sha256.Sum256([]byte("user@example.com\n" + server.Backend()))
	value := fmt.Sprintf("rgl1\tGONE\t%d\n", time.Now().Add(3*time.Second).UnixMilli())
	start := time.Now()
	reply, err := servers[0].Command(fmt.Sprintf("add rg:l:%s 0 3 %d\r\n%s", hex.EncodeToString(sum[:]), len(value), value))
	if err != nil || reply != "STORED" {
		t.Fatal(reply, err)
	}
	list[0].expectCode("user@example.com", 250)
	d := time.Since(start)
	t.Logf("%v", d)
	if d < time.Second || d > 30*time.Second {
		t.Errorf("answered after %v: want at most the three seconds of the lease", d)
	}
}

// TestGatewaysMemcachedInTrouble kills, stops and brings back all servers under the
// gateways: every verdict is right, and what was learnt meanwhile is common afterwards.
func TestGatewaysMemcachedInTrouble(t *testing.T) {
	t.Parallel()
	servers := lab.StartMemcacheds(t, 2, lab.MemcachedOptions{})
	quick := tiers.Timing{Fresh: 200 * time.Millisecond, Stale: 400 * time.Millisecond, Budget: 300 * time.Millisecond}
	server, list := newGateways(t, 2, gatewayOptions{servers: servers, timing: quick})
	round := 0
	askSome := func() {
		t.Helper()
		round++
		for i := range 30 {
			for _, g := range list {
				g.expectCode(fmt.Sprintf("user%d-%d@example.com", round, i), 250)
				g.expectCode(fmt.Sprintf("no%d-%d@example.com", round, i), 550)
				g.expectCode(fmt.Sprintf("user1-%d@example.com", i), 250)
			}
		}
	}
	askSome()
	for what, trouble := range map[string][2]func(*lab.Memcached){
		"stopped": {(*lab.Memcached).Stop, (*lab.Memcached).Cont},
		"killed":  {func(m *lab.Memcached) { m.Kill() }, (*lab.Memcached).Restart},
	} {
		for _, m := range servers {
			trouble[0](m)
		}
		askSome()
		testkit.Eventually(t, what+" servers are seen to be dead", list[0].client.Down)
		askSome()
		for _, m := range servers {
			trouble[1](m)
		}
		testkit.Eventually(t, what+" servers are seen to be back", func() bool { return !list[0].client.Down() && !list[1].client.Down() })
		askSome()
		testkit.Eventually(t, "one probe for both again", func() bool {
			recipient := fmt.Sprintf("user%d@example.com", rand.Int64())
			list[0].expectCode(recipient, 250)
			list[1].expectCode(recipient, 250)
			return server.Asked(recipient) == 1
		})
	}
	there := memcached.New(list[1].client, memcached.Options{})
	defer func() { _ = there.Close() }()
	testkit.Eventually(t, "what was learnt without memcached is there", func() bool {
		list[0].expectCode("user2-0@example.com", 250)
		rec, err := there.Get(context.Background(), "user2-0@example.com")
		return err == nil && rec.Standing.Class == store.Valid
	})
}
