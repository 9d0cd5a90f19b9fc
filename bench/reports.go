// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// The mailbox that reports read, and what they may need for it.
const (
	mailboxSize  = 1 << 30 // octets
	reportSpeed  = 100     // MB a second of processor time
	reportMemory = 64      // MiB
)

// ordinary is a message of 10 KB, complaint one that carries it: 1 in 10 of the mailbox.
var (
	ordinary = "From sender@example.net Sat Nov 28 10:00:00 2026\nFrom: Some One <sender@example.net>\nTo: good@example.com\n" +
		"Subject: some words of a subject\nMessage-Id: <1@example.net>\nContent-Type: text/plain; charset=utf-8\n\n" +
		strings.Repeat(strings.Repeat("words of a text ", 4)+"\n", 150) + "\n"
	complaint = "From fbl@provider.example Sat Nov 28 10:00:00 2026\nFrom: <fbl@provider.example>\nTo: abuse@example.com\nSubject: complaint\n" +
		"MIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\n\n--b\nContent-Type: text/plain\n\nA complaint.\n\n" +
		"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: FBL/1\nVersion: 1\nSource-IP: 192.0.2.1\n" +
		"Original-Rcpt-To: good@example.com\n\n--b\nContent-Type: message/rfc822\n\n" + strings.SplitN(ordinary, "\n", 2)[1] + "--b--\n\n"
	mailboxBlock = []byte(strings.Repeat(ordinary, 9) + complaint)
)

// reports measures how fast the reports read a mailbox of a gigabyte on standard input, and in how much memory.
func reports(ctx context.Context, b *bench, t *Table) error {
	for _, args := range [][]string{{"arf", "--by", "type", "-"}, {"benford", "-"}} {
		c := exec.CommandContext(ctx, b.Binary, append([]string{"report"}, args...)...) // #nosec G204 -- our own binary
		memory, merr := 0.0, error(nil)
		c.Stdin = &ending{Reader: io.LimitReader(&repeating{block: mailboxBlock}, mailboxSize), end: func() { memory, merr = resident(c.Process.Pid) }}
		c.Env = append(c.Environ(), "GOMAXPROCS=1")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("report %s: %w\n%s", args[0], err, bytes.TrimSpace(out))
		}
		if merr != nil {
			return merr
		}
		state := c.ProcessState
		speed := mailboxSize / 1e6 / (state.UserTime() + state.SystemTime()).Seconds()
		t.Bar("report "+args[0]+" on a mailbox of 1 GiB, one processor", fmt.Sprintf("%.0f MB/s, at most %.0f MiB resident", speed, memory),
			fmt.Sprintf("%d MB/s, %d MiB", reportSpeed, reportMemory), speed >= reportSpeed && memory <= reportMemory,
			map[string]float64{"mb_per_s": speed, "mib": memory})
	}
	return nil
}

// resident gives the most memory that a process has had resident so far, in MiB. The maximum of getrusage(2) will not do:
// it counts what the process that started it had before execve(2).
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:") // proc_pid_status(5)
	var kib float64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		return 0, fmt.Errorf("/proc/%d/status has no VmHWM: %w", pid, err)
	}
	return kib / 1024, nil
}

// ending calls end when there is nothing more to read.
type ending struct {
	io.Reader
	end func()
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil && e.end != nil {
		e.end()
		e.end = nil
	}
	return n, err
}

// repeating reads as one block again and again.
type repeating struct {
	block []byte
	at    int
}

func (r *repeating) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}
