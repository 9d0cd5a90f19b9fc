// SPDX-License-Identifier: BSD-2-Clause

package direct

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rcptgate/kit/testkit"
)

// pair is a connection by a network; its second end is direct.
func pair(t *testing.T, network string) (far, near net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(testkit.Dir(t), "s")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // of the test
	far, err = net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = far.Close(), near.Close() })
	return far, near
}

func eachNetwork(t *testing.T, f func(t *testing.T, far, near net.Conn)) {
	t.Helper()
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			far, near := pair(t, network)
			f(t, far, near)
		})
	}
}

func TestReadWaitsForData(t *testing.T) {
	eachNetwork(t, func(t *testing.T, far, near net.Conn) {
		s := reader{Conn: New(near)}
		if s.raw == nil {
			t.Fatal("not taken for a socket")
		}
		for _, text := range []string{"one", "another"} {
			time.AfterFunc(20*time.Millisecond, func() { _, _ = far.Write([]byte(text)) })
			p := make([]byte, 100)
			if n, err := s.Read(p); err != nil || string(p[:n]) != text {
				t.Errorf("%q, %v; want %q", p[:n], err, text)
			}
		}
		_ = far.Close()
		if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %d, %v", n, err)
		}
	})
}

// TestWriteOfMoreThanFits has a reader that begins late: the rest waits for it.
func TestWriteOfMoreThanFits(t *testing.T) {
	eachNetwork(t, func(t *testing.T, far, near net.Conn) {
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		got := make(chan []byte)
		go func() {
			time.Sleep(20 * time.Millisecond)
			all, _ := io.ReadAll(far)
			got <- all
		}()
		n, err := New(near).Write(sent)
		if n != len(sent) || err != nil {
			t.Errorf("wrote %d of %d: %v", n, len(sent), err)
		}
		_ = near.Close()
		if all := <-got; !bytes.Equal(all, sent) {
			t.Errorf("%d octets came, not the %d sent", len(all), len(sent))
		}
	})
}

func TestDeadlines(t *testing.T) {
	eachNetwork(t, func(t *testing.T, _, near net.Conn) {
		s := reader{Conn: New(near)}
		_ = near.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		n, err := s.Write(make([]byte, 1<<24))
		if n == 1<<24 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %d, %v", n, err)
		}
		_ = near.SetDeadline(time.Time{})
		_ = near.SetReadDeadline(time.Unix(1, 0))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after a deadline that has passed: %v", err)
		}
	})
}

