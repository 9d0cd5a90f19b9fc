// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"

	"golang.org/x/sys/unix"
)

const wantsAll = rcptgate.WantMessage | rcptgate.WantHeader | rcptgate.WantBody | rcptgate.EditHeader | rcptgate.EditBody | rcptgate.EditSender | rcptgate.EditRecipients | rcptgate.Quarantine

// letterGate hands messages to a function.
type letterGate struct {
	wants rcptgate.Wants
	mu    sync.Mutex
	do    func(q *rcptgate.Query) rcptgate.Verdict
}

func (g *letterGate) Wants() rcptgate.Wants {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wants
}

func (g *letterGate) Ask(_ context.Context, q *rcptgate.Query) rcptgate.Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	if strings.HasPrefix(q.Recipient.Local, "drop") {
		return rcptgate.Verdict{Action: rcptgate.DiscardRecipient}
	}
	if q.Stage != rcptgate.StageMessage {
		return rcptgate.Verdict{}
	}
	return g.do(q)
}

func (g *letterGate) set(do func(q *rcptgate.Query) rcptgate.Verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.do = do
}

// field is a header field as it goes over the wire.
type field struct{ name, value string }

// send plays one message, as far as its end.
func send(t testing.TB, c *mta.Client, fields []field, body string, rcpt ...string) mta.Response {
	t.Helper()
	say := say(t)
	say(c.Connect("client.example", client))
	say(c.Mail("s@example.org", nil, macros("i", "Q1")...))
	for _, r := range append([]string{"a@in.test"}, rcpt...) {
		say(c.Rcpt(r))
	}
	say(c.Data())
	for _, f := range fields {
		say(c.Header(f.name, f.value))
	}
	say(c.EndOfHeader())
	for len(body) > 0 {
		n := min(len(body), wire.BodyMax)
		if say(c.Body([]byte(body[:n]))).Skip {
			break
		}
		body = body[n:]
	}
	return say(c.EndOfMessage(macros("i", "Q1")...))
}

// written is a change as the tests write it: kind, index, name, value.
func written(r mta.Response) (list []string) {
	for _, c := range r.Changes {
		switch c.Kind {
		case wire.ChangeReplaceBody:
			list = append(list, fmt.Sprintf("b%d", len(c.Body)))
		case wire.ChangeHeader, wire.ChangeInsertHeader:
			list = append(list, fmt.Sprintf("%c%d %s:%s", c.Kind, c.Index, c.Name, c.Value))
		case wire.ChangeAddHeader:
			list = append(list, fmt.Sprintf("h %s:%s", c.Name, c.Value))
		default:
			list = append(list, string(c.Kind)+" "+c.Name)
		}
	}
	return list
}

var usual = []field{{"Subject", " one"}, {"X-Two", " a"}, {"X-Two", " b"}, {"X-Two", " c"}, {"Empty", ""}}

