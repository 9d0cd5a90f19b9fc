// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/route"
	"rcptgate/store"
)

const (
	testApart    = time.Minute     // between two tests of one pair
	testRetry    = 5 * time.Minute // after one that proved nothing
	maxTentative = 10_000          // valid answers of one pair that a test may take back
)

// acceptAllTest is the state of one pair's test: does the backend take a name of the
// domain that nobody can have? While it runs, valid answers are kept tentatively:
// they serve, and are taken back if the name is taken.
type acceptAllTest struct {
	running   bool
	notBefore time.Time
	found     time.Time // when it last turned out that every name is taken
	tentative []tentative
}

// tentative is a valid answer that may mean nothing.
type tentative struct {
	key           string
	began, learnt time.Time
	before        store.Answer // the valid answer that it replaced; zero if none
}

type testStep uint8

const (
	testNothing testStep = iota
	testStart            // the caller runs it
	testTakeBack
)

// tentatively registers a valid answer that was just remembered.
func (s *State) tentatively(p pair, t tentative, now time.Time) testStep {
	step := testNothing
	s.tests.Update(p, func(test *acceptAllTest) *acceptAllTest {
		if test == nil {
			test = new(acceptAllTest)
		}
		switch {
		case test.running:
			if len(test.tentative) < maxTentative {
				test.tentative = append(test.tentative, t)
			}
		case test.found.After(t.began):
			step = testTakeBack
		case !now.Before(test.notBefore):
			test.running, test.tentative = true, append(test.tentative[:0], t)
			step = testStart
		}
		return test
	})
	return step
}

// tested ends a test and gives what it may have to take back.
func (s *State) tested(p pair, class store.Class, now time.Time) (list []tentative) {
	s.tests.Update(p, func(test *acceptAllTest) *acceptAllTest {
		if test == nil {
			test = new(acceptAllTest)
		}
		list, test.tentative, test.running = test.tentative, nil, false
		test.notBefore = now.Add(testApart)
		switch class {
		case store.AcceptAll:
			test.found = now
		case store.None:
			test.notBefore = now.Add(testRetry)
		}
		return test
	})
	return list
}

// finding is what is known of a backend and a domain.
func (c *Check) finding(ctx context.Context, at, domain string) (store.Answer, string) {
	rec, source, ok := c.memory.Recall(ctx, store.FindingKey(at, domain))
	if !ok || !rec.Standing.Alive(time.Now()) {
		return store.Answer{}, ""
	}
	return rec.Standing, source
}

// afterValid looks whether a valid answer that was just remembered means anything.
// Routes that only the MTA named are not tested: strangers' servers get no made-up
// recipients from us. Found is what was known of the backend just before.
func (c *Check) afterValid(qn *question, b route.Backend, found *store.Answer, t tentative) {
	if qn.cautious() || !qn.set.testAcceptAll || found.Class != store.None {
		return
	}
	at := b.Address().String()
	if a, _ := c.finding(c.state.ctx, at, qn.mailbox.Domain); a.Class != store.None {
		return
	}
	p := pair{at, qn.mailbox.Domain}
	switch c.state.tentatively(p, t, time.Now()) {
	case testTakeBack:
		c.takeBack(at, t)
	case testStart:
		if !c.state.run(func() { c.testAcceptAll(qn, b, p) }) {
			c.state.tested(p, store.None, time.Now())
		}
	}
}

// testAcceptAll asks about a name that nobody can have or guess.
func (c *Check) testAcceptAll(qn *question, b route.Backend, p pair) {
	class := store.None
	defer func() {
		if recover() != nil { // no input ends the process
			class = store.None
		}
		for _, t := range c.state.tested(p, class, time.Now()) {
			if class == store.AcceptAll {
				c.takeBack(p.backend, t)
			}
		}
	}()
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.state.ctx, c.timeout)
	defer cancel()
	found, source, release := c.forAll(ctx, store.FindingKey(p.backend, p.domain), testRoute, func(rec *store.Record) bool {
		return rec.Standing.Alive(time.Now())
	})
	defer release()
	if source != "" {
		class = found.Standing.Class // another gateway has tested
		return
	}
	c.state.count.acceptAllTests.Add(1)
	local := madeUp()
	nobody := *qn
	nobody.mailbox = rcptgate.Mailbox{Path: local + "@" + p.domain, Local: local, Domain: p.domain}
	sender := c.sender
	if c.fallback != "" && began.Before(c.state.fallbacks.Get(p.backend)) {
		sender = c.fallback
	}
	out, _ := nobody.ask(ctx, b, p.backend, sender, began.Add(defaultDue))
	switch out.answer.Class {
	case store.Valid:
		class = store.AcceptAll
		c.state.count.acceptAllFound.Add(1)
		c.log.Warn("backend accepts every recipient: nobody will be asked about this domain there, and nobody refused",
			"backend", p.backend, "domain", p.domain, "until", began.Add(qn.set.acceptAll).UTC())
	case store.Unknown, store.Refused:
		class = store.Selective
	default:
		return // 4xx or a drop proves nothing
	}
	answer := out.answer
	answer.Class, answer.Learnt = class, time.Now()
	answer.Expire = answer.Learnt.Add(qn.set.acceptAll)
	answer.Refresh = answer.Expire
	c.memory.Learn(store.FindingKey(p.backend, p.domain), began, func(store.Record) store.Record {
		return store.Record{Standing: answer, Tried: began}
	})
}

// takeBack removes a valid answer that meant nothing, and puts back the one before.
func (c *Check) takeBack(at string, t tentative) {
	c.memory.Learn(t.key, t.began, func(old store.Record) store.Record {
		since := old.Standing.Learnt.Sub(t.learnt) // places keep times to the second
		if old.Standing.Class == store.Valid && old.Standing.Backend == at && since.Abs() <= time.Second {
			old.Standing = t.before
		}
		return old
	})
}

// madeUp gives a local part of 130 random bits. It holds no character that some
// servers take for the start of a plus-detail.
func madeUp() string {
	var b [17]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "rcptgate" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))[:26]
}
