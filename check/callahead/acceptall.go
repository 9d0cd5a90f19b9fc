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
// domain that cannot exist? While it runs, valid answers are kept tentatively:
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
// recipients from us.
func (c *Check) afterValid(l *lesson) {
	qn := l.qn
	if qn.cautious() || !qn.set.testAcceptAll || l.found.Class != store.None {
		return
	}
	at := l.change.out.answer.Backend
	t := tentative{key: qn.key, began: l.change.began, learnt: l.change.now, before: l.effect.before()}
	switch a, _ := c.finding(c.state.ctx, at, qn.mailbox.Domain); a.Class {
	case store.None:
	case store.AcceptAll: // found out since the answer came: the test did not see it
		c.takeBack(at, t)
		return
	default:
		return
	}
	p := pair{at, qn.mailbox.Domain}
	switch c.state.tentatively(p, t, time.Now()) {
	case testTakeBack:
		c.takeBack(at, t)
	case testStart:
		sender, _, _ := c.senders(at)
		test := madeUpTest{check: c, set: qn.set, rt: qn.rt, pair: p, b: l.change.out.by, sender: sender, hasTaken: true}
		if !c.state.run(test.run) {
			c.state.tested(p, store.None, time.Now())
		}
	}
}

// madeUpTest asks a backend about a name that does not exist and cannot be guessed.
type madeUpTest struct {
	check    *Check
	set      *settings
	rt       *route.Route
	pair     pair
	b        route.Backend
	sender   string
	hasTaken bool // the backend has just accepted a recipient
	doubts   taught
}

// learnUnknown finds out how a backend says unknown, or waits while another does, if that
// may be done now.
func (t *trial) learnUnknown(ctx context.Context) {
	state := t.check.state
	if !t.set.testAcceptAll {
		return
	}
	if !state.mayTest(t.pair, time.Now()) {
		if call, isNew := state.testing.Join(t.pair); isNew {
			state.testing.End(call)
		} else if call != nil {
			select { // one is running
			case <-call.Done():
			case <-ctx.Done():
			}
		}
		return
	}
	test := madeUpTest{check: t.check, set: t.set, rt: t.rt, pair: t.pair, b: t.b, sender: t.first}
	test.run()
}

// run asks. If the made-up name is taken, every name is. If it is refused, that is how the
// backend says unknown, provided that it takes a known-good recipient afterwards; or that
// it has just taken one, if there is no doubt.
func (t *madeUpTest) run() {
	c, class := t.check, store.None
	call, isNew := c.state.testing.Join(t.pair)
	defer func() {
		if v := recover(); v != nil { // no input ends the process
			class = store.None
			c.panicked("test with a made-up recipient", t.pair.domain, v)
		}
		for _, tentative := range c.state.tested(t.pair, class, time.Now()) {
			if class == store.AcceptAll {
				c.takeBack(t.pair.backend, tentative)
			}
		}
		if isNew {
			c.state.testing.End(call)
		}
	}()
	ctx, cancel := context.WithTimeout(c.state.ctx, c.timeout)
	defer cancel()
	found, source, release := c.forAll(ctx, t.key(), testRoute, func(rec *store.Record) bool {
		return rec.Standing.Alive(time.Now())
	})
	defer release()
	if source != "" {
		class = found.Standing.Class // another gateway has tested
		return
	}
	class = t.find(ctx)
}

func (t *madeUpTest) key() string { return store.FindingKey(t.pair.backend, t.pair.domain) }

// find asks and keeps what it finds; store.None when that is nothing.
func (t *madeUpTest) find(ctx context.Context) store.Class {
	c, began := t.check, time.Now()
	out, s := t.ask(ctx)
	answer := store.Answer{Backend: t.pair.backend, Code: out.rep.Code, Enhanced: out.rep.Enhanced, Learnt: time.Now()}
	answer.Expire = answer.Learnt.Add(t.set.acceptAll)
	answer.Refresh = answer.Expire
	switch {
	case out.answer.Class == store.Valid:
		answer.Class, answer.Text = store.AcceptAll, out.answer.Text
		c.state.count.acceptAllFound.Add(1)
		c.state.board.Warn("accept-all "+t.pair.backend+" "+t.pair.domain,
			"this backend accepts every recipient of the domain: its answers prove nothing, so it is not asked, and no recipient is refused",
			"backend", t.pair.backend, "domain", t.pair.domain, "until", answer.Expire.UTC().Format(time.RFC3339))
	case out.refusedForGood() && out.words.class != store.Full:
		answer.Class = store.Selective
		c.state.board.Clear("accept-all "+t.pair.backend+" "+t.pair.domain, "this backend refuses unknown recipients of the domain again", "backend", t.pair.backend, "domain", t.pair.domain)
		switch t.meaning(ctx, &out, &s) {
		case saysUnknown:
			answer.Text = writeShape(&s, out.sender)
		case aboutUs:
			return store.None
		}
	default:
		return store.None // 4xx or a drop proves nothing
	}
	t.doubts.keep(func() (undo func()) {
		c.memory.Learn(t.key(), began, func(store.Record) store.Record { return store.Record{Standing: answer, Tried: began} })
		return func() { _ = c.state.run(func() { t.forget(&answer, began) }) }
	})
	return answer.Class
}

// forget takes a finding back, unless there is a newer one.
func (t *madeUpTest) forget(finding *store.Answer, began time.Time) {
	t.check.memory.Learn(t.key(), began, func(old store.Record) store.Record {
		if same(&old.Standing, finding) {
			return store.Record{}
		}
		return old
	})
}

// ask asks about a made-up recipient: once more on a fresh connection if the one that it
// got had carried anything and there is doubt about the reply.
func (t *madeUpTest) ask(ctx context.Context) (out outcome, s shape) {
	c := t.check
	c.state.count.acceptAllTests.Add(1)
	for _, fresh := range []bool{false, true} {
		local := madeUp()
		m := rcptgate.Mailbox{Path: local + "@" + t.pair.domain, Local: local, Domain: t.pair.domain}
		out = c.put(ctx, t.b, backend.Probe{Sender: t.sender, Recipient: m, Due: time.Now().Add(defaultDue), Fresh: fresh, Doubted: t.doubts.doubt})
		s = shapeOf(&out.rep, m, t.sender, c.hostname)
		if !out.refusedForGood() || out.rep.ConnAsked == 0 || t.beyondDoubt(&out, &s) {
			break
		}
	}
	return out, s
}

// beyondDoubt reports whether the refusal of a made-up recipient is for want of it: in a
// shape that is known to mean that; or with the code that means nothing else, as the first
// refusal of all, by a server that has just accepted a recipient.
func (t *madeUpTest) beyondDoubt(out *outcome, s *shape) bool {
	k := t.check.state.look(t.pair, s, "", time.Now())
	return k.means == saysUnknown || (t.hasTaken && out.words.clean() && !k.others && k.means < aboutMailbox)
}

// meaning makes sure that the refusal of a made-up recipient is not about us, and notes
// its shape.
func (t *madeUpTest) meaning(ctx context.Context, out *outcome, s *shape) meaning {
	means := saysUnknown
	if !t.beyondDoubt(out, s) {
		nobody := question{check: t.check, set: t.set, rt: t.rt}
		control := trial{question: &nobody, pair: t.pair, b: t.b, at: t.pair.backend, due: time.Now().Add(defaultDue), first: t.sender}
		if means = control.control(ctx, s, out); means == aboutMailbox {
			means = saysUnknown
		}
	}
	t.check.state.found(t.pair, s, means, time.Now())
	return means
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