// TestFieldBugs plays what has gone wrong in milters and MTAs; the names say where.
func TestFieldBugs(t *testing.T) {
	pass := func(do func(m *rcptgate.Message) error) func(q *rcptgate.Query) rcptgate.Verdict {
		return func(q *rcptgate.Query) rcptgate.Verdict {
			if err := do(q.Message); err != nil {
				return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 451, Text: err.Error()}
			}
			return rcptgate.Verdict{}
		}
	}
	for _, tc := range []struct {
		name string
		do   func(q *rcptgate.Query) rcptgate.Verdict
		want string
	}{
		{"OpenDKIM 148, 185: deletions upward hit the wrong fields", pass(func(m *rcptgate.Message) error {
			_ = m.DeleteHeader("X-Two", 1)
			_ = m.DeleteHeader("X-Two", 2)
			return m.DeleteHeader("X-Two", 3)
		}), "m3 X-Two:|m2 X-Two:|m1 X-Two:|continue"},
		{"OpenDKIM 67: the leading space is forgotten", pass(func(m *rcptgate.Message) error {
			_ = m.ChangeHeader("Subject", 1, m.Header("Subject").Value)
			_ = m.AddHeader("X-New", "v")
			return m.InsertHeader("X-Top", "v")
		}), "h X-New: v|m1 Subject: one|i0 X-Top: v|continue"},
		{"OpenDKIM 24, 126: inserted at 1, below Received", pass(func(m *rcptgate.Message) error { return m.InsertHeader("X-Top", "v") }), "i0 X-Top: v|continue"},
		{"OpenDKIM 143, MIMEDefang: changes of a message that is refused", func(q *rcptgate.Query) rcptgate.Verdict {
			_ = q.Message.AddHeader("X-New", "v")
			return refusal
		}, "554"},
		{"changes of a message that is thrown away", func(q *rcptgate.Query) rcptgate.Verdict {
			_ = q.Message.AddHeader("X-New", "v")
			return rcptgate.Verdict{Action: rcptgate.Discard}
		}, "discard_message"},
		{"rspamd: the quarantine is lost when there is a text", func(q *rcptgate.Query) rcptgate.Verdict {
			return rcptgate.Verdict{Action: rcptgate.Hold, Text: "look at\nthis"}
		}, "q look at this|continue"},
		{"emersion 21, 22: a field with an empty value is dropped", func(q *rcptgate.Query) rcptgate.Verdict {
			return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Text: fmt.Sprint(len(q.Message.Fields))}
		}, "550 5"},
		{"d--j: a field that is added revives one that is deleted", pass(func(m *rcptgate.Message) error {
			_ = m.DeleteHeader("Subject", 1)
			return m.AddHeader("Subject", "new")
		}), "i10000 Subject: new|m1 Subject:|continue"},
		{"Postfix 20211105: body after other changes, in one run", pass(func(m *rcptgate.Message) error {
			_ = m.ReplaceBody(strings.NewReader(strings.Repeat("x", 70_000)), 70_000)
			_ = m.Hold("why")
			_ = m.ChangeSender("new@in.test")
			_ = m.AddRecipient("b@in.test")
			return m.AddHeader("X-New", "v")
		}), "h X-New: v|+ <b@in.test>|e <new@in.test>|b65535|b4465|q why|continue"},
		{"Postfix 20231213: an index is off by one after an insertion", pass(func(m *rcptgate.Message) error {
			_ = m.InsertHeader("X-Two", "top")
			return m.ChangeHeader("X-Two", 1, "A")
		}), "m1 X-Two: A|i0 X-Two: top|continue"},
		{"MailScanner 618: CRLF in an added value", pass(func(m *rcptgate.Message) error { return m.AddHeader("X", "a\r\n\r\nb") }), `451 header field "X": the value has a CR or NUL`},
		{"MailScanner 690: a control octet in a recipient", pass(func(m *rcptgate.Message) error { return m.AddRecipient("a\x01@in.test") }), `451 address "a @in.test" has a control character`},
		{"rmilter 103: no Message-ID", pass(func(m *rcptgate.Message) error {
			if m.Header("Message-ID") != nil {
				return io.EOF
			}
			return nil
		}), "continue"},
		{"MIMEDefang: the index of a change is not obeyed", pass(func(m *rcptgate.Message) error { return m.ChangeHeader("x-two", 3, "C") }), "m3 X-Two: C|continue"},
		{"the last recipient is removed", pass(func(m *rcptgate.Message) error { return m.DeleteRecipient(0) }), "discard_message"},
		{"the last recipient is replaced", pass(func(m *rcptgate.Message) error {
			_ = m.AddRecipient("b@in.test")
			return m.DeleteRecipient(0)
		}), "+ <b@in.test>|- <a@in.test>|continue"},
		{"a new body that cannot be read", pass(func(m *rcptgate.Message) error { return m.ReplaceBody(strings.NewReader("short"), 10) }), "451"},
		{"a null sender", pass(func(m *rcptgate.Message) error { return m.ChangeSender("") }), "e <>|continue"},
		{"lines of a new body end in CRLF", pass(func(m *rcptgate.Message) error { return m.ReplaceBody(strings.NewReader("a\nb\r\nc\r\r\n"), 9) }), "b10|continue"},
		{"an empty body", pass(func(m *rcptgate.Message) error { return m.ReplaceBody(strings.NewReader(""), 0) }), "b0|continue"},
		{"OpenDMARC 213: a crash at the end of the message", func(*rcptgate.Query) rcptgate.Verdict { return rcptgate.CouldNotFindOut }, "451"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gate := &letterGate{wants: wantsAll, do: tc.do}
			c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
			for range 2 { // Postfix 2026, MIMEDefang: nothing is left for the next message
				r := send(t, c, usual, "body\r\n")
				got := strings.Join(append(written(r), word(r)), "|")
				if strings.HasPrefix(tc.want, got+" ") {
					got += " " + r.Text
				}
				if got != tc.want {
					t.Errorf("the MTA heard %q, want %q", got, tc.want)
				}
			}
			gate.set(func(q *rcptgate.Query) rcptgate.Verdict { return rcptgate.Verdict{} })
			if r := send(t, c, usual, ""); len(r.Changes) > 0 || word(r) != "continue" {
				t.Errorf("the next message: %v %s", written(r), word(r))
			}
		})
	}
}

