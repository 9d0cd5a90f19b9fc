// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/kit/term"
)

// adaptFor is how long an adaptation lasts, so that a repaired backend is used fully
// again. What it costs to find out anew is one connection or pipelineStall.
const adaptFor = time.Hour

// A backend that ends connections after so many recipients or refusals is adapted to
// after cutsNeeded of them that agree, at most cutsWithin apart. Each followed a reply
// by less than cutSoon: later ends are idle time-outs.
const (
	cutsNeeded = 3
	cutsWithin = 10 * time.Minute
	cutSoon    = 2 * time.Second
)

// knowledge is what was learnt about a backend, each until its own time.
type knowledge struct {
	noPipelining, noEHLO, noTLS time.Time
	provenPipelining            time.Time
	maxProbes, maxErrors        int // a connection; 0: no other limit than the configured one
	maxUntil                    time.Time
}

// knownNow is knowledge that still holds.
type knownNow struct {
	noPipelining, noEHLO, noTLS, proven bool
	maxProbes, maxErrors                int
}

// habits is what is known about a backend's peculiarities, and the evidence for more. It
// is safe for concurrent use.
type habits struct {
	say       func(what string, last time.Duration) // reports to the postmaster what was learnt
	knowledge atomic.Pointer[knowledge]

	mu      sync.Mutex // guards what follows
	cuts    [cutsNeeded]cut
	nextCut int
	noEHLO  streak // connections opened without EHLO
	noTLS   streak // connections opened without STARTTLS
}

func (h *habits) known() knownNow { return h.at(time.Now()) }

func (h *habits) at(now time.Time) knownNow { return h.knowledge.Load().at(now) }

func (k *knowledge) at(now time.Time) knownNow {
	if k == nil {
		return knownNow{}
	}
	n := knownNow{
		noPipelining: now.Before(k.noPipelining),
		noEHLO:       now.Before(k.noEHLO),
		noTLS:        now.Before(k.noTLS),
		proven:       now.Before(k.provenPipelining),
	}
	if now.Before(k.maxUntil) {
		n.maxProbes, n.maxErrors = k.maxProbes, k.maxErrors
	}
	return n
}

// learn changes what is known; what is the remark for the log, "" for none.
func (h *habits) learn(what string, last time.Duration, change func(k *knowledge, until time.Time)) {
	h.mu.Lock()
	var k knowledge
	if old := h.knowledge.Load(); old != nil {
		k = *old
	}
	change(&k, time.Now().Add(last))
	h.knowledge.Store(&k)
	h.mu.Unlock()
	if what != "" {
		h.say(what, last)
	}
}

// learnManner books how a connection was opened, and reports whether that is a makeshift:
// with less than what is known to be necessary. What several connections in a row could
// not do is learnt; one that could clears the suspicion.
func (h *habits) learnManner(how manner, before knownNow) (makeshift bool) {
	now := time.Now()
	h.mu.Lock()
	helo := !before.noEHLO && h.noEHLO.saw(how.helo, now)
	plain := !before.noTLS && h.noTLS.saw(how.plain, now)
	h.mu.Unlock()
	if helo {
		h.learn("it drops connections at EHLO: HELO from now on", mannerFor, func(k *knowledge, until time.Time) { k.noEHLO = until })
	}
	if plain {
		h.learn("its TLS is broken: no STARTTLS from now on", mannerFor, func(k *knowledge, until time.Time) { k.noTLS = until })
	}
	return how.helo && !before.noEHLO && !helo || how.plain && !before.noTLS && !plain
}

// mannerFor is how long EHLO or STARTTLS is left out once connections agree.
const mannerFor = 10 * time.Minute

// streak counts connections in a row that could not do something.
type streak struct {
	n     int
	first time.Time
}

// saw books one more, and reports whether it makes cutsNeeded within cutsWithin.
func (s *streak) saw(trouble bool, now time.Time) bool {
	if !trouble {
		*s = streak{}
		return false
	}
	if s.n == 0 || now.Sub(s.first) > cutsWithin {
		*s = streak{first: now}
	}
	s.n++
	if s.n < cutsNeeded {
		return false
	}
	*s = streak{}
	return true
}

func (h *habits) learnPipelining(works bool) {
	if works {
		h.learn("", adaptFor, func(k *knowledge, until time.Time) { k.provenPipelining, k.noPipelining = until, time.Time{} })
		return
	}
	h.learn("it offers PIPELINING and cannot do it: one command at a time from now on", adaptFor,
		func(k *knowledge, until time.Time) { k.noPipelining = until })
}

// cut is how much a connection had carried when the backend ended it.
type cut struct {
	probes, errors int
	at             time.Time // of the last reply before
}

// wasCut books that the backend ended a connection that had carried as much as c
// says. When several ends agree, later connections are ended before the backend does.
func (h *habits) wasCut(c cut) {
	now := time.Now()
	if c.probes == 0 || now.Sub(c.at) > cutSoon {
		return
	}
	h.mu.Lock()
	h.cuts[h.nextCut] = c
	h.nextCut = (h.nextCut + 1) % len(h.cuts)
	probes, errs := agreed(h.cuts[:], now)
	if probes != 0 || errs != 0 {
		h.cuts = [cutsNeeded]cut{}
	}
	h.mu.Unlock()
	switch {
	case errs != 0:
		h.learn(fmt.Sprintf("it ends connections after %s", term.Count(errs, "refusal")), adaptFor,
			func(k *knowledge, until time.Time) { k.maxErrors, k.maxUntil = errs, until })
	case probes != 0:
		h.learn(fmt.Sprintf("it takes %s a connection", term.Count(probes, "recipient")), adaptFor,
			func(k *knowledge, until time.Time) { k.maxProbes, k.maxUntil = probes, until })
	}
}

// agreed says what the ends have in common: a number of refusals, or else of
// recipients. Zeros mean nothing.
func agreed(cuts []cut, now time.Time) (probes, errs int) {
	probes, errs = cuts[0].probes, cuts[0].errors
	for _, c := range cuts {
		if c.probes == 0 || now.Sub(c.at) > cutsWithin {
			return 0, 0
		}
		if c.probes != probes {
			probes = 0
		}
		if c.errors != errs {
			errs = 0
		}
	}
	if errs != 0 {
		return 0, errs
	}
	return probes, 0
}

func (k knownNow) words() []string {
	var words []string
	for _, w := range []struct {
		on   bool
		word string
	}{
		{k.noPipelining, "no-pipelining"},
		{k.noEHLO, "helo"},
		{k.noTLS, "no-tls"},
		{k.maxProbes > 0, fmt.Sprintf("probes-per-connection=%d", k.maxProbes)},
		{k.maxErrors > 0, fmt.Sprintf("refusals-per-connection=%d", k.maxErrors)},
	} {
		if w.on {
			words = append(words, w.word)
		}
	}
	return words
}
