// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/kit/testkit"
)

// quietBuffer is a standard error that is written while the test reads.
type quietBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *quietBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *quietBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// A log that nobody takes is told on standard error when that begins and when it ends,
// once each, and shown meanwhile.
func TestALostLogIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testkit.Dir(t), "socket")
	var stderr quietBuffer
	s := start(t, func(c *Config) { c.Target = "journald" }, Options{Socket: path, Stderr: &stderr})
	up := func() bool {
		return values(s)["log_up"] == 1
	}
	if s.Trouble() != nil || !up() {
		t.Error("in trouble before anything was written")
	}
	for range 3 {
		s.Logger().Error("lost")
		s.Flush(10 * time.Second)
	}
	trouble := s.Trouble()
	if trouble == nil || !strings.Contains(trouble.String(), path) || up() {
		t.Errorf("trouble: %v", trouble)
	}
	if n := strings.Count(stderr.text(), "\n"); n != 1 || !strings.Contains(stderr.text(), "\"journald\" cannot be written to") {
		t.Errorf("standard error: %q", stderr.text())
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if line := receive(t, conn); !strings.Contains(line, "log lines were dropped") || !strings.Contains(line, "count=3") {
		t.Errorf("the log begins again with %q", line) // and without a new line
	}
	for end := time.Now().Add(30 * time.Second); s.Trouble() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still in trouble")
		}
	}
	s.Flush(10 * time.Second) // the line is written behind
	if text := stderr.text(); !up() || strings.Count(text, "\n") != 2 || !strings.Contains(text, "works again") || !strings.Contains(text, "3 lines dropped") {
		t.Errorf("standard error: %q", text)
	}
}
