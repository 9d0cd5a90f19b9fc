// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// startLimit bounds the start of a child, endLimit its end.
const (
	startLimit = 60 * time.Second
	endLimit   = 30 * time.Second
)

// process is a child: the gate, or the echo milter. Its standard error is read as journald would read it.
type process struct {
	name   string
	socket string // its milter's unix socket
	cmd    *exec.Cmd
	log    logCounter
	done   chan struct{}
	err    error // valid once done is closed
}

// start starts a child whose milter listens on socket, and waits until it does.
func start(ctx context.Context, name, socket string, args ...string) (*process, error) {
	p := &process{name: name, socket: socket, done: make(chan struct{})}
	p.cmd = exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // our own binary; stop ends it
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is the parent's to handle
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("starting %s: %w%s", name, err, p.log.tail())
	}
	return p, nil
}

// ready waits until the milter socket takes connections.
func (p *process) ready(ctx context.Context) error {
	deadline := time.Now().Add(startLimit)
	for {
		c, err := net.Dial("unix", p.socket) //nolint:noctx // a local socket connects at once or not at all
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return fmt.Errorf("it ended: %w", p.err)
		case <-time.After(time.Millisecond):
		}
	}
}

// stop ends the child and waits for it; a slow end is made a quick one.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(endLimit):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// cpu is the processor time the child has used so far (proc(5), /proc/PID/stat), in steps of 10 ms.
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11]) // numbers in this file
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// logCounter counts the lines of a log and keeps the last of them for error messages.
type logCounter struct {
	lines atomic.Int64
	mu    sync.Mutex
	last  []byte
}

const tailOctets = 2048

// Write counts. It is called by one goroutine of package exec.
func (l *logCounter) Write(p []byte) (int, error) {
	l.lines.Add(int64(bytes.Count(p, []byte{'\n'})))
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p) >= tailOctets {
		l.last = append(l.last[:0], p[len(p)-tailOctets:]...)
		return len(p), nil
	}
	l.last = append(l.last, p...)
	if over := len(l.last) - tailOctets; over > 0 {
		l.last = l.last[:copy(l.last, l.last[over:])]
	}
	return len(p), nil
}

// tail gives the end of the log, to be put behind an error.
func (l *logCounter) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == 0 {
		return ""
	}
	return "\n" + string(l.last)
}

var _ io.Writer = (*logCounter)(nil)

// freePort gives a loopback port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close() //nolint:errcheck // only its number is wanted
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("finding a free port: the listener has no TCP address")
	}
	return addr.Port, nil
}
