// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asker keeps what it was asked and answers by local part.
type asker struct {
	mu      sync.Mutex
	queries []rcptgate.Query
	answer  func(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict
}

func (*asker) Wants() rcptgate.Wants { return 0 }

func (a *asker) Ask(ctx context.Context, q *rcptgate.Query) rcptgate.Verdict {
	a.mu.Lock()
	kept := *q
	kept.Trace = rcptgate.Trace{}
	a.queries = append(a.queries, kept)
	a.mu.Unlock()
	if a.answer != nil {
		return a.answer(ctx, q)
	}
	switch q.Recipient.Local {
	case "unknown":
		return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "No such user 100%\nSorry"}
	case "full":
		return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 452, Enhanced: "4.2.2", Text: "Mailbox full"}
	case "discard":
		return rcptgate.Verdict{Action: rcptgate.Discard}
	case "accept":
		return rcptgate.Verdict{Action: rcptgate.Accept}
	}
	return rcptgate.Verdict{}
}

func (a *asker) last(t *testing.T) rcptgate.Query {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queries) == 0 {
		t.Fatal("nothing was asked")
	}
	return a.queries[len(a.queries)-1]
}

// logBuffer is the begin of a log, and can be read while it is written.
type logBuffer struct {
	mu     sync.Mutex
	buf    strings.Builder
	panics atomic.Int64
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if strings.Contains(string(p), "panic") {
		b.panics.Add(1)
	}
	if b.buf.Len() > 1<<16 {
		return len(p), nil
	}
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// running is a server on a socket of its own.
type running struct {
	*milter.Server
	socket setting.Socket
	log    *logBuffer
	stop   context.CancelFunc
	done   chan error
}

func start(t testing.TB, gate rcptgate.Asker, config milter.Config, network string) *running {
	t.Helper()
	return startWith(t, gate, config, network, (*milter.Server).Serve)
}

func startLocal(t testing.TB, gate rcptgate.Asker) *running {
	t.Helper()
	return startWith(t, gate, milter.Config{}, "unix", (*milter.Server).ServeLocal)
}

func startWith(t testing.TB, gate rcptgate.Asker, config milter.Config, network string, serve func(*milter.Server, context.Context, net.Listener) error) *running {
	t.Helper()
	socket := setting.Socket{Network: "tcp", Address: "127.0.0.1:0"}
	if network == "unix" {
		socket = setting.Socket{Network: "unix", Address: filepath.Join(testkit.Dir(t), "m.sock")}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := milter.Listen(ctx, socket, config.SocketMode, config.SocketGroup)
	if err != nil {
		t.Fatal(err)
	}
	r := serveOn(t, gate, config, serve, ctx, ln)
	r.socket, r.stop = setting.Socket{Network: network, Address: ln.Addr().String()}, cancel
	return r
}

// serveOn serves on a listener; its caller gives stop.
func serveOn(t testing.TB, gate rcptgate.Asker, config milter.Config, serve func(*milter.Server, context.Context, net.Listener) error, ctx context.Context, ln net.Listener) *running {
	t.Helper()
	r := &running{log: &logBuffer{}, done: make(chan error, 1)}
	r.Server = milter.New(gate, config, slog.New(slog.NewTextHandler(r.log, nil)))
	go func() { r.done <- serve(r.Server, ctx, ln); close(r.done) }()
	t.Cleanup(func() {
		r.stop()
		if err := <-r.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func (r *running) dial(t testing.TB, options mta.Options) *mta.Client {
	t.Helper()
	if options.Timeout == 0 {
		options.Timeout = time.Minute
	}
	c, err := mta.Dial(context.Background(), r.socket, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// say fails the test when an exchange did, and gives its response.
func say(t testing.TB) func(mta.Response, error) mta.Response {
	return func(r mta.Response, err error) mta.Response {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

var client = netip.MustParseAddrPort("192.0.2.7:40000")

func macros(pairs ...string) (list []wire.Macro) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, wire.Macro{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func TestQuery(t *testing.T) {
	for _, style := range []struct {
		name, network string
		options       mta.Options
	}{
		{"postfix", "unix", mta.Options{}},
		{"sendmail", "tcp", mta.Options{TwoWrites: true}},
	} {
		t.Run(style.name, func(t *testing.T) {
			gate := &asker{}
			c := start(t, gate, milter.Config{}, style.network).dial(t, style.options)
			say := say(t)
			say(c.Connect("client.example", client, macros("j", "mx.example", "{client_addr}", "192.0.2.7")...))
			say(c.Helo("helo.example"))
			say(c.Mail("Sender@example.org", []string{"BODY=8BITMIME", "size=12345"}, macros("i", "QID1", "{auth_authen}", "alice")...))
			say(c.Rcpt("User+x@Example.COM", macros("i", "QID2", "{rcpt_mailer}", "smtp", "{rcpt_host}", "[127.0.0.1]:2600", "{rcpt_addr}", "user+x@example.com")...))
			want := rcptgate.Query{
				Stage:     rcptgate.StageRcpt,
				Recipient: rcptgate.Mailbox{Path: "User+x@Example.COM", Local: "User+x", Domain: "example.com"},
				Target:    rcptgate.Mailbox{Path: "User+x@Example.COM", Local: "User+x", Domain: "example.com"},
				Sender:    "Sender@example.org", Client: client.Addr(), ClientName: "client.example", Helo: "helo.example",
				Size: 12345, AuthUser: "alice", QueueID: "QID2",
				NextHop: rcptgate.NextHop{Mailer: "smtp", Host: "[127.0.0.1]:2600", Addr: "user+x@example.com"},
			}
			checkQuery(t, gate.last(t), want)

			// Without macros of its own a recipient has no next hop, but MAIL's still count.
			say(c.Rcpt("second@example.com"))
			want.Recipient = rcptgate.Mailbox{Path: "second@example.com", Local: "second", Domain: "example.com"}
			want.Target, want.NextHop, want.QueueID = want.Recipient, rcptgate.NextHop{}, "QID1"
			checkQuery(t, gate.last(t), want)

			// The MTA has rewritten the address: the question is about the new one.
			say(c.Rcpt("info@example.com", macros("{rcpt_addr}", "real@other.example", "{rcpt_host}", "[127.0.0.2]")...))
			want.Recipient = rcptgate.Mailbox{Path: "info@example.com", Local: "info", Domain: "example.com"}
			want.Target = rcptgate.Mailbox{Path: "real@other.example", Local: "real", Domain: "other.example"}
			want.NextHop = rcptgate.NextHop{Host: "[127.0.0.2]", Addr: "real@other.example"}
			checkQuery(t, gate.last(t), want)
		})
	}
}

func checkQuery(t *testing.T, got, want rcptgate.Query) {
	t.Helper()
	// Trace holds slices; it was taken out.
	if g, w := describe(got), describe(want); g != w {
		t.Errorf("query\n got %s\nwant %s", g, w)
	}
}

func describe(q rcptgate.Query) string {
	return strings.Join([]string{
		q.Stage.String(), q.Recipient.Path, q.Recipient.Local, q.Recipient.Domain, q.Target.Path, q.Target.Local, q.Target.Domain,
		q.Sender, q.Client.String(), q.ClientName, q.Helo, time.Duration(q.Size).String(), q.AuthUser,
		q.NextHop.Mailer, q.NextHop.Host, q.NextHop.Addr, q.QueueID,
	}, "|")
}

// A set of macros replaces only those of the same command.
func TestMacrosOfOneCommandLeaveTheOthers(t *testing.T) {
	gate := &asker{}
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("unknown", netip.AddrPort{}, macros("{client_addr}", "IPv6:2001:db8::7")...))
	say(c.Mail("", nil, macros("i", "Q", "{auth_authen}", "bob")...))
	say(c.Rcpt("a@example.com", macros("{rcpt_mailer}", "relay")...))
	q := gate.last(t)
	if q.AuthUser != "bob" || q.QueueID != "Q" || q.Client != netip.MustParseAddr("2001:db8::7") || q.NextHop.Mailer != "relay" {
		t.Errorf("query lost macros: %s", describe(q))
	}
	if err := c.Abort(); err != nil {
		t.Fatal(err)
	}
	// The next transaction is not authenticated and has no queue id.
	say(c.Mail("x@example.org", nil))
	say(c.Rcpt("b@example.com"))
	if q := gate.last(t); q.AuthUser != "" || q.QueueID != "" || q.NextHop.Mailer != "" || !q.Client.IsValid() {
		t.Errorf("query has another transaction's macros: %s", describe(q))
	}
}

func TestReplies(t *testing.T) {
	c := start(t, &asker{}, milter.Config{}, "unix").dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("client.example", client))
	say(c.Mail("s@example.org", nil))
	for _, tc := range []struct {
		local string
		want  mta.Response
	}{
		{"good", mta.Response{}},
		{"accept", mta.Response{}}, // never "accept": later recipients must be seen
		{"unknown", mta.Response{Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "No such user 100%\nSorry"}},
		{"full", mta.Response{Action: rcptgate.Tempfail, Code: 452, Enhanced: "4.2.2", Text: "Mailbox full"}},
		{"discard", mta.Response{Action: rcptgate.Discard}},
	} {
		if got := say(c.Rcpt(tc.local + "@example.com")); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %+v, want %+v", tc.local, got, tc.want)
		}
	}
	if got := say(c.EndOfMessage()); got.Action != rcptgate.Continue || got.Skipped {
		t.Errorf("end of message: %+v", got)
	}
}

// The code's class fits the action, whatever the verdict says, and no code ends the
// client's session.
func TestCodesFitTheAction(t *testing.T) {
	var verdict rcptgate.Verdict
	gate := &asker{answer: func(context.Context, *rcptgate.Query) rcptgate.Verdict { return verdict }}
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("client.example", client))
	for _, tc := range []struct {
		action         rcptgate.Action
		code           int
		enhanced       string
		want           int
		wantedEnhanced string
	}{
		{rcptgate.Reject, 550, "5.1.1", 550, "5.1.1"},
		{rcptgate.Reject, 553, "", 553, ""},
		{rcptgate.Reject, 521, "5.3.2", 550, "5.3.2"},
		{rcptgate.Reject, 556, "5.1.10", 550, "5.1.10"},
		{rcptgate.Reject, 452, "4.2.2", 550, "5.2.2"},
		{rcptgate.Reject, 250, "2.1.5", 550, "5.1.5"},
		{rcptgate.Reject, 0, "", 550, ""},
		{rcptgate.Reject, 600, "6.1.1", 550, ""},
		{rcptgate.Tempfail, 450, "4.1.1", 450, "4.1.1"},
		{rcptgate.Tempfail, 421, "4.7.0", 451, "4.7.0"},
		{rcptgate.Tempfail, 550, "5.1.1", 451, "4.1.1"},
		{rcptgate.Tempfail, 0, "", 451, ""},
		{rcptgate.Tempfail, -1, "", 451, ""},
	} {
		verdict = rcptgate.Verdict{Action: tc.action, Code: tc.code, Enhanced: tc.enhanced, Text: "why"}
		want := mta.Response{Action: tc.action, Code: tc.want, Enhanced: tc.wantedEnhanced, Text: "why"}
		if got := say(c.Rcpt("u@example.com")); !reflect.DeepEqual(got, want) {
			t.Errorf("%v %d %s: got %+v, want %+v", tc.action, tc.code, tc.enhanced, got, want)
		}
	}
	// Replies are ASCII unless the client knows otherwise (RFC 6531 section 3.7.4.2).
	verdict = rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Text: "Größe"}
	if got := say(c.Rcpt("u@example.com")); got.Text != "Gr??e" {
		t.Errorf("text %q", got.Text)
	}
	say(c.Mail("s@example.org", []string{"SMTPUTF8"}))
	if got := say(c.Rcpt("u@example.com")); got.Text != "Größe" {
		t.Errorf("text %q with SMTPUTF8", got.Text)
	}
}

// Several transactions, aborts as often as Postfix likes, and several clients on one
// connection.
func TestTransactions(t *testing.T) {
	gate := &asker{}
	srv := start(t, gate, milter.Config{}, "tcp")
	c := srv.dial(t, mta.Options{})
	say := say(t)
	say(c.Connect("first.example", client))
	say(c.Helo("first"))
	for i := range 3 {
		say(c.Mail("s@example.org", []string{"SIZE=5"}))
		say(c.Rcpt("u@example.com"))
		if i == 1 {
			say(c.EndOfMessage())
			continue
		}
		for range 2 {
			if err := c.Abort(); err != nil {
				t.Fatal(err)
			}
		}
	}
	say(c.Mail("lost@example.org", []string{"SIZE=7"})) // its end was never told
	say(c.Mail("t@example.org", nil))
	say(c.Rcpt("v@example.com"))
	if q := gate.last(t); q.Size != 0 || q.Sender != "t@example.org" || q.Helo != "first" {
		t.Errorf("after three transactions: %s", describe(q))
	}
	if err := c.QuitNewConn(); err != nil {
		t.Fatal(err)
	}
	say(c.Connect("second.example", netip.MustParseAddrPort("[2001:db8::1]:25")))
	say(c.Mail("u@example.org", nil))
	say(c.Rcpt("w@example.com"))
	if q := gate.last(t); q.Helo != "" || q.ClientName != "second.example" || q.Client != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("after the second client came: %s", describe(q))
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the connection's end", func() bool { return srv.Stats().Open == 0 })
	if got := srv.Stats(); got.Transactions != 6 || got.Recipients != 5 || got.Accepted != 1 || got.ProtocolErrors != 0 {
		t.Errorf("stats %+v", got)
	}
	if log := srv.log.String(); strings.Contains(log, "milter connection ") {
		t.Errorf("a connection in good order was logged: %s", log)
	}
}
