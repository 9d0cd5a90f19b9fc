// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"rcptgate/kit/testkit"
)

// socketPair is a socket and the other end of its connection.
func socketPair(t *testing.T) (*socket, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(nc)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), peer.Close() })
	_ = s.SetDeadline(time.Now().Add(time.Minute))
	_ = peer.SetDeadline(time.Now().Add(time.Minute))
	return s, peer
}

// Whatever its size, what is to be written goes out before the reply is waited for.
func TestASocketWritesThenReads(t *testing.T) {
	for _, size := range []int{1, 100, 8 << 20} {
		s, peer := socketPair(t)
		got := make(chan int, 1)
		go func() {
			n, _ := io.ReadFull(peer, make([]byte, size))
			_, _ = peer.Write([]byte("reply"))
			got <- n
		}()
		s.out = bytes.Repeat([]byte("x"), size)
		buf := make([]byte, 100)
		n, err := s.Read(buf)
		if err != nil || string(buf[:n]) != "reply" || s.unquiet || <-got != size {
			t.Errorf("%d octets: read %q, %v", size, buf[:n], err)
		}
	}
}

// What has arrived before, or the end, is given instead, and nothing is written.
func TestASocketThatIsNotQuiet(t *testing.T) {
	for _, tc := range []struct {
		arrived string
		err     error
	}{{"421 bye", nil}, {"", io.EOF}} {
		s, peer := socketPair(t)
		_, _ = peer.Write([]byte(tc.arrived))
		if tc.err != nil {
			_ = peer.(*net.TCPConn).CloseWrite()
		}
		s.now = true
		buf := make([]byte, 1)
		testkit.Eventually(t, "it arrives", func() bool {
			n, err := s.Read(buf)
			return n > 0 || errors.Is(err, io.EOF)
		})
		s.now = false
		if tc.arrived != "" {
			tc.arrived = tc.arrived[1:]
		}
		s.out = []byte("RSET\r\n")
		buf = make([]byte, 100)
		n, err := s.Read(buf)
		if !s.unquiet || string(buf[:n]) != tc.arrived || !errors.Is(err, tc.err) {
			t.Errorf("read %q, %v; unquiet: %v", buf[:n], err, s.unquiet)
		}
		_ = s.Close()
		if sent, _ := io.ReadAll(peer); len(sent) != 0 {
			t.Errorf("%q was written", sent)
		}
	}
}

// A time-out between writing and the reply does not write twice.
func TestASocketThatTimesOut(t *testing.T) {
	s, peer := socketPair(t)
	_ = s.SetDeadline(time.Now().Add(20 * time.Millisecond))
	s.out = []byte("RSET\r\n")
	buf := make([]byte, 100)
	if n, err := s.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d octets, %v", n, err)
	}
	_ = s.SetDeadline(time.Now().Add(time.Minute))
	_, _ = peer.Write([]byte("250 Ok\r\n"))
	if n, err := s.Read(buf); err != nil || string(buf[:n]) != "250 Ok\r\n" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	_ = s.Close()
	if sent, _ := io.ReadAll(peer); string(sent) != "RSET\r\n" {
		t.Errorf("%q was written", sent)
	}
}
