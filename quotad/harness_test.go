// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/check/quota/wire"
)

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// clock is a clock to set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// put writes a file, its folders included.
func put(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// configure reads a configuration from a text.
func configure(t testing.TB, text string) (*Config, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "agent.toml")
	put(t, name, text)
	return LoadConfig(name)
}

// open makes an agent of a configuration; its clock can be set.
func open(t testing.TB, text string) (*Agent, *clock, *logs) {
	t.Helper()
	c, err := configure(t, text)
	if err != nil {
		t.Fatal(err)
	}
	out := &logs{}
	a, err := New(c, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	at := &clock{at: time.Now()}
	a.now = at.now
	if err := a.Adopt(c); err != nil { // stores take the clock
		t.Fatal(err)
	}
	return a, at, out
}

// one asks about an unknown size.
func one(a *Agent, user string) wire.Answer { return a.Ask(context.Background(), user, 0) }

// says compares state, used and limit.
func says(t testing.TB, a wire.Answer, state wire.State, used, hard int64) {
	t.Helper()
	if a.State != state || a.Used != used || a.Hard != hard {
		t.Errorf("%+v, want %v, used %d, limit %d", a, state, used, hard)
	}
}

// section is a [[store]] below a root.
func section(kind, root, path, more string) string {
	return fmt.Sprintf("[[store]]\ntype = %q\nroot = %q\npath = %q\n%s\n", kind, root, path, more)
}
