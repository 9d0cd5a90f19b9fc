// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// replyLimit bounds the wait for one reply: longer than any deadline of the gate (8 s) and of Sendmail (10 s) together.
const replyLimit = 60 * time.Second

// Reply is one reply of an SMTP or LMTP server (RFC 5321 section 4.2), every line kept.
type Reply struct {
	// Code is the reply code, 0 if the connection ended instead.
	Code int
	// Enhanced is the enhanced status code (RFC 3463) of the first line, empty if there is none.
	Enhanced string
	// Lines holds the text of each line without reply code and enhanced status code.
	Lines []string
	// Elapsed is the time from the command to the reply's last octet.
	Elapsed time.Duration
}

// Text returns all lines, joined with " / ".
func (r Reply) Text() string { return strings.Join(r.Lines, " / ") }

// String shows the reply as "550 5.1.1 text".
func (r Reply) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text()))
}

// Dialogue is an SMTP or LMTP connection to a server, driven one command at a time and unforgiving: what is not a
// reply is an error. It is not safe for concurrent use.
type Dialogue struct {
	conn net.Conn
	r    *bufio.Reader
	// Banner is the server's greeting.
	Banner Reply
}

// ClientHost is the address the lab's client calls from: Sendmail lets 127.0.0.1 relay to everywhere, and a gate may
// know 127.0.0.1 as the address of its own backend.
const ClientHost = "127.0.0.9"

// Dial connects and reads the banner, whatever it says.
func Dial(network, addr string) (*Dialogue, error) { return DialFrom(network, addr, ClientHost) }

// DialFrom is Dial from another address.
func DialFrom(network, addr, host string) (*Dialogue, error) {
	dialer := net.Dialer{Timeout: 30 * time.Second}
	if network == "tcp" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(host)}
	}
	conn, err := dialer.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	d := &Dialogue{conn: conn, r: bufio.NewReader(conn)}
	d.Banner, err = d.read()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("reading the banner of %s: %w", addr, err)
	}
	return d, nil
}

// MustDial connects, introduces itself with EHLO and closes the connection at the end of the test.
func MustDial(t testing.TB, addr string) *Dialogue {
	t.Helper()
	d, err := Dial("tcp", addr)
	if err != nil {
		t.Fatalf("connecting to %s: %v", addr, err)
	}
	t.Cleanup(d.Close)
	d.Must(t, 220, d.Banner)
	d.Must(t, 250, d.Do(t, "EHLO client.test"))
	return d
}

// Close says QUIT without waiting for the answer and closes the connection.
func (d *Dialogue) Close() {
	_, _ = d.conn.Write([]byte("QUIT\r\n"))
	_ = d.conn.Close()
}

// StartTLS begins TLS and introduces the client again; any certificate will do.
func (d *Dialogue) StartTLS(t testing.TB) {
	t.Helper()
	d.Must(t, 220, d.Do(t, "STARTTLS"))
	conn := tls.Client(d.conn, &tls.Config{InsecureSkipVerify: true}) // #nosec G402 -- a test's
	if err := conn.Handshake(); err != nil {
		t.Fatalf("beginning TLS: %v", err)
	}
	d.conn, d.r = conn, bufio.NewReader(conn)
	d.Must(t, 250, d.Do(t, "EHLO client.test"))
}

// Cmd sends one command line, given without its CRLF, and reads the reply.
func (d *Dialogue) Cmd(line string) (Reply, error) {
	began := time.Now()
	if _, err := d.conn.Write([]byte(line + "\r\n")); err != nil {
		return Reply{}, fmt.Errorf("sending %q: %w", line, err)
	}
	r, err := d.read()
	if err != nil {
		return r, fmt.Errorf("reading the reply to %q: %w", line, err)
	}
	r.Elapsed = time.Since(began)
	return r, nil
}

// Do is Cmd for tests: an error ends the test.
func (d *Dialogue) Do(t testing.TB, line string) Reply {
	t.Helper()
	r, err := d.Cmd(line)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Mail, Rcpt and Rset are the commands of a transaction; addresses are given without angle brackets.
func (d *Dialogue) Mail(t testing.TB, sender string) Reply {
	t.Helper()
	return d.Do(t, "MAIL FROM:<"+sender+">")
}

// Rcpt sends RCPT TO with the address as it stands.
func (d *Dialogue) Rcpt(t testing.TB, recipient string) Reply {
	t.Helper()
	return d.Do(t, "RCPT TO:<"+recipient+">")
}

// Rset ends the transaction.
func (d *Dialogue) Rset(t testing.TB) Reply {
	t.Helper()
	return d.Do(t, "RSET")
}

// Data sends a whole small message and returns the reply to its end.
func (d *Dialogue) Data(t testing.TB, body string) Reply {
	t.Helper()
	if r := d.Do(t, "DATA"); r.Code != 354 {
		return r
	}
	return d.Do(t, "Subject: lab\r\n\r\n"+body+"\r\n.")
}

// Must ends the test unless the reply has the code.
func (d *Dialogue) Must(t testing.TB, code int, r Reply) {
	t.Helper()
	if r.Code != code {
		t.Fatalf("reply %q, want %d", r, code)
	}
}

// read reads one reply, all its lines.
func (d *Dialogue) read() (Reply, error) {
	_ = d.conn.SetReadDeadline(time.Now().Add(replyLimit))
	var r Reply
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			return r, err
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 3 {
			return r, fmt.Errorf("not a reply: %q", line)
		}
		code, err := strconv.Atoi(line[:3])
		if err != nil {
			return r, fmt.Errorf("not a reply: %q: %w", line, err)
		}
		last := len(line) == 3 || line[3] == ' '
		enhanced, text := splitEnhanced(strings.TrimPrefix(strings.TrimPrefix(line[3:], "-"), " "))
		if len(r.Lines) == 0 {
			r.Code, r.Enhanced = code, enhanced
		} else if code != r.Code {
			return r, fmt.Errorf("reply changes its code from %d: %q", r.Code, line)
		}
		r.Lines = append(r.Lines, text)
		if last {
			return r, nil
		}
	}
}

// splitEnhanced separates an enhanced status code (RFC 3463: class.subject.detail) from the text that follows it.
func splitEnhanced(text string) (enhanced, rest string) {
	word, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return "", text
	}
	for _, part := range parts {
		if _, err := strconv.ParseUint(part, 10, 16); err != nil {
			return "", text
		}
	}
	return word, rest
}
