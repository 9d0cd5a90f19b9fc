// SPDX-License-Identifier: BSD-2-Clause

package load

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rcptgate/front/milter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func needEpoll(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the load generator needs Linux")
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func pattern(t *testing.T, text string, size int) *Recipients {
	t.Helper()
	r, err := Pattern(text, size)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// echo runs an echo milter for the test.
func echo(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := milter.NewEcho(0).Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return ln.Addr().String()
}

func TestMilter(t *testing.T) {
	needEpoll(t)
	m := Milter{
		Network: "tcp", Address: echo(t), Sender: "a@example.net", NextHop: "[127.0.0.1]", PerTransaction: 3,
		Recipients: pattern(t, "u%04d@example.com", 100),
	}
	conns, err := DialAll(t.Context(), 4, m.Dial)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(conns)
	for _, p := range []Plan{{Count: 1000}, {Count: 100, Rate: 1000}, {Count: 2}} {
		r, err := Run(t.Context(), conns, p)
		if err != nil {
			t.Fatal(err)
		}
		if r.Asked != p.Count || r.Accepted != p.Count || r.Failed != 0 || r.Latency.Count() != uint64(p.Count) {
			t.Errorf("%+v: asked %d, accepted %d, failed %d (%v), latencies %d", p, r.Asked, r.Accepted, r.Failed, r.Err, r.Latency.Count())
		}
		if p.Rate > 0 && r.Elapsed < 90*time.Millisecond {
			t.Errorf("100 questions at 1,000 a second took only %v", r.Elapsed)
		}
	}
}

// transcript is what a server was told.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (t *transcript) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

func (t *transcript) first(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines[:n])
}

// mailServer is an SMTP server that knows the even numbers, is not sure about 7, and hangs up on 99.
func mailServer(t *testing.T, seen *transcript) string {
	t.Helper()
	ln := listen(t)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close() //nolint:errcheck // a test's end
				serveMail(c, seen)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); running.Wait() })
	return ln.Addr().String()
}

func serveMail(c net.Conn, seen *transcript) {
	_, _ = fmt.Fprint(c, "220 mail.example\r\n")
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		line := lines.Text()
		seen.add(line)
		var n int
		reply := "250 2.0.0 ok\r\n"
		switch {
		case strings.HasPrefix(line, "EHLO"):
			reply = "250-mail.example\r\n250-SIZE\r\n250 PIPELINING\r\n"
		case strings.HasPrefix(line, "RCPT"):
			_, _ = fmt.Sscanf(line, "RCPT TO:<u%d@", &n)
			switch {
			case n == 99:
				return
			case n == 7:
				reply = "450 later\r\n"
			case n%2 == 1:
				reply = "550-5.1.1 no\r\n550 5.1.1 such user\r\n"
			}
		}
		for _, half := range []string{reply[:5], reply[5:]} { // replies arrive in pieces
			_, _ = fmt.Fprint(c, half)
			runtime.Gosched()
		}
	}
}

func TestSMTP(t *testing.T) {
	needEpoll(t)
	var seen transcript
	s := SMTP{
		Network: "tcp", Address: mailServer(t, &seen), Helo: "client.example", Sender: "a@example.net", PerTransaction: 4,
		Recipients: pattern(t, "u%d@example.com", 100),
	}
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll([]*Conn{c})
	r, err := Run(t.Context(), []*Conn{c}, Plan{Count: 10})
	if err != nil {
		t.Fatal(err)
	}
	if r.Accepted != 5 || r.Refused != 4 || r.Temporary != 1 || r.Failed != 0 {
		t.Errorf("5 accepted, 4 refused, 1 temporary were wanted, got %d, %d, %d, %d failed: %v", r.Accepted, r.Refused, r.Temporary, r.Failed, r.Err)
	}
	r, err = Run(t.Context(), []*Conn{c}, Plan{Count: 100})
	if err != nil {
		t.Fatal(err)
	}
	if r.Answered() != 89 || r.Asked != 90 || r.Failed != 1 || r.Err == nil {
		t.Errorf("90 questions and no answer to the last were wanted, got %d and %d answers, %d failed: %v", r.Asked, r.Answered(), r.Failed, r.Err)
	}
	want := []string{
		"EHLO client.example", "MAIL FROM:<a@example.net>", "RCPT TO:<u0@example.com>", "RCPT TO:<u1@example.com>",
		"RCPT TO:<u2@example.com>", "RCPT TO:<u3@example.com>", "RSET", "MAIL FROM:<a@example.net>", "RCPT TO:<u4@example.com>",
	}
	if got := seen.first(len(want)); !slices.Equal(got, want) {
		t.Errorf("the dialogue was %q", got)
	}
	if r, err = Run(t.Context(), []*Conn{c}, Plan{Count: 1}); err != nil || r.Failed != 1 || r.Asked != 0 {
		t.Errorf("a connection that broke was used again: %+v, %v", r, err)
	}
}

