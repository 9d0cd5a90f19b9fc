// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/kit/testkit"
)

// limitedServer is a server without any time-out, so that only the limit makes room.
type limitedServer struct {
	addr    string
	inside  atomic.Int32
	release chan struct{}
}

// startLimited serves "/" at once, and "/slow" when release is closed.
func startLimited(t *testing.T, most int, hurry bool) *limitedServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveLimited(t, ln, most, hurry)
}

func serveLimited(t *testing.T, ln net.Listener, most int, hurry bool) *limitedServer {
	t.Helper()
	s := &limitedServer{addr: ln.Addr().String(), release: make(chan struct{})}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // on purpose
		_, _ = io.Copy(io.Discard, r.Body)
		Working(r.Context())
		s.inside.Add(1)
		if r.URL.Path == "/slow" {
			<-s.release
		}
		_, _ = io.WriteString(w, "ok")
	})}
	ended := make(chan error, 1)
	go func() { ended <- limit(ln, most, hurry).Serve(h) }()
	t.Cleanup(func() {
		_ = h.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

// dial connects and says something.
func (s *limitedServer) dial(t *testing.T, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// get asks on a connection of its own.
func (s *limitedServer) get(ctx context.Context, path string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "ok" {
		return fmt.Errorf("%q, %w", text, err)
	}
	return nil
}

// Whoever is slow to ask makes room, however it is slow.
func TestTheSlowMakeRoom(t *testing.T) {
	for name, text := range map[string]string{
		"silent":      "",
		"half header": "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"no body":     "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"kept":        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := startLimited(t, 4, false)
			for range 20 {
				s.dial(t, text)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			for range 10 {
				if err := s.get(ctx, "/"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Who is at work is not cut off for a newcomer, who waits for the first to finish.
func TestWorkIsFinished(t *testing.T) {
	s := startLimited(t, 2, false)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	results := make(chan error, 3)
	for range 2 {
		go func() { results <- s.get(ctx, "/slow") }()
	}
	testkit.Eventually(t, "both are at work", func() bool { return s.inside.Load() == 2 })
	go func() { results <- s.get(ctx, "/") }()
	select {
	case err := <-results:
		t.Errorf("one ended before its time: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(s.release)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// heldListener has connections whose first write waits.
type heldListener struct {
	net.Listener
	write chan struct{}
}

func (l heldListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return heldConn{c, l.write}, err
}

type heldConn struct {
	net.Conn
	write chan struct{}
}

func (c heldConn) Write(b []byte) (int, error) {
	<-c.write
	return c.Conn.Write(b)
}

// A connection is at work until its answer is out, not only until the handler returns.
func TestAnAnswerOnItsWayIsNotCutOff(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	write := make(chan struct{})
	s := serveLimited(t, heldListener{ln, write}, 1, false)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	results := make(chan error, 2)
	go func() { results <- s.get(ctx, "/") }()
	testkit.Eventually(t, "the first is at work", func() bool { return s.inside.Load() == 1 })
	go func() { results <- s.get(ctx, "/") }()
	select {
	case err := <-results:
		close(write)
		t.Fatalf("one ended before an answer was written: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(write)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// Where all answers are quick, those who have been at work for longest are cut off.
func TestHurry(t *testing.T) {
	s := startLimited(t, 2, true)
	defer close(s.release)
	for range 2 {
		s.dial(t, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	testkit.Eventually(t, "both are at work", func() bool { return s.inside.Load() == 2 })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.get(ctx, "/"); err != nil {
		t.Fatal(err)
	}
}