// TestMessage holds what a step sees of messages of many kinds, one after the other on a connection.
func TestMessage(t *testing.T) {
	gate := &letterGate{wants: wantsAll}
	srv := start(t, gate, milter.Config{Body: 1 << 20}, "unix")
	text := numbered(3 << 20)
	for _, options := range []mta.Options{{}, {TwoWrites: true}, {Bare: true, Version: 2, Actions: 0x3f, Protocol: 0x7f}} {
		c := srv.dial(t, options)
		for _, size := range []int{0, 1, 10_000, 65_535, 65_536, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 1, 3 << 20, 5} {
			body := text[:size]
			var got string
			var cut bool
			gate.set(func(q *rcptgate.Query) rcptgate.Verdict {
				b, err := io.ReadAll(io.NewSectionReader(q.Message.Body, 0, q.Message.Size))
				if err != nil {
					t.Error(err)
				}
				got, cut = string(b), q.Message.Cut
				if len(q.Message.Fields) != len(usual) || q.Message.Fields[3].Value != " c" || len(q.Message.Recipients) != 1 {
					t.Errorf("%+v", q.Message)
				}
				return rcptgate.Verdict{}
			})
			if r := send(t, c, usual, body, "drop@in.test"); word(r) != "continue" {
				t.Errorf("%d octets: %s", size, word(r))
			}
			if want := body[:min(size, 1<<20)]; got != want || cut != (size > 1<<20) {
				t.Errorf("%d octets: the step saw %d, cut %v", size, len(got), cut)
			}
		}
	}
	if st := srv.Stats(); st.Spooled != 0 {
		t.Errorf("%d octets are still spooled", st.Spooled)
	}
}

// numbered is a body of a size in which no two places look alike.
func numbered(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d\r\n", i)
	}
	return b.String()[:size]
}

// A header that is too large or has too many fields is cut, and says so.
func TestHeaderIsBounded(t *testing.T) {
	gate := &letterGate{wants: wantsAll}
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	for name, fields := range map[string][]field{
		"fields": slices.Repeat([]field{{"X", " y"}}, 1001), "octets": slices.Repeat([]field{{"X", strings.Repeat("y", 30_000)}}, 10), "one": {{"X", strings.Repeat("y", 300_000)}},
	} {
		cut := false
		gate.set(func(q *rcptgate.Query) rcptgate.Verdict {
			cut = q.Message.HeaderCut
			return rcptgate.Verdict{}
		})
		if r := send(t, c, fields, ""); word(r) != "continue" || !cut {
			t.Errorf("%s: %s, cut %v", name, word(r), cut)
		}
	}
}

// Behind a field that was too large nothing is kept: the fields that steps see are the first
// ones, so that an index names the field that the MTA takes it for.
func TestHeaderIsCutOnce(t *testing.T) {
	gate := &letterGate{wants: wantsAll}
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	seen := 0
	gate.set(func(q *rcptgate.Query) rcptgate.Verdict {
		seen = q.Message.CountHeader("X")
		return rcptgate.Verdict{}
	})
	if send(t, c, []field{{"X", " first"}, {"X", strings.Repeat("y", 300_000)}, {"X", " third"}}, ""); seen != 1 {
		t.Errorf("%d fields are kept: the third one passes for the second", seen)
	}
}

