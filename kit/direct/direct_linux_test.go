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
)

// pair is a connection by a network; its second end is direct.
func pair(t *testing.T, network string) (far, near net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
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
		s := New(near)
		if _, is := s.(*socket); !is {
			t.Fatalf("New gave a %T", s)
		}
		for _, text := range []string{"one", "another"} {
			time.AfterFunc(20*time.Millisecond, func() { _, _ = far.Write([]byte(text)) })
			p := make([]byte, 100)
			if n, err := s.Read(p); err != nil || string(p[:n]) != text {
				t.Errorf("%q, %v; want %q", p[:n], err, text)
			}
		}
		if n, err := s.Read(nil); n != 0 || err != nil {
			t.Errorf("reading nothing: %d, %v", n, err)
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
		s := New(near)
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
		if _, err := New(near).Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestCloseWakes(t *testing.T) {
	eachNetwork(t, func(t *testing.T, _, near net.Conn) {
		s := New(near)
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
	a, b := net.Pipe()
	defer a.Close() //nolint:errcheck // of the test
	defer b.Close() //nolint:errcheck // of the test
	if s := New(a); s != io.ReadWriter(a) {
		t.Errorf("New gave a %T", s)
	}
}

func TestAllocatesNothing(t *testing.T) {
	far, near := pair(t, "unix")
	s := New(near)
	p, q := make([]byte, 10), make([]byte, 10)
	if n := testing.AllocsPerRun(1000, func() {
		_, _ = far.Write(q)
		if _, err := io.ReadFull(s, p); err != nil {
			t.Error(err)
		}
		if _, err := s.Write(p); err != nil {
			t.Error(err)
		}
		_, _ = io.ReadFull(far, q)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
