// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/kit/notice"
	"rcptgate/kit/testkit"
)

// changes records the calls of a breaker hook.
type changes struct {
	mu   sync.Mutex
	list []bool
}

func (c *changes) hook(_ Address, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, open)
}

func (c *changes) are(want ...bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) != len(want) {
		return false
	}
	for i := range want {
		if c.list[i] != want[i] {
			return false
		}
	}
	return true
}

func TestBreakerHook(t *testing.T) {
	server := startSim(t, nil)
	var told changes
	board := notice.New(slog.New(slog.DiscardHandler))
	s := newTestSet(t, Config{}, WithTrials(trialsEvery, time.Hour), OnBreaker(told.hook), WithNotices(board))
	b := backendFor(t, s, server)
	mustSay(t, b, "user@example.com", 250)
	if list := s.Used(time.Hour); len(list) != 1 || list[0] != (Used{b.Address(), false}) {
		t.Errorf("in use: %+v", list)
	}
	server.Stop()
	for range 2 * tripAfter {
		_, _ = ask(b, "user@example.com")
	}
	if !told.are(true) {
		t.Errorf("told %v when the breaker opened", told.list)
	}
	if list := s.Used(time.Hour); len(list) != 1 || !list[0].Open {
		t.Errorf("in use: %+v", list)
	}
	if list := board.List(); len(list) != 1 || !strings.Contains(list[0].Text, server.Backend()) {
		t.Errorf("notices: %+v", list)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the hook hears that the breaker closed", func() bool { return told.are(true, false) })
	testkit.Eventually(t, "the notice is taken back", func() bool { return len(board.List()) == 0 })
	server.Stop()
	for range 2 * tripAfter {
		_, _ = ask(b, "user@example.com")
	}
	board.Warn("backend-habit "+b.name+" one question a connection", "as after an adaptation")
	board.Warn("backend-limit "+b.name, "as after a refused connection")
	board.Warn("backend-habit "+b.name+"0 one question a connection", "another server's")
	if list := board.List(); len(list) != 4 {
		t.Errorf("notices: %+v", list)
	}
	s.Close()
	if list := board.List(); len(list) != 1 || !strings.Contains(list[0].Text, "another server's") {
		t.Errorf("notices when the server is no longer asked: %+v", list)
	}
}

// TestReportsOvertakeEachOther: reports of the breaker's turns may come in another order than the
// turns. What is listed, and the last log line, are what holds.
func TestReportsOvertakeEachOther(t *testing.T) {
	down, up := refusedConnection, (*Failure)(nil)
	for name, tt := range map[string]struct {
		reports []*Failure
		open    bool   // afterwards
		last    string // log line
	}{
		"down":                             {[]*Failure{down}, true, "does not answer"},
		"down, up":                         {[]*Failure{down, up}, false, "answers again"},
		"up overtakes down":                {[]*Failure{up, down}, false, "answers again"},
		"down again, before up":            {[]*Failure{down, up}, true, "does not answer"},
		"down again, and up overtakes it":  {[]*Failure{down, up, up, down}, false, "answers again"},
		"down again, reported before up":   {[]*Failure{down, down, up}, true, "does not answer"},
		"down again, and up, all reported": {[]*Failure{down, up, down, up}, false, "answers again"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			board := notice.New(slog.New(slog.NewTextHandler(&log, nil)))
			s := newTestSet(t, Config{}, WithNotices(board))
			a, err := ParseAddress("smtp:[192.0.2.1]:25")
			if err != nil {
				t.Fatal(err)
			}
			b := s.Get(a)
			b.breaker.isOpen.Store(tt.open)
			for _, cause := range tt.reports {
				b.wasTurned(cause, time.Second)
			}
			if got := len(board.List()) > 0; got != tt.open {
				t.Errorf("listed: %v", board.List())
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if !strings.Contains(lines[len(lines)-1], tt.last) {
				t.Errorf("the log ends with %q, want %q", lines[len(lines)-1], tt.last)
			}
		})
	}
}

// A hint is tried, once, without a recipient; what the trial meets decides.
func TestSuspectedBackends(t *testing.T) {
	server := startSim(t, nil)
	var told changes
	s := newTestSet(t, Config{}, WithTrials(time.Hour, time.Hour), OnBreaker(told.hook), patient)
	b := backendFor(t, s, server)
	if s.Suspect(Address{Host: "[192.0.2.1]", Port: 25}) {
		t.Error("a backend that was never used is tried")
	}
	if !s.Suspect(b.Address()) {
		t.Fatal("no trial")
	}
	testkit.Eventually(t, "the trial leaves its connection", func() bool { return b.Health().Idle == 1 })
	if st := server.Stats(); st.Probes != 0 || st.Mails != 1 {
		t.Errorf("the trial was %+v", st)
	}
	if s.Suspect(b.Address()) {
		t.Error("tried again at once")
	}
	mustSay(t, b, "user@example.com", 250)
	if !told.are() {
		t.Errorf("the hint changed the breaker: %v", told.list)
	}
}

func TestASuspectedBackendThatIsDown(t *testing.T) {
	for _, tc := range []struct {
		name string
		down func(*sim.Server)
	}{
		{"stopped", func(s *sim.Server) { s.Stop() }},
		{"refuses at the banner", func(s *sim.Server) {
			s.SetBehaviour(sim.Behaviour{Faults: map[sim.Stage]sim.Fault{sim.Banner: {Kind: sim.Say, Reply: "421 no"}}})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := startSim(t, nil)
			var told changes
			s := newTestSet(t, Config{}, WithTrials(time.Hour, time.Hour), OnBreaker(told.hook))
			b := backendFor(t, s, server)
			tc.down(server)
			if !s.Suspect(b.Address()) {
				t.Fatal("no trial")
			}
			testkit.Eventually(t, "the breaker opens before anybody has asked", func() bool { return told.are(true) })
			rep, err := ask(b, "user@example.com")
			mustFail(t, rep, err, StageBreaker, KindOpen)
			if s.Suspect(b.Address()) {
				t.Error("tried beside the breaker's own trials")
			}
		})
	}
}

// A backend that has just answered is not tried because another gateway says that it is down.
func TestAHintAgainstABackendThatAnswers(t *testing.T) {
	server := startSim(t, nil)
	s := newTestSet(t, Config{}, WithTrials(time.Hour, time.Hour))
	b := backendFor(t, s, server)
	mustSay(t, b, "user@example.com", 250)
	if s.Suspect(b.Address()) {
		t.Error("tried")
	}
}
