// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/config/setting"
	"rcptgate/kit/testkit"
)

func TestBackendsAreBoundedAndGoneOnesWorkOn(t *testing.T) {
	server := startSim(t, nil)
	s := newTestSet(t, Config{}, func(s *Set) { s.tune.most = 50 })
	first := backendFor(t, s, server)
	mustSay(t, first, "user@example.com", 250)
	for n := range 500 {
		s.Get(Address{Host: fmt.Sprintf("h%d.example", n), Port: 25})
	}
	if n := len(s.Health()); n > 50 {
		t.Errorf("%d backends", n)
	}
	testkit.Eventually(t, "its connection is closed", func() bool {
		open := server.Stats()
		return open.Connections == 1 && first.Health().Idle == 0
	})
	mustSay(t, first, "nobody@example.com", 550) // somebody still holds it
	if again := backendFor(t, s, server); again == first || again.Health().Probes != 1 {
		t.Errorf("the successor was not asked: %+v", again.Health())
	}
}

func TestABackendInUseIsNotLetGo(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.Faults = map[sim.Stage]sim.Fault{sim.Rcpt: {Kind: sim.Hang}} })
	s := newTestSet(t, Config{}, func(s *Set) { s.tune.most = 5 })
	b := backendFor(t, s, server)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = b.Ask(ctx, Probe{Recipient: numbered(1)}) })
	testkit.Eventually(t, "asked", func() bool { return b.Health().Busy == 1 })
	for n := range 50 {
		s.Get(Address{Host: fmt.Sprintf("h%d.example", n), Port: 25})
	}
	if backendFor(t, s, server) != b {
		t.Error("a backend was replaced while it was asked")
	}
	cancel()
	wg.Wait()
}

func TestConfigureKeepsWhatIsKnown(t *testing.T) {
	server := startSim(t, func(c *sim.Config) { c.DropOnEHLO = true })
	s := newTestSet(t, Config{})
	b := backendFor(t, s, server)
	for range cutsNeeded {
		mustSay(t, b, "user@example.com", 250)
	}
	s.Configure(Config{Connections: 2, ProbesPerSecond: 1000}, "other.example.org")
	mustSay(t, b, "user@example.com", 250)
	h := backendFor(t, s, server).Health()
	if h.Limit != 2 || h.Probes != cutsNeeded+1 || h.Connections != cutsNeeded || len(h.Adaptations) != 1 {
		t.Errorf("health: %+v", h)
	}
}

func TestAddressesThatAreNoServer(t *testing.T) {
	s := newTestSet(t, Config{})
	for _, a := range []string{"mx", "smtp:example.com"} {
		addr, err := ParseAddress(a)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := ask(s.Get(addr), "user@example.com")
		mustFail(t, rep, err, StageAddress, KindClosed)
	}
}

// All addresses of a name are tried; when DNS fails the last ones are used on.
func TestNames(t *testing.T) {
	server := startSim(t, nil)
	lookups := 0
	var dnsErr error
	s := newTestSet(t, Config{}, WithLookup(func(context.Context, string) ([]netip.Addr, error) {
		lookups++
		return []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("::ffff:127.0.0.1")}, dnsErr
	}))
	addr, err := ParseAddress(strings.Replace(server.Backend(), "127.0.0.1", "mail.example", 1))
	if err != nil {
		t.Fatal(err)
	}
	b := s.Get(addr)
	mustSay(t, b, "user@example.com", 250)
	server.DropConnections()
	mustSay(t, b, "user@example.com", 250)
	if lookups != 1 {
		t.Errorf("%d look-ups for two connections", lookups)
	}
	dnsErr = errors.New("server failure")
	b.names.until = time.Time{}
	server.DropConnections()
	mustSay(t, b, "user@example.com", 250)
	if lookups != 2 {
		t.Errorf("%d look-ups", lookups)
	}
	rep, err := ask(s.Get(Address{Host: "unknown.example", Port: 25}), "user@example.com")
	mustFail(t, rep, err, StageConnect, KindNoConnection)
}

func TestDNSHasADeadline(t *testing.T) {
	s := newTestSet(t, Config{Connect: seconds(0.05)}, WithLookup(func(ctx context.Context, _ string) ([]netip.Addr, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	rep, err := ask(s.Get(Address{Host: "slow.example", Port: 25}), "user@example.com")
	mustFail(t, rep, err, StageConnect, KindTimeout)
}

func TestValidate(t *testing.T) {
	for _, good := range []Config{{}, DefaultConfig()} {
		if err := good.Validate(); err != nil {
			t.Error(err)
		}
	}
	for file, word := range map[string]string{"/nonexistent": "no such file", "set_test.go": "PEM"} {
		err := Config{CAFile: file}.Validate()
		var bad *setting.KeyError
		if !errors.As(err, &bad) || bad.Key != "ca_file" || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// What is not set is as in DefaultConfig: no limit of zero connections.
func TestZeroSettingsAreDefaults(t *testing.T) {
	if got, want := (Config{}).withDefaults(), DefaultConfig(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOurNameInEHLO(t *testing.T) {
	for hostname, want := range map[string]string{
		"gate.example.org": "gate.example.org", "gate.example.org.": "gate.example.org", "gate": "[127.0.0.1]", "": "[127.0.0.1]",
	} {
		got := make(chan string, 1)
		server := startServer(t, false, func(name string) {
			select {
			case got <- name:
			default:
			}
		})
		s := NewSet(Config{}, hostname, nil)
		a, err := ParseAddress("smtp:[127.0.0.1]:" + server)
		if err != nil {
			t.Fatal(err)
		}
		mustSay(t, s.Get(a), "user@example.com", 250)
		s.Close()
		if name := <-got; name != want {
			t.Errorf("hostname %q: EHLO %s, want %s", hostname, name, want)
		}
	}
}
