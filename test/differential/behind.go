// SPDX-License-Identifier: BSD-2-Clause

package differential

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

// Behind is the mail server behind the gateway. Unlike backend/sim it takes messages: the MTA in front really delivers to
// it. It knows the local parts "good" and "fine" in every domain, in whatever case and quoted or not, but without details,
// answers "later" with 450, and refuses all others.
type Behind struct{ listener net.Listener }

// StartBehind starts the server; it ends with the test.
func StartBehind(t testing.TB) *Behind {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	b := &Behind{listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return b
}

// Addr returns where the server listens.
func (b *Behind) Addr() string { return b.listener.Addr().String() }

// serve is one connection.
func (b *Behind) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // a server of a test
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	reply := "220 mail.behind.test ESMTP"
	for {
		_, _ = w.WriteString(reply + "\r\n")
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply = "250-mail.behind.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES"
		case "HELO", "MAIL", "RSET", "NOOP":
			reply = "250 2.0.0 Ok"
		case "RCPT":
			reply = recipient(rest)
		case "DATA":
			_, _ = w.WriteString("354 go on\r\n")
			if w.Flush() != nil || !message(r) {
				return
			}
			reply = "250 2.0.0 Ok: taken"
		case "QUIT":
			_, _ = w.WriteString("221 2.0.0 Bye\r\n") // after the reply to what came in the same packet
			_ = w.Flush()
			return
		default:
			reply = "502 5.5.2 What?"
		}
	}
}

// message reads a message to its end.
func message(r *bufio.Reader) bool {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return err == nil
		}
	}
}

// recipient is the reply to "TO:<address>".
func recipient(arg string) string {
	_, addr, _ := strings.Cut(arg, "<")
	addr, _, _ = strings.Cut(addr, ">")
	local := addr[:max(strings.LastIndex(addr, "@"), 0)]
	if n := len(local); n > 1 && local[0] == '"' && local[n-1] == '"' {
		local = strings.ReplaceAll(local[1:n-1], `\`, "")
	}
	switch strings.ToLower(local) {
	case "good", "fine":
		return "250 2.1.5 Ok"
	case "later":
		return "450 4.2.1 Not now"
	}
	return "550 5.1.1 <" + addr + ">: User unknown"
}
