// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// DovecotQuota says where the services of a Dovecot listen that answer questions about quotas. All know the same
// mailboxes as LMTP.
type DovecotQuota struct {
	// PolicyPort is the loopback TCP port of quota-status, the policy service. It says "OK", "554 5.2.2 ..." or, for
	// users it does not know, "REJECT Unknown user"; Policy is its unix socket.
	PolicyPort int
	Policy     string
	// Doveadm is the unix socket of the doveadm protocol, which asks for no password; DoveadmPort the loopback TCP port
	// of the same, which does.
	Doveadm     string
	DoveadmPort int
	// HTTPPort is the loopback TCP port of doveadm's HTTP API (POST /doveadm/v1).
	HTTPPort int
	// Password is doveadm_password, Key is doveadm_api_key.
	Password, Key string
}

// PolicyAddr is the TCP address of quota-status.
func (q DovecotQuota) PolicyAddr() string { return fmt.Sprintf("127.0.0.1:%d", q.PolicyPort) }

// DoveadmAddr is the TCP address of the doveadm protocol.
func (q DovecotQuota) DoveadmAddr() string { return fmt.Sprintf("127.0.0.1:%d", q.DoveadmPort) }

// URL is the address of doveadm's HTTP API.
func (q DovecotQuota) URL() string { return fmt.Sprintf("http://127.0.0.1:%d/doveadm/v1", q.HTTPPort) }

func newDovecotQuota(t testing.TB, dir string) DovecotQuota {
	return DovecotQuota{
		PolicyPort: FreePort(t), Policy: filepath.Join(dir, "quota-status"),
		Doveadm: filepath.Join(dir, "run", "doveadm-server"), DoveadmPort: FreePort(t), HTTPPort: FreePort(t),
		Password: "lab-password", Key: "lab-key",
	}
}

// conf is what the services need in dovecot.conf.
func (q DovecotQuota) conf(string) string {
	return fmt.Sprintf(`service quota-status {
  executable = quota-status -p postfix
  inet_listener {
    address = 127.0.0.1
    port = %[1]d
  }
  unix_listener %[2]s {
    mode = 0666
  }
  client_limit = 1
}
service doveadm {
  unix_listener doveadm-server {
    mode = 0600
  }
  inet_listener {
    address = 127.0.0.1
    port = %[3]d
  }
  inet_listener http {
    address = 127.0.0.1
    port = %[4]d
  }
}
doveadm_password = %[5]s
doveadm_api_key = %[6]s
`, q.PolicyPort, q.Policy, q.DoveadmPort, q.HTTPPort, q.Password, q.Key)
}

// Home is the directory that holds the user's Maildir.
func (d *Dovecot) Home(user string) string { return home(d.Dir, user) }

// Maildir is the user's Maildir; with DovecotOptions.Maildirsize its file maildirsize is there once Dovecot has counted.
func (d *Dovecot) Maildir(user string) string { return filepath.Join(d.Home(user), "Maildir") }

// SetRule gives a mailbox, made if it is new, another quota: "*:storage=100M", "*:bytes=1024:messages=10", or
// "*:storage=0" for no limit. It holds from the next question on.
func (d *Dovecot) SetRule(user, rule string) {
	d.t.Helper()
	if _, ok := d.rules[user]; !ok {
		d.makeMailbox(d.Dir, user)
	}
	d.rules[user] = rule
	d.writeUsers(d.Dir)
	d.WaitFor(d.t, func() error { // Dovecot looks at the file once a second
		got, err := d.doveadm("user", "-f", "quota_rule", user)
		if got = strings.TrimSpace(got); err != nil || got != rule {
			return fmt.Errorf("the rule of %s is still %q: %w", user, got, err)
		}
		return nil
	})
}

// SetLimit gives a mailbox a limit in octets, 0 for none.
func (d *Dovecot) SetLimit(user string, octets int64) {
	d.t.Helper()
	d.SetRule(user, fmt.Sprintf("*:bytes=%d", octets))
}

// Fill adds one message of the size in octets to the mailbox whatever its limit, and has Dovecot count it.
func (d *Dovecot) Fill(user string, octets int) {
	d.t.Helper()
	d.deliver(d.Dir, user, octets)
	d.count(user)
}

// Empty removes every message of the mailbox.
func (d *Dovecot) Empty(user string) {
	d.t.Helper()
	d.Doveadm("expunge", "-u", user, "mailbox", "*", "all")
	d.count(user)
}

// count has Dovecot look at the mailbox and count it anew.
func (d *Dovecot) count(user string) {
	d.t.Helper()
	d.Doveadm("mailbox", "status", "-u", user, "messages", "INBOX")
	d.Doveadm("quota", "recalc", "-u", user)
}

// Usage is what Dovecot says of a mailbox: used and limit in KiB, -1 for no limit.
func (d *Dovecot) Usage(user string) (used, limit int64) {
	d.t.Helper()
	out := d.Doveadm("-f", "tab", "quota", "get", "-u", user)
	for line := range strings.Lines(out) { // Quota name, Type, Value, Limit, %
		if f := strings.Split(line, "\t"); len(f) > 3 && f[1] == "STORAGE" {
			used, _ = strconv.ParseInt(f[2], 10, 64)
			if limit = -1; f[3] != "-" {
				limit, _ = strconv.ParseInt(f[3], 10, 64)
			}
			return used, limit
		}
	}
	d.t.Fatalf("doveadm names no quota of %s: %s", user, out)
	return 0, 0
}

// Doveadm runs doveadm(1) next to the server and returns what it printed; it fails the test if doveadm fails.
func (d *Dovecot) Doveadm(args ...string) string {
	d.t.Helper()
	out, err := d.doveadm(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *Dovecot) doveadm(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	all := append([]string{"--mount", fmt.Sprintf("--target=%d", d.Pid()), "--", "/usr/bin/doveadm", "-c", d.conf}, args...)
	cmd := exec.CommandContext(ctx, "/usr/bin/nsenter", all...)
	cmd.Env = DovecotKit.environment()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running doveadm %s: %w\n%s%s", strings.Join(args, " "), err, out, errs.Bytes())
	}
	return string(out), nil
}

// AskPolicy asks quota-status for room for a message of the size in octets and returns the action it names.
func (d *Dovecot) AskPolicy(user string, size int64) (string, error) {
	c, err := net.DialTimeout("tcp", d.Quota.PolicyAddr(), 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // nothing is pending
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(c, "request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=%s\nsize=%d\n\n", user, size); err != nil {
		return "", err
	}
	var text []byte
	for buf := make([]byte, 512); !bytes.HasSuffix(text, []byte("\n\n")); {
		n, err := c.Read(buf)
		if text = append(text, buf[:n]...); err != nil {
			return string(text), fmt.Errorf("reading the answer of quota-status: %w", err)
		}
	}
	return strings.TrimPrefix(strings.TrimSpace(string(text)), "action="), nil
}
