// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/kit/notice"
	"rcptgate/route"
	"rcptgate/store"
)

// said is one scripted answer of a fake backend.
type said struct {
	code           int
	enhanced, text string
	after          time.Duration
	fail           *backend.Failure // instead of an answer
}

var (
	good       = said{code: 250, enhanced: "2.1.5", text: "Ok"}
	unknown    = said{code: 550, enhanced: "5.1.1", text: "no such user"}
	full       = said{code: 452, enhanced: "4.2.2", text: "over quota"}
	relaying   = said{code: 554, enhanced: "5.7.1", text: "Relay access denied"}
	greylisted = said{code: 450, enhanced: "4.2.0", text: "Greylisted"}
	down       = said{fail: &backend.Failure{Stage: backend.StageConnect, Kind: backend.KindNoConnection}}
	banner554  = said{fail: &backend.Failure{Stage: backend.StageBanner, Kind: backend.KindReply, Reply: &backend.Reply{Code: 554, Text: "go away"}}}
	mail553    = said{fail: &backend.Failure{Stage: backend.StageMail, Kind: backend.KindReply, Reply: &backend.Reply{Code: 553, Enhanced: "5.1.8", Text: "sender"}}}
	looping    = said{fail: &backend.Failure{Stage: backend.StageBanner, Kind: backend.KindLoop}}
)

func (s said) late(d time.Duration) said { s.after = d; return s }

// fakeBackend answers by recipient, then by sender, else with rest. Made-up
// recipients get madeUp, unknown by default.
type fakeBackend struct {
	addr backend.Address

	mu       sync.Mutex
	users    map[string]said
	rest     said
	madeUp   said
	bySender func(sender string) *said
	decide   func(p backend.Probe) *said // beats all; nil: as the fields above say
	asked    []backend.Probe             // control questions left out
	tests    int
	controls int
	took     map[string]bool
	fresh    int                                       // questions on fresh connections, control questions included
	conn     func(p backend.Probe, rep *backend.Reply) // what the connection has carried
	now      int                                       // questions in progress
}

func (b *fakeBackend) Address() backend.Address { return b.addr }

func (b *fakeBackend) Name() string { return b.addr.String() }

func (b *fakeBackend) Ask(ctx context.Context, p backend.Probe) (backend.Reply, error) {
	b.mu.Lock()
	answer, known := b.users[p.Recipient.Path]
	if !known {
		answer = b.rest
	}
	if p.Fresh {
		b.fresh++
	}
	switch {
	case strings.HasPrefix(p.Recipient.Local, "rcptgate"):
		b.tests++
		answer = b.madeUp
	case p.Fresh && b.took[p.Recipient.Path]:
		b.controls++
	default:
		b.asked = append(b.asked, p)
	}
	if b.bySender != nil {
		if other := b.bySender(p.Sender); other != nil {
			answer = *other
		}
	}
	if b.decide != nil {
		if other := b.decide(p); other != nil {
			answer = *other
		}
	}
	b.now++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.now--
	}()
	if answer.after > 0 {
		select {
		case <-time.After(answer.after):
		case <-ctx.Done():
			return backend.Reply{}, &backend.Failure{Backend: b.addr.String(), Stage: backend.StageRcpt, Kind: backend.KindTimeout, Err: ctx.Err()}
		}
	}
	if answer.fail != nil {
		f := *answer.fail
		f.Backend = b.addr.String()
		return backend.Reply{}, &f
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if answer.code/100 == 2 {
		b.took[p.Recipient.Path] = true
	}
	rep := backend.Reply{Code: answer.code, Enhanced: answer.enhanced, Text: strings.ReplaceAll(answer.text, "%s", p.Recipient.Path)}
	if b.conn != nil {
		b.conn(p, &rep)
	}
	return rep, nil
}

func (b *fakeBackend) say(user string, s said) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users[user] = s
}

func (b *fakeBackend) all(s said) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rest, b.users = s, make(map[string]said)
}

func (b *fakeBackend) takesMadeUp(s said) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.madeUp = s
}

func (b *fakeBackend) counts() (asked, tests int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked), b.tests
}

// under gives the questions in progress.
func (b *fakeBackend) under() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *fakeBackend) probes() []backend.Probe {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]backend.Probe(nil), b.asked...)
}

// fakeMemory is a map.
type fakeMemory struct {
	mu        sync.Mutex
	m         map[string]store.Record
	forgotten time.Time
	source    string           // where it says that it knows from; RAM unless set
	learns    func(key string) // unless nil, called before something is learnt
}

func (m *fakeMemory) Recall(_ context.Context, key string) (store.Record, string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.m[key]
	return rec, cmp.Or(m.source, rcptgate.SourceRAM), ok
}

func (m *fakeMemory) Learn(key string, began time.Time, change func(store.Record) store.Record) {
	if m.learns != nil {
		m.learns(key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec := change(m.m[key])
	switch {
	case began.Before(m.forgotten):
	case rec.IsZero():
		delete(m.m, key)
	default:
		m.m[key] = rec
	}
}

func (m *fakeMemory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.m, m.forgotten = make(map[string]store.Record), time.Now()
}

func (m *fakeMemory) all() map[string]store.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.m)
}

