// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/store"
)

// slowGate answers after a while unless its context ends first.
type slowGate time.Duration

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
	const stall = time.Second
	mem := newMemory(t)
	mem.Learn("ann@example.com", time.Now(), func(store.Record) store.Record { return valid(now()) })
	s := New(Options{Gate: slowGate(2 * stall), Memory: slowMemory{mem, 3 * stall / 2}})
	s.stall = stall
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	defer func() { cancel(); <-served }()
	c := NewClient(path)
	defer c.Close()
	r, err := c.Check(ctx, CheckRequest{Recipient: "ann@example.com"})
	if err != nil || r.Reason != string(rcptgate.ReasonValid) {
		t.Errorf("check: %+v, %v", r, err)
	}
	var out bytes.Buffer
	if n, err := c.Export(ctx, "", &out, nil); err != nil || n != 1 || !strings.Contains(out.String(), "ann@example.com") {
		t.Errorf("export: %d, %v: %s", n, err, out.String())
	}
}