// TestSpoolLimit fills the spools, and finds room again when a message has gone.
func TestSpoolLimit(t *testing.T) {
	gate := &letterGate{wants: wantsAll, do: func(*rcptgate.Query) rcptgate.Verdict { return rcptgate.Verdict{} }}
	srv := start(t, gate, milter.Config{Spool: 1 << 20, Body: 4 << 20}, "unix")
	say := say(t)
	full := srv.dial(t, mta.Options{})
	say(full.Connect("client.example", client))
	say(full.Mail("s@example.org", nil))
	for range 15 {
		say(full.Body(make([]byte, wire.BodyMax)))
	}
	c := srv.dial(t, mta.Options{})
	if r := send(t, c, usual, strings.Repeat("x", 100_000)); r.Code != 452 || r.Enhanced != "4.3.1" {
		t.Errorf("no room: %+v", r)
	}
	if r := send(t, c, usual, "x"); word(r) != "continue" {
		t.Errorf("a small message: %+v", r)
	}
	if err := full.Close(); err != nil { // gone in the middle of a body
		t.Fatal(err)
	}
	testkit.Eventually(t, "the spool is given back", func() bool { return srv.Stats().Spooled == 0 })
	if r := send(t, c, usual, strings.Repeat("x", 500_000)); word(r) != "continue" {
		t.Errorf("room again: %+v", r)
	}
}

// TestSpoolDiskFull has bodies spooled where nothing can be written.
func TestSpoolDiskFull(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gate := &letterGate{wants: wantsAll, do: func(*rcptgate.Query) rcptgate.Verdict { return rcptgate.Verdict{} }}
	srv := start(t, gate, milter.Config{}, "unix")
	srv.SpoolIn(file+"/spool", nil)
	c := srv.dial(t, mta.Options{})
	if r := send(t, c, usual, strings.Repeat("x", 300_000)); r.Code != 452 || srv.Stats().Spooled != 0 || srv.Stats().Unspooled != 1 {
		t.Errorf("%+v, %+v", r, srv.Stats())
	}
	if r := send(t, c, usual, strings.Repeat("x", 200_000)); word(r) != "continue" {
		t.Errorf("a message that fits into memory: %+v", r)
	}
}

// TestSpoolOnAFullDisk has bodies spooled on a file system that is too small for them.
func TestSpoolOnAFullDisk(t *testing.T) {
	dir := testkit.Dir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skip("mounting a file system needs a privilege: ", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil { // nothing is open any more
			t.Error(err)
		}
	}()
	gate := &letterGate{wants: wantsAll, do: func(*rcptgate.Query) rcptgate.Verdict { return rcptgate.Verdict{} }}
	srv := start(t, gate, milter.Config{}, "unix")
	srv.SpoolIn(dir+"/spool", nil)
	c := srv.dial(t, mta.Options{})
	for range 2 {
		if r := send(t, c, usual, strings.Repeat("x", 900_000)); r.Code != 452 || srv.Stats().Spooled != 0 {
			t.Errorf("too large: %+v, %+v", r, srv.Stats())
		}
		if r := send(t, c, usual, strings.Repeat("x", 400_000)); word(r) != "continue" {
			t.Errorf("one that fits: %+v", r)
		}
	}
}

// TestClientGoneAtEveryStage ends sessions in every way after every command: nothing is left, and the next message of the
// connection is its own.
func TestClientGoneAtEveryStage(t *testing.T) {
	gate := &letterGate{wants: wantsAll}
	srv := start(t, gate, milter.Config{}, "unix")
	steps := []func(c *mta.Client) error{
		func(c *mta.Client) error { _, err := c.Connect("client.example", client); return err },
		func(c *mta.Client) error { _, err := c.Helo("client.example"); return err },
		func(c *mta.Client) error { _, err := c.Mail("s@example.org", nil); return err },
		func(c *mta.Client) error { _, err := c.Rcpt("old@in.test"); return err },
		func(c *mta.Client) error { _, err := c.Data(); return err },
		func(c *mta.Client) error { _, err := c.Header("Old", " x"); return err },
		func(c *mta.Client) error { _, err := c.EndOfHeader(); return err },
		func(c *mta.Client) error { _, err := c.Body(make([]byte, 300_00)); return err },
		func(c *mta.Client) error { _, err := c.Body(make([]byte, 60_000)); return err },
	}
	for _, end := range []string{"abort", "mail", "helo", "new client", "close"} {
		for n := range len(steps) {
			c := srv.dial(t, mta.Options{})
			for _, step := range steps[:n+1] {
				if err := step(c); err != nil {
					t.Fatal(err)
				}
			}
			switch end {
			case "abort":
				_ = c.Abort()
			case "helo":
				_, _ = c.Helo("again.example")
			case "new client":
				_ = c.QuitNewConn()
			case "close":
				_ = c.Close()
				continue
			}
			gate.set(func(q *rcptgate.Query) rcptgate.Verdict {
				if m := q.Message; len(m.Fields) != len(usual) || m.Size != 4 || len(m.Recipients) != 1 || m.Recipients[0].Local != "a" {
					t.Errorf("%s after step %d: the next message is %+v", end, n, m)
				}
				return rcptgate.Verdict{}
			})
			if r := send(t, c, usual, "body"); word(r) != "continue" {
				t.Errorf("%s after step %d: %s", end, n, word(r))
			}
			_ = c.Close()
		}
	}
	testkit.Eventually(t, "every spool is given back", func() bool { return srv.Stats().Spooled == 0 && srv.Stats().Open == 0 })
}

