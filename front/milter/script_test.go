// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/front/milter"
	"rcptgate/front/milter/wire"
)

// TestWire plays the dialogues in testdata/wire, octet for octet. A line is
//
//	> X "data"     a frame to the filter, command X
//	< X "data"     the frame that must come back
//	>raw "octets"  octets to the filter
//	<close         the filter must end the connection
//	<open          the filter must not have (it answers a negotiation)
//	# remark
//
// with data as a Go string literal, empty if left out.
func TestWire(t *testing.T) {
	files, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			srv := start(t, &asker{}, milter.Config{FrameSize: 8192}, "unix")
			nc, err := net.Dial("unix", srv.socket.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(time.Minute))
			play(t, file, nc)
		})
	}
}

var anyFrame = func() *wire.Limits {
	var l wire.Limits
	for i := range l {
		l[i].Max = wire.FrameMax
	}
	return &l
}()

func play(t *testing.T, file string, nc net.Conn) {
	t.Helper()
	text, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	reader := wire.NewReader(nc, anyFrame)
	lines := bufio.NewScanner(text)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		if err := step(nc, reader, verb, rest); err != nil {
			t.Fatalf("%s:%d: %s: %v", file, n, line, err)
		}
	}
}

func step(nc net.Conn, reader *wire.Reader, verb, rest string) error {
	switch verb {
	case ">raw":
		octets, err := strconv.Unquote(rest)
		if err == nil {
			_, err = nc.Write([]byte(octets))
		}
		return err
	case "<close":
		if _, _, err := readFrame(reader); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			return errors.New("the connection is still open")
		}
		return nil
	case "<open":
		_, err := nc.Write(wire.AppendOptions(nil, wire.Options{Version: 6}))
		if err != nil {
			return err
		}
		_, _, err = readFrame(reader)
		return err
	}
	cmd, quoted, _ := strings.Cut(rest, " ")
	data := ""
	if quoted != "" {
		var err error
		if data, err = strconv.Unquote(quoted); err != nil {
			return err
		}
	}
	if verb == ">" {
		_, err := nc.Write(wire.AppendFrame(nil, cmd[0], []byte(data)...))
		return err
	}
	got, gotData, err := readFrame(reader)
	if err != nil {
		return err
	}
	if got != cmd[0] || string(gotData) != data {
		return errors.New("the filter says " + string(got) + " " + strconv.Quote(string(gotData)))
	}
	return nil
}

func readFrame(reader *wire.Reader) (byte, []byte, error) {
	for {
		cmd, data, ok, err := reader.Next()
		if ok || err != nil {
			return cmd, data, err
		}
		if err := reader.Fill(); err != nil {
			return 0, nil, err
		}
	}
}
