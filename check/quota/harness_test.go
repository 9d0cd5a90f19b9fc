// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/check/quota/source"
	"rcptgate/check/quota/wire"
	"rcptgate/config/setting"
	"rcptgate/kit/notice"
	"rcptgate/metric"
	"rcptgate/route"
)

const (
	kb = int64(1000)
	mb = 1000 * kb
)

// store is a mail store with an agent that answers over UDP, signed.
type mailStore struct {
	conn  net.PacketConn
	keys  *wire.Keys
	asked atomic.Int64

	mu       sync.Mutex
	boxes    map[string][2]int64 // used, hard
	spoil    func(reply []byte, req *wire.Request) [][]byte
	mute     bool
	late     time.Duration
	messages int64    // that every mailbox has; 0: it does not say
	users    []string // as they were asked about
	ports    []string // the questions came from
	lose     int      // so many datagrams are lost
}

const testKey = "g1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

func startStore(t testing.TB) *mailStore {
	t.Helper()
	s := newStore(t)
	go s.serve()
	return s
}

// newStore is a store that does not answer yet.
func newStore(t testing.TB) *mailStore {
	t.Helper()
	keys, err := wire.ParseKeys([]byte(testKey))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailStore{conn: conn, keys: keys, boxes: make(map[string][2]int64)}
	t.Cleanup(func() { conn.Close() })
	return s
}

func (s *mailStore) spec() string { return "udp:" + s.conn.LocalAddr().String() }

func (s *mailStore) serve() {
	buf := make([]byte, 2048)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if req, err := wire.ParseRequest(buf[:n]); err == nil {
			s.answer(req, from)
		}
	}
}

func (s *mailStore) answer(req *wire.Request, from net.Addr) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users, s.ports = append(s.users, req.User), append(s.ports, from.String())
	if s.lose--; s.mute || s.lose >= 0 {
		return
	}
	box, known := s.boxes[req.User]
	a := wire.NewAnswer(wire.Unknown)
	if known {
		a = wire.NewAnswer(wire.Room)
		if a.Used, a.Hard = box[0], box[1]; a.Hard > 0 && a.Used+max(req.Size, 1) > a.Hard {
			a.State = wire.Full
		}
		if s.messages > 0 {
			a.Messages = s.messages
		}
	}
	reply := s.keys.SignReply(nil, &a, req)
	replies := [][]byte{reply}
	if s.spoil != nil {
		replies = s.spoil(reply, req)
	}
	time.AfterFunc(s.late, func() {
		for _, r := range replies {
			_, _ = s.conn.WriteTo(r, from)
		}
	})
}

func (s *mailStore) set(user string, used, hard int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxes[user] = [2]int64{used, hard}
}

// user is the first that was asked about.
func (s *mailStore) user() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[0]
}

func (s *mailStore) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// syncLog is a log that can be read while it is written.
type syncLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// world is a check in front of stores.
type world struct {
	*Check
	t     testing.TB
	store *mailStore
	board *notice.Board
	log   *syncLog
}

// newWorld has example.com at a backend, and a store that knows ann.
func newWorld(t testing.TB, change func(o *Options, s *mailStore)) *world {
	t.Helper()
	w := &world{t: t, store: newStore(t), log: new(syncLog)}
	w.store.set("ann@example.com", 10*mb, 1000*mb)
	w.board = notice.New(slog.New(slog.NewTextHandler(w.log, nil)))
	router, err := route.New(route.Options{
		Domains:   []route.DomainConfig{{Name: "example.com", Backend: []string{"smtp:[192.0.2.1]:25"}}, {Name: "unchecked.example", Backend: []string{"smtp:[192.0.2.1]:25"}, Check: new(bool)}},
		FollowMTA: true, Hostname: "mx1.example.org", Servers: []string{"127.0.0.1:1"},
		Get: func(a backend.Address) route.Backend { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Config: DefaultConfig(), Domains: make([]DomainConfig, 2), RejectFull: make([]bool, 2), Router: router, Delimiter: "+", State: NewState(1000, w.board)}
	o.Config.Timeout = setting.Duration(5 * time.Second) // generous: machines are busy
	o.Config.Sources = specs(t, w.store.spec())
	if change != nil {
		change(&o, w.store)
	}
	go w.store.serve()
	o.State.sources.Configure(source.Settings{Keys: w.store.keys, Timeout: o.Config.Timeout.Std()})
	if w.Check, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.State.Close(); router.Close() })
	return w
}

func specs(t testing.TB, texts ...string) (list []source.Spec) {
	for _, text := range texts {
		s, err := source.ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func query(recipient string, size int64) *rcptgate.Query {
	m := address.Parse(recipient)
	return &rcptgate.Query{Stage: rcptgate.StageRcpt, Recipient: m, Target: m, Size: size, Client: netip.MustParseAddr("198.51.100.7")}
}

// says gives the verdict in words: "room", "452 4.2.2 mailbox-full", "error".
func (w *world) says(recipient string, size int64) string { return w.put(query(recipient, size)) }

func (w *world) put(q *rcptgate.Query) string {
	v, err := w.Check.Check(context.Background(), q)
	switch {
	case err != nil:
		return "error"
	case v == rcptgate.Verdict{}:
		return "room"
	}
	if strings.ContainsAny(v.Text, "0123456789@") {
		w.t.Errorf("the text says %q", v.Text)
	}
	return fmt.Sprintf("%d %s %s", v.Code, v.Enhanced, v.Reason)
}

func (w *world) expect(recipient string, size int64, want string) {
	w.t.Helper()
	if got := w.says(recipient, size); got != want {
		w.t.Errorf("%s, %d octets: %q, want %q", recipient, size, got, want)
	}
}

// metric gives the values of a metric: "full 1, room 3 of udp:127.0.0.1:8049".
func (w *world) metric(name string) string {
	var list []string
	at := ""
	add := func(value string, labels ...string) {
		if n := len(labels); n > 0 && strings.Contains(labels[0], ":") {
			at, labels = " of "+labels[0], labels[1:]
		}
		list = append(list, strings.Join(append(labels, value), " "))
	}
	for _, f := range metrics(w.State) {
		switch {
		case f.Name != name:
		case f.Kind == metric.Histogram:
			f.Fill(func(b metric.Buckets, labels ...string) {
				n := uint64(0)
				for _, c := range b.Counts {
					n += c
				}
				if len(b.Counts) != len(b.Bounds)+1 || b.Sum <= 0 {
					w.t.Errorf("%s: %+v", name, b)
				}
				add(fmt.Sprint(n), labels...)
			})
		default:
			f.Read(func(value float64, labels ...string) { add(fmt.Sprint(value), labels...) })
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ") + at
}
