// SPDX-License-Identifier: BSD-2-Clause

package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	var n Network
	l, err := n.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	go func() { near, err = n.DialContext(t.Context(), "tcp", l.Addr().String()) }()
	far, _ = l.Accept()
	synctest.Wait()
	if err != nil || near.RemoteAddr().String() != l.Addr().String() || far.RemoteAddr().String() != near.LocalAddr().String() {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := n.DialContext(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nothing listens: %v", err)
	}
	return near, far
}

func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !Bubbled() {
			t.Error("this is a bubble")
		}
		near, far := pair(t)
		buf := make([]byte, 100)
		if _, err := near.(*wire).ReadNow(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("nothing there: %v", err)
		}
		began := time.Now()
		_ = near.SetDeadline(began.Add(time.Second))
		if _, err := near.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_, _ = far.Write([]byte("late"))
		if _, err := near.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past the deadline: %v", err)
		}
		if n, err := near.(*wire).ReadNow(buf); string(buf[:n]) != "late" || err != nil {
			t.Errorf("what is there: %q, %v", buf[:n], err)
		}
		_ = near.SetDeadline(time.Time{})
		much := bytes.Repeat([]byte("x"), 3*streamMax)
		go func() {
			_, _ = near.Write(much)
			_ = near.Close()
		}()
		if got, err := io.ReadAll(far); len(got) != len(much) || err != nil {
			t.Errorf("%d of %d octets, %v", len(got), len(much), err)
		}
		if _, err := near.Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed here: %v", err)
		}
		if _, err := far.Write(buf); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("closed there: %v", err)
		}
		_ = far.SetWriteDeadline(time.Now())
	})
}

// TestNetworkIsFull: a writer waits for its deadline, or its own end.
func TestNetworkIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t)
		defer far.Close() //nolint:errcheck // a test's
		_ = near.SetWriteDeadline(time.Now().Add(time.Hour))
		n, err := near.Write(make([]byte, 2*streamMax))
		if n != streamMax || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d octets, %v", n, err)
		}
		_ = near.SetWriteDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { _ = near.Close() })
		if _, err := near.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}
