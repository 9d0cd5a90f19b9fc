// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// numbered is a real Postfix with default limits whose mailboxes are u100, u101, ... except every twentieth. Its
// in_flow_delay is off: a probe of a good recipient takes a token that only a real message gives back, so without any
// mail the 101st good probe and every later one would take a second, whoever asks.
func numbered(t *testing.T) (*lab.Postfix, *lab.Tap) {
	t.Helper()
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "behind", Hostname: "mail.behind.test", Domains: []string{"pf.test"},
		Main: map[string]string{
			"virtual_mailbox_maps": `regexp:{{/^u[0-9]*([02468][1-9]|[13579][0-9])@/ kept}}`,
			"in_flow_delay":        "0",
		},
	})
	return p, lab.NewTap(t, "tcp", p.Addr())
}

// answerTo is what numbered says of a number.
func answerTo(i int) int {
	if i%20 == 0 {
		return 550
	}
	return 250
}

func address(i int) string { return fmt.Sprintf("u%d@pf.test", i) }

// counts reads how many commands failed on each connection, as in "mail=90 rcpt=81/90 rset=89".
var counts = regexp.MustCompile(`(\w+)=(\d+)/(\d+)`)

// 20,000 misses, 1 in 20 refused, make at most 300 connections, and a real Postfix with its default limits never comes
// to the point where it delays (10 errors) or drops (20) us.
func TestManyMisses(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	backend, tap := numbered(t)
	g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
	front := cases.Bare(g, nil)
	const misses = 20_000
	began := time.Now()
	spread(t, front, 16, misses, func(s cases.Session, i int) { expect(t, s, address(100+i), answerTo(100+i), "") })
	t.Logf("%d misses in %v over %d connections", misses, time.Since(began).Round(time.Millisecond), tap.Connections())
	if n := tap.Connections(); n > 300 {
		t.Errorf("%d connections to the server behind, want at most 300", n)
	}
	g.Stop(time.Minute) // Postfix writes its counts when a connection ends
	testkit.Eventually(t, "every connection has ended", func() bool {
		return backend.Count(`: disconnect from`) >= backend.Connections()
	})
	for _, line := range strings.Split(backend.Log(), "\n") {
		if strings.Contains(line, "too many") || strings.Contains(line, "timeout") {
			t.Errorf("the server behind complains: %s", line)
		}
		errors := 0
		for _, m := range counts.FindAllStringSubmatch(line, -1) {
			good, _ := strconv.Atoi(m[2]) // digits
			all, _ := strconv.Atoi(m[3])
			if m[1] != "commands" { // their sum
				errors += all - good
			}
		}
		if errors >= 10 {
			t.Errorf("%d errors on one connection, Postfix delays from the tenth: %s", errors, line)
		}
	}
}