// TestProgress has a step take its time: the MTA hears every 3 s that it is worked on.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &letterGate{wants: wantsAll, do: func(*rcptgate.Query) rcptgate.Verdict {
			time.Sleep(10 * time.Second)
			return rcptgate.Verdict{}
		}}
		_, dial := inMemory(t, gate, milter.Config{Idle: setting.Duration(time.Hour)})
		counted := &counting{Conn: dial()}
		c := speak(t, counted)
		before := counted.frames()
		if r := send(t, c, nil, ""); word(r) != "continue" {
			t.Errorf("%+v", r)
		}
		if n := counted.progress(before); n != 3 {
			t.Errorf("%d words of progress in 10 s", n)
		}
		_ = c.Quit()
	})
}

// TestOlderConnection has messages wanted by a reload: connections that began before send none,
// and yet the step is asked, with a message that says so.
func TestOlderConnection(t *testing.T) {
	gate := &letterGate{}
	c := start(t, gate, milter.Config{}, "unix").dial(t, mta.Options{})
	if r := send(t, c, usual, "body"); word(r) != "continue" {
		t.Errorf("before: %+v", r)
	}
	gate.mu.Lock()
	gate.wants = wantsAll
	gate.mu.Unlock()
	gate.set(func(q *rcptgate.Query) rcptgate.Verdict {
		if m := q.Message; m == nil || m.Has(rcptgate.WantHeader) || m.Has(rcptgate.WantBody) || len(m.Fields) > 0 || m.Size > 0 {
			t.Errorf("the step sees %+v", q.Message)
		}
		return refusal
	})
	for range 2 {
		if r := send(t, c, usual, "body"); word(r) != "554" {
			t.Errorf("after: %+v", r)
		}
	}
}

// TestNegotiationOfMessages holds what is asked of an MTA for each want.
func TestNegotiationOfMessages(t *testing.T) {
	for _, tc := range []struct {
		wants             rcptgate.Wants
		actions           uint32
		has, hasNot       uint32
		version2, leftOut uint32
	}{
		{0, 0, wire.NoBody | wire.NoHeaders | wire.NoEndOfHeader | wire.NoData, wire.HeaderLeadSpace | wire.CanSkip, 0, 0},
		{rcptgate.EditRecipients, wire.ActAddRcpt | wire.ActDelRcpt, wire.NoBody | wire.NoHeaders, wire.HeaderLeadSpace | wire.CanSkip, 0, 0},
		{rcptgate.Quarantine, wire.ActQuarantine, wire.NoBody | wire.NoHeaders, 0, 0, 0},
		{rcptgate.WantMessage | rcptgate.WantHeader, 0, wire.NoBody | wire.NoReplyHeader | wire.NoEndOfHeader | wire.HeaderLeadSpace, wire.NoHeaders | wire.CanSkip, 0, 0},
		{rcptgate.WantMessage | rcptgate.WantBody, 0, wire.NoHeaders | wire.CanSkip, wire.NoBody | wire.NoReplyBody, 0, 0},
		{wantsAll, 0x7f, wire.NoReplyHeader | wire.HeaderLeadSpace | wire.CanSkip, wire.NoBody | wire.NoHeaders | wire.NoReplyBody, 0, 0},
	} {
		agreed := start(t, &letterGate{wants: tc.wants}, milter.Config{}, "unix").dial(t, mta.Options{}).Agreed()
		if agreed.Actions&^wire.ActSetMacroList != tc.actions || agreed.Protocol&tc.has != tc.has || agreed.Protocol&tc.hasNot != 0 {
			t.Errorf("wants %b: agreed on actions %#x, protocol %#x", tc.wants, agreed.Actions, agreed.Protocol)
		}
	}
}
