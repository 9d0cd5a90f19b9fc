// SPDX-License-Identifier: BSD-2-Clause

package clamd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReplies(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1000)
	for reply, want := range map[string]struct {
		name string
		kind Kind // of the error, where there is neither a name nor clean
		ok   bool
	}{
		"stream: OK":                    {ok: true},
		"stream: OK\n":                  {ok: true},
		"instream(local): OK":           {ok: true},
		"stream: Eicar-Signature FOUND": {name: "Eicar-Signature", ok: true},
		"stream: A B FOUND":             {name: "A B", ok: true},
		"stream: OK FOUND":              {name: "OK", ok: true},
		"stream: a: OK FOUND":           {name: "a: OK", ok: true},
		"stream: x\r\ny\x01 FOUND":      {name: "x  y ", ok: true},
		"stream: " + long + " FOUND":    {name: long[:200], ok: true},
		"stream: Win.Test.EICAR_HDB-1(44d88612fea8a8f36de82e1278abb02f:68) FOUND": {name: "Win.Test.EICAR_HDB-1", ok: true},
		"stream: Can't allocate memory ERROR":                                     {kind: Failed},
		"INSTREAM size limit exceeded. ERROR":                                     {kind: TooLong},
		"COMMAND READ TIMED OUT ERROR":                                            {kind: Failed},
		"stream: OK ERROR":                                                        {kind: Failed},
		"UNKNOWN COMMAND":                                                         {kind: Malformed},
		"COMMAND UNAVAILABLE":                                                     {kind: Malformed},
		"":                                                                        {kind: Malformed},
		"OK":                                                                      {kind: Malformed},
		"stream: ok":                                                              {kind: Malformed},
		"stream: OKAY":                                                            {kind: Malformed},
		"stream:OK":                                                               {kind: Malformed},
		"stream: OK ":                                                             {kind: Malformed},
		"other: OK":                                                               {kind: Malformed},
		"stream: FOUND":                                                           {kind: Malformed},
		"stream:  FOUND":                                                          {kind: Malformed},
		"1: stream: OK":                                                           {kind: Malformed},
		"PONG":                                                                    {kind: Malformed},
		long:                                                                      {kind: Malformed},
	} {
		got, err := parseReply(reply)
		if (err == nil) != want.ok || got.Name != want.name || err != nil && KindOf(err) != want.kind {
			t.Errorf("%.60q: %+v, %v; want %+v", reply, got, err, want)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%.60q: an error of %d octets", reply, len(err.Error()))
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"ClamAV 1.4.6/27123/Fri Nov 20 10:26:35 2026": "2026-11-20", "ClamAV 1.4.6/27123/Fri Nov  2 10:26:35 2026\n": "2026-11-02", "ClamAV 1.4.6": "0001-01-01", "": "0001-01-01",
		"a/b/c": "0001-01-01", "COMMAND UNAVAILABLE": "0001-01-01",
	} {
		if got := parseVersion(reply); got.Signatures.Format(time.DateOnly) != want || got.Text != strings.TrimSpace(reply) {
			t.Errorf("%q: %+v", reply, got)
		}
	}
}

// fake is a clamd that does as it is told with each connection.
func fake(t *testing.T, serve func(c net.Conn)) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // a test's
				serve(c)
			}()
		}
	}()
	return &Client{Network: "unix", Address: path}
}

// whole reads a stream as clamd does, and gives the message.
func whole(c net.Conn) []byte {
	var out []byte
	if cmd := make([]byte, 10); !readFull(c, cmd) || string(cmd) != "zINSTREAM\x00" {
		return nil
	}
	for {
		var n [4]byte
		if !readFull(c, n[:]) {
			return nil
		}
		size := int(n[0])<<24 | int(n[1])<<16 | int(n[2])<<8 | int(n[3])
		if size == 0 {
			return out
		}
		part := make([]byte, size)
		if !readFull(c, part) {
			return nil
		}
		out = append(out, part...)
	}
}

func readFull(c net.Conn, b []byte) bool { _, err := io.ReadFull(c, b); return err == nil }

