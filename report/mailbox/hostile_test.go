// SPDX-License-Identifier: BSD-2-Clause

package mailbox

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestManyTinyHeaders: messages without an empty line are not searched for one again and
// again. It took half a minute.
func TestManyTinyHeaders(t *testing.T) {
	const n = 200_000
	name := write(t, strings.Repeat(from+"A: b\n", n), t.TempDir(), "mbox")
	begin := processor(t)
	got, _ := read(t, Options{}, name)
	if len(got) != n || got[n-1] != "A: b\n" {
		t.Errorf("%d messages, the last %q", len(got), got[len(got)-1])
	}
	if took := processor(t) - begin; took > 8*time.Second {
		t.Errorf("%v", took)
	}
}

// processor is the time that the process has had of the processors: that which passes is also
// other programs'.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestEndlessFile: reading can be interrupted in the middle of a message.
func TestEndlessFile(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := Walk(ctx, []string{"-"}, Options{Keep: 1024, Stdin: &cancelling{cancel}}, func(*Message) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// cancelling is a file without end, such as a device, that cancels when it is read.
type cancelling struct{ cancel context.CancelFunc }

func (c *cancelling) Read(p []byte) (int, error) {
	c.cancel()
	clear(p)
	return len(p), nil
}
