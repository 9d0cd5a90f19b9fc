// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/backend"
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

// mayTest reports whether a test may begin now, and counts it as running.
func (s *State) mayTest(p pair, now time.Time) bool {
	may := false
	s.tests.Update(p, func(test *acceptAllTest) *acceptAllTest {
		if test == nil {
			test = new(acceptAllTest)
		}
		if may = !test.running && !now.Before(test.notBefore); may {
			test.running, test.tentative = true, test.tentative[:0]
		}
		return test
	})
	return may
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

// learnUnknown finds out how a backend says unknown, or waits while somebody does, if that
// may be done now.
func (c *Check) learnUnknown(ctx context.Context, qn *question, b route.Backend, p pair) {
	if !qn.set.testAcceptAll {
		return
	}
	if !c.state.mayTest(p, time.Now()) {
		if call, isNew := c.state.testing.Join(p); isNew {
			c.state.testing.End(call)
		} else if call != nil {
			select { // one is running
			case <-call.Done():
			case <-ctx.Done():
			}
		}
		return
	}
	c.testAcceptAll(qn, b, p)
}

// testAcceptAll asks about a name that nobody can have or guess. If it is taken, every
// name is. If it is refused, that is how the backend says unknown, provided that it takes
// a known-good recipient afterwards.
func (c *Check) testAcceptAll(qn *question, b route.Backend, p pair) {
	class := store.None
	call, isNew := c.state.testing.Join(p)
	defer func() {
		if v := recover(); v != nil { // no input ends the process
			class = store.None
			c.panicked("test with a made-up recipient", p.domain, v)
		}
		for _, t := range c.state.tested(p, class, time.Now()) {
			if class == store.AcceptAll {
				c.takeBack(p.backend, t)
			}
		}
		if isNew {
			c.state.testing.End(call)
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
	var doubts taught
	out, s := c.askMadeUp(ctx, qn, b, p, &doubts)
	answer := out.answer
	switch {
	case out.answer.Class == store.Valid:
		class = store.AcceptAll
		c.state.count.acceptAllFound.Add(1)
		c.state.board.Warn("accept-all "+p.backend+" "+p.domain,
			"this backend accepts every recipient of the domain: its answers prove nothing, so it is not asked, and nobody is refused",
			"backend", p.backend, "domain", p.domain, "until", began.Add(qn.set.acceptAll).UTC().Format(time.RFC3339))
	case out.refusedForGood() && out.words.class != store.Full:
		class = store.Selective
		if c.isUnknown(ctx, qn, b, p, &out, &s) {
			answer.Text = writeShape(&s, out.sender)
		} else {
			answer.Text = ""
		}
		if c.state.look(p, &s, "", time.Now()).means == aboutUs {
			class = store.None
			return
		}
	default:
		return // 4xx or a drop proves nothing
	}
	answer.Class, answer.Backend, answer.Learnt = class, p.backend, time.Now()
	answer.Code, answer.Enhanced = out.rep.Code, out.rep.Enhanced
	answer.Expire = answer.Learnt.Add(qn.set.acceptAll)
	answer.Refresh = answer.Expire
	doubts.keep(func() (undo func()) {
		c.learnFinding(p, began, func(store.Record) store.Record { return store.Record{Standing: answer, Tried: began} })
		return func() {
			_ = c.state.run(func() {
				c.learnFinding(p, began, func(old store.Record) store.Record {
					if same(&old.Standing, &answer) {
						return store.Record{}
					}
					return old
				})
			})
		}
	})
}

func (c *Check) learnFinding(p pair, began time.Time, change func(old store.Record) store.Record) {
	c.memory.Learn(store.FindingKey(p.backend, p.domain), began, change)
}

// askMadeUp asks about a made-up recipient: once more on a fresh connection if the one
// that it got had carried anything and there is doubt about the reply.
func (c *Check) askMadeUp(ctx context.Context, qn *question, b route.Backend, p pair, doubts *taught) (out outcome, s shape) {
	c.state.count.acceptAllTests.Add(1)
	for _, fresh := range []bool{false, true} {
		local := madeUp()
		m := rcptgate.Mailbox{Path: local + "@" + p.domain, Local: local, Domain: p.domain}
		sender, _, _ := c.senders(p.backend)
		out = qn.put(ctx, b, backend.Probe{Sender: sender, Recipient: m, Due: time.Now().Add(defaultDue), Fresh: fresh, Doubted: doubts.doubt})
		s = shapeOf(&out.rep, m, sender, c.hostname)
		if !out.refusedForGood() || out.rep.ConnAsked == 0 || c.beyondDoubt(p, &out, &s) {
			break
		}
	}
	return out, s
}

// beyondDoubt reports whether the refusal of a made-up recipient is for want of it: in a
// shape that is known to mean that, or with the code that means nothing else and as the
// first refusal of all.
func (c *Check) beyondDoubt(p pair, out *outcome, s *shape) bool {
	k := c.state.look(p, s, "", time.Now())
	return k.means == saysUnknown || (out.words.clean() && !k.others && k.means < aboutMailbox)
}

// isUnknown makes sure that the refusal of a made-up recipient is not about us, and notes
// its shape.
func (c *Check) isUnknown(ctx context.Context, qn *question, b route.Backend, p pair, out *outcome, s *shape) bool {
	if c.beyondDoubt(p, out, s) {
		c.state.found(p, s, saysUnknown, time.Now())
		return true
	}
	nobody := question{check: c, set: qn.set, rt: qn.rt}
	t := trial{question: &nobody, pair: p, b: b, at: p.backend, due: time.Now().Add(defaultDue), first: out.sender}
	means := t.control(ctx, s, out)
	if means == aboutMailbox {
		means = saysUnknown
	}
	c.state.found(p, s, means, time.Now())
	return means == saysUnknown
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