// TestScan sends messages of many sizes, which must arrive octet by octet.
func TestScan(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	c := fake(t, func(c net.Conn) {
		got <- whole(c)
		_, _ = io.WriteString(c, "stream: OK\x00")
	})
	for _, size := range []int{0, 1, 1000, chunkMax - 1, chunkMax, chunkMax + 1, 3*chunkMax + 7} {
		text := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
		if f, err := c.Scan(t.Context(), bytes.NewReader(text), int64(size)); err != nil || f.Name != "" {
			t.Errorf("%d octets: %+v, %v", size, f, err)
		}
		if sent := <-got; !bytes.Equal(sent, text) {
			t.Errorf("%d octets: %d arrived, or others", size, len(sent))
		}
	}
}

// TestFaults has clamd do everything but its work: none of it is "clean".
func TestFaults(t *testing.T) {
	t.Parallel()
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) { whole(c); _, _ = io.WriteString(c, text) }
	}
	for name, tc := range map[string]struct {
		serve func(c net.Conn)
		kind  Kind
	}{
		"no answer":                  {func(c net.Conn) { whole(c); _, _ = c.Read(make([]byte, 1)) }, TimeOut},
		"does not read":              {func(c net.Conn) { time.Sleep(time.Hour) }, TimeOut},
		"end":                        {say(""), Closed},
		"half an answer":             {say("stream: O"), Closed},
		"an answer without its NUL":  {say("stream: OK"), Closed},
		"half an answer, then hangs": {func(c net.Conn) { whole(c); _, _ = io.WriteString(c, "stream: OK"); _, _ = c.Read(make([]byte, 1)) }, TimeOut},
		"an error":                   {say("stream: Can't allocate memory ERROR\x00"), Failed},
		"garbage":                    {say("\xff\xfe\x00"), Malformed},
		"nothing":                    {say("\x00"), Malformed},
		"an endless line": {func(c net.Conn) {
			whole(c)
			for line := bytes.Repeat([]byte("x"), 1<<20); ; {
				if _, err := c.Write(line); err != nil {
					return
				}
			}
		}, Malformed},
		"clean, before it had the message": {func(c net.Conn) { _, _ = io.WriteString(c, "stream: OK\x00") }, Malformed},
		"too long, while it is sent":       {func(c net.Conn) { _, _ = io.WriteString(c, "INSTREAM size limit exceeded. ERROR\x00") }, TooLong},
		"gone while it is sent":            {func(net.Conn) {}, Closed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fake(t, tc.serve)
			ctx := t.Context()
			if tc.kind == TimeOut {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Second)
				defer cancel()
			}
			f, err := c.Scan(ctx, bytes.NewReader(make([]byte, 8<<20)), 8<<20)
			if err == nil || KindOf(err) != tc.kind || f.Name != "" {
				t.Errorf("%+v, %v (%v); want %v", f, err, KindOf(err), tc.kind)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		c := &Client{Network: "unix", Address: filepath.Join(t.TempDir(), "none")}
		if _, err := c.Scan(t.Context(), strings.NewReader(""), 0); KindOf(err) != Connect {
			t.Error(err)
		}
		if _, err := c.Version(t.Context()); KindOf(err) != Connect {
			t.Error(err)
		}
	})
	t.Run("the message cannot be read", func(t *testing.T) {
		c := fake(t, say("stream: OK\x00"))
		if _, err := c.Scan(t.Context(), strings.NewReader("short"), 10); KindOf(err) != Unread || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := fake(t, func(c net.Conn) { whole(c); cancel(); _, _ = c.Read(make([]byte, 1)) })
		if _, err := c.Scan(ctx, strings.NewReader("text"), 4); KindOf(err) != TimeOut {
			t.Error(err)
		}
	})
	t.Run("found, before it had the message", func(t *testing.T) {
		c := fake(t, func(c net.Conn) { _, _ = io.WriteString(c, "stream: X FOUND\x00") })
		if f, err := c.Scan(t.Context(), bytes.NewReader(make([]byte, 8<<20)), 8<<20); err != nil || f.Name != "X" {
			t.Errorf("%+v, %v", f, err)
		}
	})
}

