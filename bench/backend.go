// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"strconv"
	"strings"
	"time"

	"rcptgate/backend/sim"
	"rcptgate/bench/load"
)

// domain is what the gate relays inward.
const domain = "example.com"

// Local parts that the simulated backend knows. A number follows each.
const (
	goodUser  = "good"  // always there
	mixedUser = "mixed" // 1 in 20 is not
)

// refusedEvery is the share of unknown recipients among the mixed ones: 1 in 20.
const refusedEvery = 20

// unknownReply is the backend's reply for a recipient that is not there.
const unknownReply = "550 5.1.1 Recipient address rejected: User unknown in relay recipient table"

// decide is the backend's reply to a recipient.
func decide(recipient string) string {
	local, _, _ := strings.Cut(strings.ToLower(recipient), "@")
	if number, ok := strings.CutPrefix(local, goodUser); ok {
		if _, err := strconv.Atoi(number); err == nil {
			return "250 2.1.5 Ok"
		}
	}
	if number, ok := strings.CutPrefix(local, mixedUser); ok {
		if n, err := strconv.Atoi(number); err == nil && n%refusedEvery != refusedEvery-1 {
			return "250 2.1.5 Ok"
		}
	}
	return unknownReply
}

// startBackend starts a simulated backend that takes delay for each recipient.
func startBackend(delay time.Duration) (*sim.Server, error) {
	s := sim.New(sim.Config{Behaviour: behaviour(delay)})
	return s, s.Start()
}

func behaviour(delay time.Duration) sim.Behaviour {
	b := sim.Behaviour{Decide: decide}
	if delay > 0 {
		b.Delays = map[sim.Stage]time.Duration{sim.Rcpt: delay}
	}
	return b
}

// people makes recipients "KIND0000000@DOMAIN"; the series keeps those of different rows apart.
func people(kind string, series, size int, domain string) *load.Recipients {
	r, err := load.Pattern(kind+strconv.Itoa(series)+"%07d@"+domain, size)
	if err != nil {
		panic(err) // the pattern is ours
	}
	return r
}
