// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a listener whose accepts end as told: nil is a connection.
type scripted struct {
	net.Listener
	ends []error
}

func (s *scripted) Accept() (net.Conn, error) {
	err := net.ErrClosed
	if len(s.ends) > 0 {
		err, s.ends = s.ends[0], s.ends[1:]
	}
	if err != nil {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	ours, theirs := net.Pipe()
	return ours, theirs.Close()
}

// TestAccept holds that a shortage is waited out, longer each time, and that a listener that is
// broken is not asked again.
func TestAccept(t *testing.T) {
	full := syscall.EMFILE
	for _, tt := range []struct {
		name         string
		ends         []error
		taken, short int
		fails        error
		took         time.Duration
	}{
		{"closed", nil, 0, 0, net.ErrClosed, 0},
		{"two connections", []error{nil, nil}, 2, 0, net.ErrClosed, 0},
		{"a shortage between", []error{nil, full, full, nil}, 2, 1, net.ErrClosed, 15 * time.Millisecond},
		{"two shortages", []error{full, nil, full, nil}, 2, 1, net.ErrClosed, 10 * time.Millisecond},
		{"the client has gone", []error{syscall.ECONNABORTED, nil}, 1, 1, net.ErrClosed, 5 * time.Millisecond},
		{"a long shortage", slices.Repeat([]error{full}, 20), 0, 2, net.ErrClosed, 1275*time.Millisecond + 12*time.Second},
		{"broken", []error{nil, syscall.EBADF, nil}, 1, 0, syscall.EBADF, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				taken, short, start := 0, 0, time.Now()
				err := Accept(&scripted{ends: tt.ends}, func(nc net.Conn) { taken++; _ = nc.Close() }, func(error) { short++ })
				if !errors.Is(err, tt.fails) || taken != tt.taken || short != tt.short || time.Since(start) != tt.took {
					t.Errorf("%d taken, %d shortages, %v after %v", taken, short, err, time.Since(start))
				}
			})
		})
	}
}

// TestExchangeLosesAListener holds that a listener that breaks ends the whole Exchange with its
// error, so that the program notices, instead of leaving it to answer on the others.
func TestExchangeLosesAListener(t *testing.T) {
	t.Parallel()
	good, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := Exchange{Name: "lines", Most: 4, Idle: time.Minute, Frame: time.Minute, Drain: time.Minute, Size: 100, Log: slog.New(slog.DiscardHandler)}
	bad := &scripted{Listener: good, ends: []error{syscall.EBADF}}
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(t.Context(), bad, good) }()
	select {
	case err := <-ended:
		if !errors.Is(err, syscall.EBADF) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on without one of its listeners")
	}
}