// A rate charges a stop of the server to every question that was due meanwhile.
func TestRateCountsFromWhenDue(t *testing.T) {
	needEpoll(t)
	ln := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close() //nolint:errcheck // a test's end
		_, _ = fmt.Fprint(c, "220 mail.example\r\n")
		for n, lines := 0, bufio.NewScanner(c); lines.Scan(); n++ {
			if n == 2 { // EHLO, MAIL, then the first RCPT
				time.Sleep(300 * time.Millisecond)
			}
			_, _ = fmt.Fprint(c, "250 ok\r\n")
		}
	}()
	s := SMTP{Network: "tcp", Address: ln.Addr().String(), Helo: "c", PerTransaction: 1000, Recipients: pattern(t, "u%d@example.com", 100)}
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), []*Conn{c}, Plan{Count: 20, Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	CloseAll([]*Conn{c})
	_ = ln.Close()
	<-done
	if slow := r.Latency.Quantile(0.5); slow < 100*time.Millisecond {
		t.Errorf("the median of 20 questions due within 200 ms of a stop of 300 ms is %v", slow)
	}
}

func TestSilentServer(t *testing.T) {
	needEpoll(t)
	ln := listen(t)
	defer ln.Close() //nolint:errcheck // a test's end
	done := make(chan net.Conn)
	go func() {
		c, _ := ln.Accept()
		_, _ = fmt.Fprint(c, "220 mail.example\r\n")
		buf := make([]byte, 100)
		_, _ = c.Read(buf)
		_, _ = fmt.Fprint(c, "250 ok\r\n")
		done <- c
	}()
	s := SMTP{Network: "tcp", Address: ln.Addr().String(), Helo: "c", PerTransaction: 1, Recipients: pattern(t, "u", 1)}
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer (<-done).Close() //nolint:errcheck // a test's end
	r, err := Run(t.Context(), []*Conn{c}, Plan{Count: 1, Patience: 200 * time.Millisecond})
	if err != nil || r.Failed != 1 || r.Answered() != 0 {
		t.Errorf("a server that says nothing gave %+v, %v", r, err)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 {
		t.Error("an empty histogram has a quantile")
	}
	values := make([]time.Duration, 10000)
	for i := range values {
		values[i] = time.Duration(rand.ExpFloat64() * float64(time.Millisecond))
		h.Add(values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0.01, 0.5, 0.99, 0.999, 1} {
		want := values[max(int(q*float64(len(values)))-1, 0)]
		got := h.Quantile(q)
		if got < want || float64(got) > float64(want)*(1+1.0/32)+1 {
			t.Errorf("quantile %v is %v, the list says %v", q, got, want)
		}
	}
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 1 << 20, 1<<62 + 12345} {
		if i := bucket(v); upper(i) < v || i > 0 && upper(i-1) >= v {
			t.Errorf("%d is in bucket %d, which ends at %d", v, i, upper(i))
		}
	}
}

func TestRecipients(t *testing.T) {
	take := func(r *Recipients, n int) (list []string) {
		for range n {
			list = append(list, string(r.Append(nil)))
		}
		return list
	}
	p := pattern(t, "u%03d@example.com", 2)
	if got := take(p, 3); !slices.Equal(got, []string{"u000@example.com", "u001@example.com", "u000@example.com"}) {
		t.Errorf("pattern: %q", got)
	}
	for _, size := range []int{1, 2, 3, 10, 100, 999} {
		all := take(pattern(t, "u%d", size).Shuffled(), size)
		slices.Sort(all)
		if n := len(slices.Compact(all)); n != size {
			t.Errorf("%d shuffled recipients are %d different ones", size, n)
		}
	}
	name := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(name, []byte("# some\na@b\n\nc@d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := File(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := take(f, 3); !slices.Equal(got, []string{"a@b", "c@d", "a@b"}) {
		t.Errorf("file: %q", got)
	}
	for _, bad := range []string{"u%s", "u%d%d", "u%", "u%99d"} {
		if _, err := Pattern(bad, 10); err == nil {
			t.Errorf("pattern %q was taken", bad)
		}
	}
}
