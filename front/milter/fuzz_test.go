// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/front/milter"
	"rcptgate/front/milter/wire"
)

// FuzzConnection sends any octets to a server: the connection must end when they do,
// every reply must be one that an MTA takes, and the server must live.
func FuzzConnection(f *testing.F) {
	servers := map[bool]*running{}
	for _, messages := range []bool{false, true} {
		servers[messages] = start(f, &forgetful{messages}, milter.Config{}, "unix")
		for _, octets := range dialogues(f) {
			f.Add(octets, messages)
		}
	}
	f.Add(wholeMessage(), true)
	f.Fuzz(func(t *testing.T, octets []byte, messages bool) {
		srv := servers[messages]
		nc, err := net.Dial("unix", srv.socket.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = nc.Write(octets) // the server may end the connection first
			_ = nc.(*net.UnixConn).CloseWrite()
		}()
		reader := wire.NewReader(nc, anyFrame)
		for {
			cmd, data, err := readFrame(reader)
			if err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, wire.ErrFrame) {
					t.Fatalf("the connection did not end well: %v", err)
				}
				break
			}
			if wire.Needs(cmd) != 0 {
				if _, err := wire.ParseChange(cmd, data); err != nil {
					t.Fatal(err)
				}
			}
			if cmd == wire.ReplyCode {
				if _, err := wire.ParseReply(data); err != nil {
					t.Fatal(err)
				}
			}
		}
		<-sent
		if srv.log.panics.Load() > 0 {
			t.Fatalf("the server panicked: %s", srv.log)
		}
	})
}

// wholeMessage is a transaction with header and body, of which one recipient is discarded.
func wholeMessage() []byte {
	b := wire.AppendOptions(nil, wire.Options{Version: wire.Version, Actions: wire.ActionsAll, Protocol: wire.ProtocolAll})
	b = wire.AppendConnect(b, "c.example", wire.FamilyIPv4, 25, "192.0.2.7")
	b = wire.AppendStrings(b, wire.CmdMail, "<s@c.example>")
	for _, rcpt := range []string{"<a@in.test>", "<ab@in.test>", "<abc@in.test>"} {
		b = wire.AppendStrings(b, wire.CmdRcpt, rcpt)
	}
	b = wire.AppendStrings(b, wire.CmdHeader, "Subject", " one")
	b = wire.AppendFrame(b, wire.CmdBody, []byte("body\r\n")...)
	return wire.AppendFrame(b, wire.CmdEndOfMsg)
}

// forgetful refuses everything with the recipient as text. Of messages it edits what it is given with what
// it is given.
type forgetful struct{ messages bool }

func (g *forgetful) Wants() rcptgate.Wants {
	if g.messages {
		return wantsAll | rcptgate.WantConnect | rcptgate.WantHelo | rcptgate.WantMail | rcptgate.WantSession
	}
	return 0
}

func (*forgetful) Ask(_ context.Context, q *rcptgate.Query) rcptgate.Verdict {
	if m := q.Message; m != nil {
		for _, f := range m.Fields {
			_ = m.AddHeader(f.Name, f.Value)
			_ = m.InsertHeader(f.Text(), f.Name)
			_ = m.DeleteHeader(f.Name, len(f.Value))
			_ = m.AddRecipient(f.Text())
		}
		_ = m.ChangeSender(q.Sender)
		_ = m.ReplaceBody(m.Body, m.Size)
		return rcptgate.Verdict{Action: rcptgate.Action(m.Size % 8), Text: q.Sender}
	}
	return rcptgate.Verdict{Action: rcptgate.Action(len(q.Recipient.Path) % 8), Code: len(q.Recipient.Path), Enhanced: q.NextHop.Host, Text: q.Recipient.Path + "\n" + q.Sender + q.Helo}
}

// dialogues gives what the MTA says in testdata/wire.
func dialogues(f *testing.F) (all [][]byte) {
	files, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var octets []byte
		for line := range strings.Lines(string(text)) {
			verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			cmd, quoted, _ := strings.Cut(rest, " ")
			switch data, _ := strconv.Unquote(quoted); verb {
			case ">":
				octets = wire.AppendFrame(octets, cmd[0], []byte(data)...)
			case ">raw":
				raw, _ := strconv.Unquote(rest)
				octets = append(octets, raw...)
			}
		}
		all = append(all, octets)
	}
	return all
}
