// SPDX-License-Identifier: BSD-2-Clause

package dovecot

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/kit/testkit"
)

func reader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

func TestActions(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]wire.State{ // 0: could not find out
		"OK": wire.Room, "DUNNO": wire.Room, "dunno": wire.Room, "PERMIT": wire.Room, "": wire.Room,
		"554 5.2.2 Quota exceeded (mailbox for user is full)":          wire.Full,
		"452 4.2.2 Mailbox is full and cannot receive any more emails": wire.Full,
		"552 Mailbox is over limit":                                    wire.Full,
		"552 5.2.3 Message is too large":                               wire.Full,
		"REJECT 5.2.2 Mailbox is full":                                 wire.Full,
		"REJECT Quota exceeded":                                        wire.Full,
		"DEFER_IF_PERMIT Quota exceeded":                               wire.Full,
		"REJECT Unknown user":                                          wire.Unknown, // Dovecot's default for whoever has no mailbox
		"550 5.1.1 Unknown user, quota not asked":                      wire.Unknown,
		"554 5.7.1 Refused":                                            wire.Unknown,
		"554 5.0.0 Domain quota exceeded":                              wire.Full, // Zimbra's 554 5.0.0
		"554 5.0.0 Internal error":                                     wire.Unknown,
		"554 5.1.1 Quota of unknown user":                              wire.Unknown,
		"REJECT":                                                       wire.Unknown,
		"DEFER_IF_PERMIT Internal error occurred. Refer to server log for more information.": 0,
		"DEFER": 0, "450 4.3.0 Try later": 0, "451": 0, "HOLD": 0, "FILTER x": 0, "200 OK": 0, "99999 quota": 0, "5.2.2 full": 0,
	} {
		a, err := ParseAction(action)
		if a.State != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %v, %v; want %v", action, a.State, err, want)
		}
	}
}

// Only a refusal for good with x.2.3 says that the message can never fit.
func TestTooLargeActions(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]bool{
		"552 5.2.3 Message is too large": true, "REJECT 5.2.3 Message is too large": true,
		"452 4.2.3 Message is too large": false, "DEFER_IF_PERMIT 4.2.3 Message is too large": false, "554 5.2.2 Quota exceeded": false, "552 Message is too large": false,
	} {
		if a, err := ParseAction(action); err != nil || a.State != wire.Full || a.TooLarge != want {
			t.Errorf("%q: %+v, %v; want %v", action, a, err, want)
		}
	}
}

func TestReadPolicy(t *testing.T) {
	t.Parallel()
	text, err := AppendPolicy(nil, "ann@example.org", 0)
	if err != nil || string(text) != "request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=ann@example.org\nsize=0\n\n" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err = AppendPolicy(nil, "ann\nsize=1@example.org", 0); err == nil {
		t.Errorf("%q", text)
	}
	if a, err := ReadPolicy(reader("action=DUNNO\n\n")); err != nil || a.State != wire.Room {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "\n", "action=OK\n", "action=OK", "acti", "hello\n\n", strings.Repeat("x", 70_000), strings.Repeat("x=y\n", 20_000) + "\n"} {
		if a, err := ReadPolicy(reader(bad)); err == nil {
			t.Errorf("%.30q was taken as %+v", bad, a)
		}
	}
}