// TestVersion asks for the version, and has the connection end with the question.
func TestVersion(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	asked := func(answer string, stay bool) *Client {
		return fake(t, func(c net.Conn) {
			if cmd := make([]byte, 10); !readFull(c, cmd[:9]) || string(cmd[:9]) != "zVERSION\x00" {
				return
			}
			_, _ = io.WriteString(c, answer)
			if stay {
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}
		})
	}
	if v, err := asked("ClamAV 1.4.6/27123/Fri Nov 20 10:26:35 2026\x00", true).Version(t.Context()); err != nil || v.Text != "ClamAV 1.4.6/27123/Fri Nov 20 10:26:35 2026" {
		t.Errorf("%+v, %v", v, err)
	}
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the connection goes on: %v", err)
	}
	if _, err := asked("ClamAV", false).Version(t.Context()); KindOf(err) != Closed || !strings.Contains(err.Error(), "within its answer \"ClamAV\"") {
		t.Error(err)
	}
	if _, err := asked("", false).Version(t.Context()); KindOf(err) != Closed || !strings.Contains(err.Error(), "clamd closed the connection") || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // enough to connect and ask
	defer cancel()
	if _, err := asked("ClamAV", true).Version(ctx); KindOf(err) != TimeOut || !strings.Contains(err.Error(), "waiting for clamd's answer") {
		t.Error(err)
	}
	<-ended
}

// TestTheConnectionEndsWithTheScan holds that no scan leaves one behind.
func TestTheConnectionEndsWithTheScan(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c := fake(t, func(c net.Conn) {
		whole(c)
		_, _ = io.WriteString(c, strings.Repeat("x", replyMax-1)+"\x00")
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})
	_, err := c.Scan(t.Context(), strings.NewReader("text"), 4)
	if KindOf(err) != Malformed || !strings.Contains(err.Error(), "clamd answered") {
		t.Errorf("an answer of %d octets: %v", replyMax, err)
	}
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the connection goes on: %v", err)
	}
	for kind, word := range map[Kind]string{Connect: "connect", TimeOut: "timeout", Closed: "closed", Failed: "error", TooLong: "too-long", Malformed: "malformed", Unread: "unread"} {
		if kind.String() != word {
			t.Errorf("%d is %q", kind, kind)
		}
	}
	if KindOf(errors.New("another's")) != Malformed {
		t.Error("the kind of another's error")
	}
}

// FuzzReply holds that only the exact words mean "clean", and that nothing long or odd comes
// out.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{"stream: OK", "stream: X FOUND", "instream(local): OK", "INSTREAM size limit exceeded. ERROR", "stream: x ERROR", "stream: a(44d88612fea8a8f36de82e1278abb02f:68) FOUND", "UNKNOWN COMMAND", "stream:  \xff FOUND"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		got, err := parseReply(reply)
		trimmed := strings.TrimRight(reply, "\r\n")
		if err == nil && got.Name == "" && trimmed != "stream: OK" && !(strings.HasPrefix(trimmed, "instream(") && strings.HasSuffix(trimmed, ": OK")) {
			t.Errorf("%q is taken for clean", reply)
		}
		if err != nil && got.Name != "" || len(got.Name) > 2*nameMax || strings.ContainsAny(got.Name, "\r\n\x00") {
			t.Errorf("%q: %+v, %v", reply, got, err)
		}
		if v := parseVersion(reply); strings.ContainsAny(v.Text, "\r\n\x00") {
			t.Errorf("%q: %+v", reply, v)
		}
	})
}

// TestErrorsNameNoAddress, which whoever reports them does.
func TestErrorsNameNoAddress(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	at := l.Addr().String()
	if _, err := (&Client{Network: "tcp", Address: at}).Version(t.Context()); KindOf(err) != Connect || !strings.HasSuffix(err.Error(), "connection refused") || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("refused: %v", err)
	}
	silent := fake(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := silent.Version(ctx); err == nil || strings.Contains(err.Error(), silent.Address) {
		t.Errorf("silent: %v", err)
	}
}