// 500 simultaneous questions for one address make one probe.
func TestOneProbe(t *testing.T) {
	sim := lab.StartScripted(t)
	sim.Set("ann@sim.test", "slow 500ms 250 2.1.5 Ok")
	g := lab.StartGate(t, section("sim.test", "smtp:"+sim.Hop()))
	spread(t, cases.Bare(g, nil), 500, 500, func(s cases.Session, _ int) { expect(t, s, "ann@sim.test", 250, "") })
	if n := sim.Asked("ann@sim.test"); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// sure is how old an answer must be to have outlived a kill: a second is promised, a busy machine gets more.
const sure = 4 * time.Second

// kill -9 under load loses at most the last second's answers, twice over on one state directory.
func TestKillUnderLoad(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	_, tap := numbered(t)
	g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
	front := cases.Bare(g, nil)
	for round := range 2 {
		tap.Join()
		var mu sync.Mutex
		answered := map[int]time.Time{}
		var killed time.Time
		timer := time.AfterFunc(6*time.Second, func() {
			mu.Lock()
			killed = time.Now()
			mu.Unlock()
			g.Kill()
		})
		base := 100_000 * (round + 1)
		spread(t, front, 4, 3000, func(s cases.Session, i int) {
			r := s.Rcpt(address(base + i))
			mu.Lock()
			defer mu.Unlock()
			if killed.IsZero() {
				if r.Code != answerTo(base+i) {
					t.Errorf("RCPT %s: %q before the kill", address(base+i), r)
				}
				answered[base+i] = time.Now()
			}
			if len(answered) > 1000 && killed.IsZero() { // enough to check: wait for the kill
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
				mu.Lock()
			}
		})
		timer.Stop()
		g.Kill()
		mu.Lock()
		if killed.IsZero() {
			killed = time.Now()
		}
		before := killed.Add(-sure)
		mu.Unlock()
		tap.Cut()
		g.Run()
		checkKept(t, front, answered, before)
	}
}

// checkKept asks for what was answered before a moment; the server behind is cut off, so only memory can answer.
func checkKept(t *testing.T, front cases.Front, answered map[int]time.Time, before time.Time) {
	t.Helper()
	s := open(t, front)
	defer s.Close()
	old, lost := 0, 0
	for i, at := range answered {
		if at.After(before) {
			continue
		}
		if old++; old%50 == 0 {
			s.Mail("sender@client.test")
		}
		code := s.Rcpt(address(i)).Code
		if code/100 == 4 { // the disk did not give it at once: that place is asked again after a second
			time.Sleep(1500 * time.Millisecond)
			code = s.Rcpt(address(i)).Code
		}
		if code != answerTo(i) {
			lost++
		}
		if lost > 20 {
			break
		}
	}
	t.Logf("%d answers were older than %v, %d lost", old, sure, lost)
	if old == 0 || lost > 0 {
		t.Errorf("of %d answers older than %v %d were lost", old, sure, lost)
	}
}

// A damaged store is set aside, named in the log, and the daemon serves.
func TestDamagedStore(t *testing.T) {
	sim := lab.StartScripted(t)
	g := lab.StartGate(t, section("sim.test", "smtp:"+sim.Hop()))
	s := open(t, cases.Bare(g, nil))
	expect(t, s, "ann@sim.test", 250, "")
	s.Close()
	g.Stop(time.Minute)
	files, err := filepath.Glob(filepath.Join(g.Dir, "state", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in the state directory: %v", err)
	}
	damaged, largest := "", int64(0)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			continue
		}
		if err := os.WriteFile(file, []byte(strings.Repeat("this is no store\n", 4096)), 0o600); err != nil {
			t.Fatal(err)
		}
		if info.Size() > largest {
			damaged, largest = filepath.Base(file), info.Size()
		}
	}
	g.Run()
	if damaged == "" || !g.Logged(regexp.QuoteMeta(damaged)) {
		t.Errorf("the log does not name the damaged file %q", damaged)
	}
	s = open(t, cases.Bare(g, nil))
	expect(t, s, "ann@sim.test", 250, "")
	expect(t, s, "nobody@sim.test", 550, "5.1.1")
}

// A flood of refusals and of unknown names does not push out the good recipients that are in use.
func TestFloodKeepsTheGood(t *testing.T) {
	sim := lab.StartScripted(t)
	g := lab.StartGate(t, "[cache]\nentries = 2000\n"+section("sim.test", "smtp:"+sim.Hop()))
	front := cases.Bare(g, nil)
	good := func(i int) string { return fmt.Sprintf("good%d@sim.test", i) }
	spread(t, front, 4, 200, func(s cases.Session, i int) { expect(t, s, good(i), 250, "") })
	spread(t, front, 16, 6000, func(s cases.Session, i int) { expect(t, s, fmt.Sprintf("nobody%d@sim.test", i), 550, "5.1.1") })
	sim.Cut()
	spread(t, front, 4, 200, func(s cases.Session, i int) { expect(t, s, good(i), 250, "") })
}