// Replies as Dovecot 2.3.19 gives them.
func TestReadQuota(t *testing.T) {
	t.Parallel()
	const row = "User quota\tSTORAGE\t5574\t10240\t54\tUser quota\tMESSAGE\t16\t-\t0\t"
	numbers := wire.Answer{State: wire.Room, Used: 5574 << 10, Soft: wire.NotKnown, Hard: 10240 << 10, Messages: 16, Max: 0}
	archive := numbers
	archive.Used, archive.Hard, archive.Messages, archive.Max = 1<<10, 0, wire.NotKnown, wire.NotKnown
	for _, c := range []struct {
		text, root string
		want       wire.Answer
	}{
		{row + "\n+\n", "", numbers},
		{row + "Archive quota\tSTORAGE\t1\t-\t0\t\n+\n", "", numbers},
		{row + "Archive quota\tSTORAGE\t1\t-\t0\t\n+\n", "Archive quota", archive},
		{"\n-NOUSER\n", "", wire.NewAnswer(wire.Unknown)},
		{"\n-NOTFOUND\n", "", wire.NewAnswer(wire.Unknown)},
	} {
		if a, err := ReadQuota(reader(c.text), c.root); err != nil || a != c.want {
			t.Errorf("%q: %+v, %v", c.text, a, err)
		}
	}
	for _, bad := range []string{
		"", "\n", "\n+\n", row, row + "\n", row + "\n-TEMPFAIL\n", "\n-NOPERM\n", "\n-REFERRAL 10.0.0.9\n", "\nwhat\n", "User quota\tSTORAGE\t1\t2\t3\n+\n",
		"User quota\tSTORAGE\terror\terror\terror\t\n+\n", "User quota\tSTORAGE\t1\t-5\t3\t\n+\n", "User quota\tSTORAGE\t99999999999999999\t1\t3\t\n+\n",
		"User quota\tMESSAGE\t1\t2\t3\t\n+\n", strings.Repeat("x", 70_000) + "\n+\n",
	} {
		if a, err := ReadQuota(reader(bad), ""); err == nil {
			t.Errorf("%.40q was taken as %+v", bad, a)
		}
	}
	if a, err := ReadQuota(reader(row+"\n+\n"), "No such root"); err == nil {
		t.Errorf("a root that is not there: %+v", a)
	}
	for text, ok := range map[string]bool{"+\n": true, "VERSION\tdoveadm-client\t1\t2\n+\n": true, "-\n": false, "220 hello\n": false, "": false} {
		if err := readHello(reader(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// fake is a service on a unix socket; serve has one connection.
func fake(t *testing.T, serve func(n int32, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	path := filepath.Join(testkit.Dir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var n atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(n.Add(1), c, bufio.NewReader(c))
			}()
		}
	}()
	return path
}

// readQuestion reads a policy question; "" at the end.
func readQuestion(r *bufio.Reader) (text string) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		if text += line; line == "\n" {
			return text
		}
	}
}

func TestPoolKeepsAndReplaces(t *testing.T) {
	t.Parallel()
	path := fake(t, func(n int32, c net.Conn, r *bufio.Reader) {
		for i := 0; readQuestion(r) != "" && i < 2; i++ { // the third question meets a closed connection
			_, _ = c.Write([]byte("action=" + []string{"", "OK", "552 5.2.2 full", "OK"}[n] + "\n\n"))
		}
	})
	p := Policy("unix", path)
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i, want := range []wire.State{wire.Room, wire.Room, wire.Full, wire.Full, wire.Room} {
		if a, err := p.Ask(ctx, "ann@example.org", 1); err != nil || a.State != want {
			t.Fatalf("question %d: %+v, %v", i, a, err)
		}
	}
}

// A silent service holds nobody past the deadline, and its late reply answers no other
// question.
func TestPoolDeadline(t *testing.T) {
	t.Parallel()
	late := make(chan struct{})
	path := fake(t, func(n int32, c net.Conn, r *bufio.Reader) {
		_ = readQuestion(r)
		if n == 1 {
			<-late
		}
		_, _ = c.Write([]byte("action=552 5.2.2 full\n\n"))
	})
	p := Policy("unix", path)
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if a, err := p.Ask(ctx, "ann@example.org", 1); err == nil {
		t.Fatalf("a silent service answered %+v", a)
	}
	close(late)
	if len(p.idle) != 0 {
		t.Error("the connection of the question that was given up is kept")
	}
	if _, err := Policy("unix", path+"-absent").Ask(context.Background(), "ann", 1); err == nil {
		t.Error("no service, no error")
	}
}

func TestPoolDropsWhatSpeaksUnasked(t *testing.T) {
	t.Parallel()
	path := fake(t, func(_ int32, c net.Conn, r *bufio.Reader) {
		for readQuestion(r) != "" {
			_, _ = c.Write([]byte("action=OK\n\naction=552 5.2.2 full\n\n"))
		}
	})
	p := Policy("unix", path)
	defer p.Close()
	for range 3 {
		if a, err := p.Ask(context.Background(), "ann", 1); err != nil || a.State != wire.Room {
			t.Errorf("%+v, %v", a, err)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add("action=DUNNO\n\n")
	f.Add("action=554 5.2.2 Quota exceeded (mailbox for user is full)\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := ReadPolicy(reader(text)); err == nil && (a.State < wire.Room || a.State > wire.Unknown) {
			t.Fatalf("%+v", a)
		}
	})
}

func FuzzDoveadm(f *testing.F) {
	f.Add("User quota\tSTORAGE\t5574\t10240\t54\tUser quota\tMESSAGE\t16\t-\t0\t\n+\n")
	f.Add("\n-NOUSER\n")
	f.Fuzz(func(t *testing.T, text string) {
		_ = readHello(reader(text))
		a, err := ReadQuota(reader(text), "")
		if err == nil && ((a.State == wire.Room) != (a.Used >= 0) || a.Hard < wire.NotKnown || a.Messages < wire.NotKnown || a.Max < wire.NotKnown) {
			t.Fatalf("%q: %+v, %v", text, a, err)
		}
	})
}
