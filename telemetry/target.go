// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Where Linux listens for log messages.
const (
	journalSocket = "/run/systemd/journal/socket"
	syslogSocket  = "/dev/log"
)

// How long one write may take, and how long a socket that failed is left alone.
const (
	sendTimeout = time.Second
	retryAfter  = time.Second
)

func openTarget(name string, o Options) target {
	socket := func(usual string) string {
		if o.Socket != "" {
			return o.Socket
		}
		return usual
	}
	switch name {
	case "journald":
		return &datagrams{path: socket(journalSocket), encode: func(b []byte, r record) []byte { return append(b, r.line...) }}
	case "syslog":
		head := []byte("rcptgate[" + strconv.Itoa(os.Getpid()) + "]: ")
		return &datagrams{path: socket(syslogSocket), encode: func(b []byte, r record) []byte { return appendSyslog(b, head, r) }}
	}
	if o.Stderr != nil && o.Stderr != io.Writer(os.Stderr) {
		return &stream{out: o.Stderr}
	}
	f := standardError()
	return &stream{out: f, owned: f}
}

// standardError gives file 2 under another number. The Go runtime ends a process
// that writes to file 2 when nobody reads it any more; to lose the log must not be
// to lose the daemon.
func standardError() *os.File {
	fd, err := syscall.Dup(int(os.Stderr.Fd()))
	if err != nil {
		return os.NewFile(2, "stderr") // the number is used up: at least there is a log
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "stderr")
}

// isJournal reports whether f is the stream that journald gave the process, which
// $JOURNAL_STREAM names by device and inode (systemd.exec(5)).
func isJournal(f *os.File, stream string) bool {
	info, err := f.Stat()
	if err != nil || stream == "" {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// stream is standard error: many lines in one write.
type stream struct {
	out   io.Writer
	owned io.Closer // nil if out is the caller's
	buf   []byte
	err   error // of the last write
}

// streamChunk is the most that is given to one write.
const streamChunk = 256 << 10

func (t *stream) write(records []record) (sent int) {
	done := 0
	for i, r := range records {
		t.buf = append(t.buf, r.line...)
		if len(t.buf) < streamChunk && i+1 < len(records) {
			continue
		}
		_, t.err = t.out.Write(t.buf)
		t.buf = t.buf[:0]
		if t.err != nil {
			return done
		}
		done = i + 1
	}
	return done
}

func (t *stream) trouble() error { return t.err }

func (t *stream) close() {
	if t.owned != nil {
		_ = t.owned.Close()
	}
}

// datagrams is a local socket that takes one datagram a line, or, where syslog
// listens on a stream, lines ended by NUL.
type datagrams struct {
	path   string
	encode func([]byte, record) []byte
	conn   net.Conn
	onLine bool // a stream
	failed time.Time
	err    error // why the last record did not go out
	buf    []byte
}

func (t *datagrams) write(records []record) (sent int) {
	if t.conn == nil && !t.dial() {
		return 0
	}
	_ = t.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	for _, r := range records {
		t.buf = t.encode(t.buf[:0], r)
		if t.onLine {
			t.buf = append(t.buf, 0)
		}
		_, err := t.conn.Write(t.buf)
		if errors.Is(err, syscall.EMSGSIZE) {
			continue // counted as lost by the caller
		}
		if err != nil {
			t.fail(err)
			return sent
		}
		t.err = nil
		sent++
	}
	return sent
}

func (t *datagrams) dial() bool {
	if time.Since(t.failed) < retryAfter {
		return false
	}
	conn, err := net.DialTimeout("unixgram", t.path, sendTimeout)
	t.onLine = errors.Is(err, syscall.EPROTOTYPE)
	if t.onLine {
		conn, err = net.DialTimeout("unix", t.path, sendTimeout)
	}
	if err != nil {
		t.failed, t.err = time.Now(), err
		return false
	}
	t.conn = conn
	return true
}

func (t *datagrams) fail(err error) {
	t.close()
	t.failed, t.err = time.Now(), err
}

func (t *datagrams) trouble() error { return t.err }

func (t *datagrams) close() {
	if t.conn != nil {
		_ = t.conn.Close()
		t.conn = nil
	}
}

// facilityMail is syslog's facility 2.
const facilityMail = 2

// appendSyslog writes "<PRI>Mmm dd hh:mm:ss tag[pid]: line", without a host name
// as local loggers do: the syslog daemon adds it.
func appendSyslog(b, head []byte, r record) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facilityMail*8+int(r.priority)), 10)
	b = append(b, '>')
	b = time.Unix(0, r.at).AppendFormat(b, time.Stamp)
	b = append(append(b, ' '), head...)
	line := r.line
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	return append(b, line...)
}
