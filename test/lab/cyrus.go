// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Cyrus is a running Cyrus: smmapd, which answers questions for room in Sendmail's socket map
// protocol; LMTP; and the IMAP server, with which tests make, fill and empty mailboxes.
type Cyrus struct {
	*Process
	// Smmap is the loopback TCP address of smmapd, LMTP the one of lmtpd.
	Smmap, LMTP string

	t    testing.TB
	imap string
}

// cyrusConf names imapd.conf each time: the master does not hand it on.
const cyrusConf = `START {
  recover cmd="%[1]s/ctl_cyrusdb -C %[2]s/imapd.conf -r"
}
SERVICES {
  imap cmd="%[1]s/imapd -C %[2]s/imapd.conf" listen="%[3]s" prefork=0
  lmtp cmd="%[1]s/lmtpd -C %[2]s/imapd.conf -a" listen="%[4]s" prefork=0
  smmap cmd="%[1]s/smmapd -C %[2]s/imapd.conf" listen="%[5]s" prefork=0
}
`

// imapdConf lets everybody in whom the lab's saslauthd lets in. Users are whole addresses.
const imapdConf = `configdirectory: %[1]s/conf
partition-default: %[1]s/spool
defaultpartition: default
servername: cyrus.test
admins: cyrus
cyrus_user: postfix
cyrus_group: postfix
virtdomains: userid
defaultdomain: cyrus.test
unixhierarchysep: yes
allowplaintext: yes
sasl_mech_list: PLAIN
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: %[1]s/mux
`

// StartCyrus starts a Cyrus with mailboxes for the users, which are addresses. None has a quota.
func StartCyrus(t testing.TB, users ...string) *Cyrus {
	t.Helper()
	Need(t, CyrusKit)
	dir := NewDir(t, "cyrus")
	c := &Cyrus{t: t}
	for _, at := range []*string{&c.imap, &c.LMTP, &c.Smmap} {
		*at = fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	}
	for _, sub := range []string{"conf/socket", "spool"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "cyrus.conf", fmt.Sprintf(cyrusConf, CyrusKit.Path("usr/lib/cyrus/bin"), dir, c.imap, c.LMTP, c.Smmap))
	write(t, dir, "imapd.conf", fmt.Sprintf(imapdConf, dir))
	letIn(t, filepath.Join(dir, "mux"))
	uid, gid := lookupIDs(t, "postfix", "postfix")
	run(t, CyrusKit, dir, "/bin/chown", "-R", fmt.Sprintf("%d:%d", uid, gid), dir)
	cmd := exec.Command(CyrusKit.Path("usr/lib/cyrus/bin/master"), "-C", filepath.Join(dir, "imapd.conf"),
		"-M", filepath.Join(dir, "cyrus.conf"), "-p", filepath.Join(dir, "master.pid"))
	cmd.Env = CyrusKit.environment()
	c.Process = Start(t, "cyrus", dir, cmd)
	c.WaitFor(t, func() error { _, err := c.session("cyrus", "NOOP"); return err })
	for _, user := range users {
		c.do("cyrus", fmt.Sprintf("CREATE user/%s", user))
	}
	return c
}

// letIn is a saslauthd (its protocol: four counted texts, answered by one) that refuses nobody.
func letIn(t testing.TB, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatalf("listening as saslauthd: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(socket, 0o777); err != nil { //nolint:gosec // a test's own directory
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for range 4 {
				var n uint16
				if binary.Read(c, binary.BigEndian, &n) != nil {
					break
				}
				_, _ = io.CopyN(io.Discard, c, int64(n))
			}
			_, _ = c.Write([]byte("\x00\x02OK"))
			_ = c.Close()
		}
	}()
}

// SetLimit gives a mailbox a quota in KiB; -1 takes it away.
func (c *Cyrus) SetLimit(user string, kib int64) {
	c.t.Helper()
	limits := ""
	if kib >= 0 {
		limits = fmt.Sprintf("STORAGE %d", kib)
	}
	c.do("cyrus", fmt.Sprintf("SETQUOTA user/%s (%s)", user, limits))
}

// SetMessages gives a mailbox a quota of messages alone.
func (c *Cyrus) SetMessages(user string, n int) {
	c.t.Helper()
	c.do("cyrus", fmt.Sprintf("SETQUOTA user/%s (MESSAGE %d)", user, n))
}

// Fill adds one message of the size in octets, which must be within the limit.
func (c *Cyrus) Fill(user string, octets int) {
	c.t.Helper()
	head := "From: <a@lab.test>\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\nSubject: lab\r\n\r\n"
	text := head + strings.Repeat("x", max(octets-len(head), 0))
	c.do(user, fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(text), text))
}

// Empty removes every message of the mailbox.
func (c *Cyrus) Empty(user string) {
	c.t.Helper()
	c.do(user, "SELECT INBOX", `UID STORE 1:* +FLAGS.SILENT (\Deleted)`, "EXPUNGE")
}

// Ask puts one key to smmapd and returns its reply: "OK ann@cyrus.test", "NOTFOUND ...".
func (c *Cyrus) Ask(key string) (string, error) {
	conn, err := net.DialTimeout("tcp", c.Smmap, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // nothing is pending
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	request := "lab " + key
	if _, err := fmt.Fprintf(conn, "%d:%s,", len(request), request); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	count, err := r.ReadString(':')
	if err != nil {
		return "", fmt.Errorf("reading the reply of smmapd: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(count, ":"))
	if err != nil || n > 4096 {
		return "", fmt.Errorf("smmapd replies %q", count)
	}
	text := make([]byte, n+1) // and a comma
	_, err = io.ReadFull(r, text)
	return string(text[:n]), err
}

func (c *Cyrus) do(user string, commands ...string) {
	c.t.Helper()
	if out, err := c.session(user, commands...); err != nil {
		c.t.Fatalf("IMAP as %s: %v\n%s", user, err, out)
	}
}

// session logs in and gives the commands, and returns what the server said.
func (c *Cyrus) session(user string, commands ...string) (out string, err error) {
	conn, err := net.DialTimeout("tcp", c.imap, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // nothing is pending
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	r := bufio.NewReader(conn)
	if out, err = r.ReadString('\n'); err != nil || !strings.HasPrefix(out, "* OK") {
		return out, errors.Join(errNoBanner, err)
	}
	for i, command := range append([]string{fmt.Sprintf("LOGIN %s x", user)}, commands...) {
		tag := fmt.Sprintf("t%d ", i)
		if _, err := fmt.Fprintf(conn, "%s%s\r\n", tag, command); err != nil {
			return out, err
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return out, err
			}
			out += line
			if rest, ok := strings.CutPrefix(line, tag); ok {
				if !strings.HasPrefix(rest, "OK") {
					return out, fmt.Errorf("%.40s: %s", command, strings.TrimSpace(rest))
				}
				break
			}
		}
	}
	return out, nil
}
