// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/kit/testkit"
	"rcptgate/store"
)

// slowGate answers after a while unless its context ends first.
type slowGate time.Duration

func (slowGate) Wants() rcptgate.Wants { return 0 }

func (g slowGate) Ask(ctx context.Context, _ *rcptgate.Query) rcptgate.Verdict {
	select {
	case <-ctx.Done():
		return rcptgate.CouldNotFindOut
	case <-time.After(time.Duration(g)):
		return rcptgate.Verdict{Reason: rcptgate.ReasonValid}
	}
}

// slowMemory looks long for what it gives.
type slowMemory struct {
	*memory
	pause time.Duration
}

func (m slowMemory) Range(ctx context.Context, p store.Pattern, f func(string, store.Record) bool) error {
	time.Sleep(m.pause)
	err := m.memory.Range(ctx, p, f)
	time.Sleep(m.pause)
	return err
}

// The time for want of progress is that of reading and writing: what the daemon needs
// to find its answer does not end the request.
func TestSlowAnswersAreNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = time.Second
		mem := newMemory(t)
		mem.Learn("ann@example.com", time.Now(), func(store.Record) store.Record { return valid(now()) })
		s := New(Options{Gate: slowGate(2 * stall), Memory: slowMemory{mem, 3 * stall / 2}})
		s.stall = stall
		var network testkit.Network
		l, err := network.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		defer func() { cancel(); <-served }()
		c := newClient("", func(ctx context.Context, kind, _ string) (net.Conn, error) {
			return network.DialContext(ctx, kind, l.Addr().String())
		})
		defer c.Close()
		r, err := c.Check(ctx, CheckRequest{Recipient: "ann@example.com"})
		if err != nil || r.Reason != string(rcptgate.ReasonValid) {
			t.Errorf("check: %+v, %v", r, err)
		}
		var out bytes.Buffer
		if n, err := c.Export(ctx, "", &out, nil); err != nil || n != 1 || !strings.Contains(out.String(), "ann@example.com") {
			t.Errorf("export: %d, %v: %s", n, err, out.String())
		}
	})
}

// As many slow clients as there may be connections keep nobody from the daemon, whether
// they have sent half a header or no body: no time-out ends them here.
func TestSlowClientsDoNotKeepOthersOut(t *testing.T) {
	s := New(Options{Gate: slowGate(0), Memory: newMemory(t)})
	s.stall, s.http.ReadHeaderTimeout = time.Hour, time.Hour
	path := filepath.Join(testkit.Dir(t), "admin.sock")
	l, err := listenOn(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	defer func() { cancel(); <-served }()
	for i := range maxConnections {
		slow, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = slow.Close() }()
		text := "POST /v1/check HTTP/1.1\r\nHost: rcptgate\r\nContent-Length: 100\r\n\r\n"
		if i%2 == 0 {
			text = text[:30]
		}
		if _, err := io.WriteString(slow, text); err != nil {
			t.Fatal(err)
		}
	}
	patience, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	c := NewClient(path)
	defer c.Close()
	if _, err := c.Version(patience); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Check(patience, CheckRequest{Recipient: "ann@example.com"}); err != nil || r.Reason != string(rcptgate.ReasonValid) {
		t.Errorf("check: %+v, %v", r, err)
	}
}
