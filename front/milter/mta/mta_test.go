// SPDX-License-Identifier: BSD-2-Clause

package mta

import (
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/front/milter/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// filter answers each write it reads with the next of replies, which may be empty, and
// gives what it read, one string a write.
func filter(t *testing.T, replies ...[]byte) (nc net.Conn, heard func() []string) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	var writes []string
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, err := there.Read(buf)
			if err != nil {
				return
			}
			writes = append(writes, string(buf[:n]))
			if len(replies) == 0 {
				continue
			}
			if len(replies[0]) > 0 {
				if _, err := there.Write(replies[0]); err != nil {
					return
				}
			}
			replies = replies[1:]
		}
	}()
	closeBoth := func() { _ = here.Close(); _ = there.Close(); <-done }
	t.Cleanup(closeBoth)
	return here, func() []string { closeBoth(); return writes }
}

func options(version, actions, protocol uint32) []byte {
	return wire.AppendOptions(nil, wire.Options{Version: version, Actions: actions, Protocol: protocol})
}

func TestNegotiationIsJudged(t *testing.T) {
	for name, tc := range map[string]struct {
		reply []byte
		want  string
	}{
		"newer version":   {options(7, 0, 0), "version"},
		"version 1":       {options(1, 0, 0), "version"},
		"unknown action":  {options(6, 0x200, 0), "actions"},
		"unknown flag":    {options(6, 0, 0x200000), "protocol flags"},
		"another command": {wire.AppendFrame(nil, wire.ReplyContinue), "answered"},
		"no milter":       {[]byte("220 mx.example ESMTP\r\n"), "malformed"},
		"cut off":         {wire.AppendFrame(nil, wire.CmdOptions, 0, 0), "12 are needed"},
	} {
		nc, _ := filter(t, tc.reply)
		if _, err := New(nc, Options{Timeout: 10 * time.Second}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResponses(t *testing.T) {
	frame := func(cmd byte, data string) []byte { return wire.AppendFrame(nil, cmd, []byte(data)...) }
	for _, tc := range []struct {
		reply []byte
		want  Response
		fails bool
	}{
		{reply: frame('c', "")},
		{reply: frame('a', ""), want: Response{Action: rcptgate.Accept}},
		{reply: frame('d', ""), want: Response{Action: rcptgate.Discard}},
		{reply: frame('r', ""), want: Response{Action: rcptgate.Reject, Code: 550, Enhanced: "5.7.1"}},
		{reply: frame('t', ""), want: Response{Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.7.1"}},
		{reply: frame('y', "452 4.2.2 full 100%%\x00"), want: Response{Action: rcptgate.Tempfail, Code: 452, Enhanced: "4.2.2", Text: "full 100%"}},
		{reply: append(frame('p', ""), frame('c', "")...)},
		{reply: frame('y', "452 full 100%\x00"), fails: true},
		{reply: frame('h', "Subject\x00changed\x00"), fails: true},
		{reply: options(6, 0, 0), fails: true},
	} {
		nc, _ := filter(t, options(6, 0, 0), tc.reply)
		c, err := New(nc, Options{Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Rcpt("u@example.com")
		if (err != nil) != tc.fails || (err == nil && !reflect.DeepEqual(got, tc.want)) {
			t.Errorf("%q: %+v, %v", tc.reply, got, err)
		}
	}
}

// What is switched off is not sent, what has no answer is not waited for, and macros
// go with their command (Postfix) or apart (Sendmail).
func TestWrites(t *testing.T) {
	macro := []wire.Macro{{Name: "i", Value: "Q"}}
	mailMacro, mail := wire.AppendMacros(nil, 'M', macro), wire.AppendStrings(nil, 'M', "<s@x>", "SIZE=1")
	rcptMacro, rcpt := wire.AppendMacros(nil, 'R', macro), wire.AppendStrings(nil, 'R', "<u@x>")
	postfix := []string{string(mailMacro) + string(mail) + string(rcptMacro) + string(rcpt)}
	sendmail := []string{string(mailMacro), string(mail), string(rcptMacro), string(rcpt)}
	for _, two := range []bool{false, true} {
		none := []byte{}
		replies := [][]byte{options(6, 0, wire.NoHelo|wire.NoReplyMail), wire.AppendFrame(nil, 'c')}
		want := postfix
		if two {
			replies = [][]byte{replies[0], none, none, none, replies[1]}
			want = sendmail
		}
		nc, heard := filter(t, replies...)
		c, err := New(nc, Options{Timeout: 10 * time.Second, TwoWrites: two})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := c.Helo("x"); err != nil || !r.Skipped {
			t.Errorf("HELO: %+v, %v", r, err)
		}
		if r, err := c.Mail("s@x", []string{"SIZE=1"}, macro...); err != nil || !r.Skipped {
			t.Errorf("MAIL: %+v, %v", r, err)
		}
		if r, err := c.Rcpt("u@x", macro...); err != nil || r.Skipped {
			t.Errorf("RCPT: %+v, %v", r, err)
		}
		if writes := heard()[1:]; strings.Join(writes, "|") != strings.Join(want, "|") {
			t.Errorf("two writes %v: wrote %q, want %q", two, writes, want)
		}
	}
}

func TestConnectFamilies(t *testing.T) {
	for addr, want := range map[string]string{
		"":                 "n\x00U",
		"192.0.2.7:25":     "n\x004\x00\x19192.0.2.7\x00",
		"[2001:db8::7]:25": "n\x006\x00\x192001:db8::7\x00",
	} {
		nc, heard := filter(t, options(6, 0, 0), wire.AppendFrame(nil, 'c'))
		c, err := New(nc, Options{Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		at, _ := netip.ParseAddrPort(addr)
		if _, err := c.Connect("n", at); err != nil {
			t.Fatal(err)
		}
		if writes := heard(); writes[1] != string(wire.AppendFrame(nil, 'C', []byte(want)...)) {
			t.Errorf("%s: wrote %q", addr, writes[1])
		}
	}
}