func (m *fakeMemory) record(key string) store.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m[key]
}

// world is a check with fake backends and memory.
type world struct {
	t        testing.TB
	mu       sync.Mutex
	check    *Check
	state    *State
	memory   *fakeMemory
	backends map[string]*fakeBackend
	log      *lockedBuffer
	domains  []route.DomainConfig
	routers  []*route.Router
	opt      Options
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const (
	at1 = "smtp:[192.0.2.1]:25"
	at2 = "smtp:[192.0.2.2]:25"
	at3 = "smtp:[192.0.2.3]:25"
)

// newWorld has example.com at at1 unless change says otherwise.
func newWorld(t testing.TB, change func(w *world)) *world {
	w := &world{
		t: t, memory: &fakeMemory{m: make(map[string]store.Record)},
		backends: make(map[string]*fakeBackend), log: new(lockedBuffer),
		domains: []route.DomainConfig{{Name: "example.com", Backend: []string{at1}}},
		opt:     Options{Config: DefaultConfig(), Lives: DefaultLives(), Hostname: "mx1.example.org"},
	}
	w.opt.Log = slog.New(slog.NewTextHandler(w.log, nil))
	w.state = NewState(notice.New(w.opt.Log))
	w.opt.Memory, w.opt.State = w.memory, w.state
	if change != nil {
		change(w)
	}
	w.configure()
	t.Cleanup(w.close)
	return w
}

// configure makes the check anew, as a reload does.
func (w *world) configure() {
	router, err := route.New(route.Options{
		Domains: w.domains, FollowMTA: true, Enforce: true, Hostname: w.opt.Hostname,
		Get:     func(a backend.Address) route.Backend { return w.backend(a.String()) },
		Servers: []string{"127.0.0.1:1"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.opt.Router = router
	w.routers = append(w.routers, router)
	check, err := New(w.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.check = check
	w.mu.Unlock()
}

// restart begins anew with nothing but what the memory has.
func (w *world) restart() {
	w.state.Close()
	w.state = NewState(notice.New(w.opt.Log))
	w.opt.State = w.state
	w.configure()
}

func (w *world) close() {
	w.state.Close()
	for _, r := range w.routers {
		r.Close()
	}
}

func (w *world) backend(at string) *fakeBackend {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.backends[at] == nil {
		addr, err := backend.ParseAddress(at)
		if err != nil {
			w.t.Fatal(err)
		}
		w.backends[at] = &fakeBackend{addr: addr, users: make(map[string]said), took: make(map[string]bool), rest: unknown, madeUp: unknown}
	}
	return w.backends[at]
}

func query(recipient string) *rcptgate.Query {
	m := address.Parse(recipient)
	return &rcptgate.Query{
		Stage: rcptgate.StageRcpt, Recipient: m, Target: m, Sender: "a@sender.example",
		Client: netip.MustParseAddr("198.51.100.7"), Helo: "mail.sender.example",
	}
}

// viaMTA is a query whose route only the MTA names.
func viaMTA(recipient, host string) *rcptgate.Query {
	q := query(recipient)
	q.NextHop = rcptgate.NextHop{Mailer: "smtp", Host: host, Addr: recipient}
	return q
}

func (w *world) ask(recipient string) rcptgate.Verdict { return w.put(query(recipient)) }

// put asks with the chain's deadline of eight seconds.
func (w *world) put(q *rcptgate.Query) rcptgate.Verdict {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 8*time.Second)
	defer cancel()
	w.mu.Lock()
	check := w.check
	w.mu.Unlock()
	if check.shared != nil { // as the chain does
		ctx = rcptgate.WithBudget(ctx, check.shared.Patience())
	}
	v, err := check.Check(ctx, q)
	if err != nil {
		w.t.Errorf("%s: %v", q.Recipient.Path, err)
	}
	if (v.Action == rcptgate.Reject && v.Code/100 != 5) || (v.Action == rcptgate.Tempfail && v.Code/100 != 4) {
		w.t.Errorf("%s: code %d does not fit %v", q.Recipient.Path, v.Code, v.Action)
	}
	return v
}

// expect holds a verdict against "action code enhanced reason source"; "-" is any.
func (w *world) expect(v rcptgate.Verdict, want string) {
	w.t.Helper()
	got := []string{v.Action.String(), strconv.Itoa(v.Code), v.Enhanced, string(v.Reason), v.Source}
	for i, part := range strings.Fields(want) {
		if part != "-" && part != got[i] {
			w.t.Fatalf("verdict is %q (text %q), want %q", strings.Join(got, " "), v.Text, want)
		}
	}
}

// inBubble runs f with time that only sleeping moves, and closes the world inside.
func inBubble(t *testing.T, change func(w *world), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		f(t, w)
	})
}

// settle waits for what goes on in the background.
func settle() { synctest.Wait() }