// TestDeadlineWakes sets a deadline from another goroutine while one waits.
func TestDeadlineWakes(t *testing.T) {
	eachNetwork(t, func(t *testing.T, _, near net.Conn) {
		time.AfterFunc(20*time.Millisecond, func() { _ = near.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := (reader{Conn: New(near)}).Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestCloseWakes(t *testing.T) {
	eachNetwork(t, func(t *testing.T, _, near net.Conn) {
		s := reader{Conn: New(near)}
		time.AfterFunc(20*time.Millisecond, func() { _ = near.Close() })
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	})
}

// TestPeerIsGone writes to a connection whose other end has gone: an error, and no SIGPIPE
// that ends the process.
func TestPeerIsGone(t *testing.T) {
	eachNetwork(t, func(t *testing.T, far, near net.Conn) {
		_ = far.Close()
		s := New(near)
		var err error
		for range 100 {
			if _, err = s.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		var call *os.SyscallError
		if !errors.As(err, &call) || call.Syscall != "write" || !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%v", err)
		}
	})
}

// TestNotASocket has no system call to make.
func TestNotASocket(t *testing.T) {
	far, near := net.Pipe()
	defer far.Close() //nolint:errcheck // of the test
	s := reader{Conn: New(near)}
	go func() {
		_, _ = far.Write([]byte("ask"))
		_, _ = io.ReadFull(far, make([]byte, 6))
		_ = far.Close()
	}()
	p := make([]byte, 10)
	if n, err := s.Read(p); string(p[:n]) != "ask" || err != nil {
		t.Errorf("%q, %v", p[:n], err)
	}
	if n, err := s.Write([]byte("answer")); n != 6 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := s.Read(p); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if err := s.Shutdown(); err != nil {
		t.Error(err)
	}
}

// TestConversation asks many times what is answered each time, with a look after some of the
// answers; the peer sends its end with the last question.
func TestConversation(t *testing.T) {
	eachNetwork(t, func(t *testing.T, far, near net.Conn) {
		const questions = 10_000
		go func() {
			answer := make([]byte, 1)
			for i := range questions {
				_, _ = far.Write([]byte{byte(i)})
				if i < questions-1 {
					_, _ = io.ReadFull(far, answer)
				}
			}
			_ = far.Close()
		}()
		s, buf, n := New(near), make([]byte, 8), 0
		err := s.Each(func() []byte { return buf }, func(got int) Next {
			if got != 1 || buf[0] != byte(n) {
				t.Errorf("question %d: %v", n, buf[:got])
			}
			if n++; n == questions {
				return Look
			}
			_, _ = s.Write(buf[:1])
			return Wait - Next(n%2)
		})
		if n != questions || !errors.Is(err, io.EOF) {
			t.Errorf("%d questions, %v", n, err)
		}
	})
}

// TestNothingIsMissed has a peer that does not wait for answers, in pieces of all sizes, and a
// deadline that passes now and then.
func TestNothingIsMissed(t *testing.T) {
	eachNetwork(t, func(t *testing.T, far, near net.Conn) {
		const octets = 1 << 20
		go func() {
			for sent := 0; sent < octets; {
				n := min(1+sent%777, octets-sent)
				_, _ = far.Write(make([]byte, n))
				sent += n
			}
			_ = far.Close()
		}()
		s, buf, all := New(near), make([]byte, 500), 0
		for {
			_ = near.SetReadDeadline(time.Now().Add(time.Millisecond))
			err := s.Each(func() []byte { return buf }, func(n int) Next {
				all += n
				return Look
			})
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if all != octets || !errors.Is(err, io.EOF) {
				t.Errorf("%d octets, %v", all, err)
			}
			return
		}
	})
}

// TestWaitWithMoreThanRoom has more arrive at once than there is room for: it does not wait.
func TestWaitWithMoreThanRoom(t *testing.T) {
	eachNetwork(t, func(t *testing.T, far, near net.Conn) {
		_, _ = far.Write(make([]byte, 2000))
		_ = near.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf, all := make([]byte, 500), 0
		err := New(near).Each(func() []byte { return buf }, func(n int) Next {
			if all += n; all == 2000 {
				return Stop
			}
			return Wait
		})
		if err != nil {
			t.Errorf("%d octets, %v", all, err)
		}
	})
}

// TestShutdownDoesNotWait ends a connection whose question is being answered.
func TestShutdownDoesNotWait(t *testing.T) {
	eachNetwork(t, func(t *testing.T, far, near net.Conn) {
		s := New(near)
		asked, ended := make(chan struct{}), make(chan error)
		go func() {
			buf := make([]byte, 10)
			ended <- s.Each(func() []byte { return buf }, func(int) Next {
				close(asked)
				<-ended // until Shutdown is back
				return Look
			})
		}()
		_, _ = far.Write([]byte("x"))
		<-asked
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		ended <- nil
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	})
}

// TestShutdownWakes ends one that waits.
func TestShutdownWakes(t *testing.T) {
	eachNetwork(t, func(t *testing.T, _, near net.Conn) {
		s := reader{Conn: New(near)}
		time.AfterFunc(20*time.Millisecond, func() { _ = s.Shutdown() })
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	})
}

// TestStop gives the connection back for more.
func TestStop(t *testing.T) {
	far, near := pair(t, "unix")
	s := reader{Conn: New(near)}
	p := make([]byte, 3)
	for range 3 {
		_, _ = far.Write([]byte("abc"))
		if n, err := s.Read(p); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	far, near := pair(t, "unix")
	s := New(near)
	done := make(chan error)
	go func() {
		buf := make([]byte, 100)
		done <- s.Each(func() []byte { return buf }, func(n int) Next {
			_, _ = s.Write(buf[:n])
			return Wait
		})
	}()
	q := make([]byte, 10)
	if n := testing.AllocsPerRun(1000, func() {
		_, _ = far.Write(q)
		if _, err := io.ReadFull(far, q); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	_ = far.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// reader reads once a call.
type reader struct{ *Conn }

func (r reader) Read(p []byte) (n int, err error) {
	err = r.Each(func() []byte { return p }, func(got int) Next {
		n = got
		return Stop
	})
	return n, err
}
