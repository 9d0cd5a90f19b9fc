// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Dovecot is a running Dovecot that speaks LMTP (RFC 2033) and answers for existence and quota at RCPT.
type Dovecot struct {
	*Process
	// Port is the loopback TCP port of LMTP.
	Port int
	// Socket is the unix socket of LMTP.
	Socket string
	// Quota says where the quota services listen, if DovecotOptions.Quota started them.
	Quota DovecotQuota

	t        testing.TB
	conf     string
	uid, gid int
	rules    map[string]string // user → quota rule
	written  int               // how often the file of users was written
}

// DovecotOptions says which mailboxes a Dovecot has.
type DovecotOptions struct {
	// Name is used in messages; default "dovecot".
	Name string
	// Users are the addresses of mailboxes with room.
	Users []string
	// Full are the addresses of mailboxes over their quota.
	Full []string
	// QuotaFullTempfail is quota_full_tempfail: 452 4.2.2 in place of Dovecot's default 552 5.2.2.
	QuotaFullTempfail bool
	// Quota also starts quota-status and doveadm's services: see DovecotQuota.
	Quota bool
	// Maildirsize counts by the file maildirsize (quota = maildir) and not by the index (quota = count).
	Maildirsize bool
	// Grace is quota_grace, "0" by default.
	Grace string
}

// Addr returns the TCP address of LMTP.
func (d *Dovecot) Addr() string { return fmt.Sprintf("127.0.0.1:%d", d.Port) }

// StartDovecot starts a Dovecot with lmtp_rcpt_check_quota=yes.
func StartDovecot(t testing.TB, o DovecotOptions) *Dovecot {
	t.Helper()
	Need(t, DovecotKit)
	if o.Name == "" {
		o.Name = "dovecot"
	}
	dir := NewDir(t, o.Name)
	d := &Dovecot{Port: FreePort(t), Socket: filepath.Join(dir, "lmtp"), t: t, rules: map[string]string{}}
	d.uid, d.gid = lookupIDs(t, "postfix", "postfix")
	for _, user := range append(append([]string{}, o.Users...), o.Full...) {
		d.rules[user] = "*:storage=100M"
		if contains(o.Full, user) {
			d.rules[user] = "*:bytes=1024"
		}
		d.makeMailbox(dir, user)
		d.deliver(dir, user, 4<<10)
	}
	d.writeUsers(dir)
	conf := dovecotConf(dir, d.Port, o)
	if o.Quota {
		d.Quota = newDovecotQuota(t, dir)
		conf += d.Quota.conf(dir)
	}
	d.conf = write(t, dir, "dovecot.conf", conf)
	d.start(o.Name, dir)
	return d
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

// home is the directory that holds a user's Maildir.
func home(dir, user string) string { return filepath.Join(dir, "mail", user) }

// makeMailbox makes an empty Maildir.
func (d *Dovecot) makeMailbox(dir, user string) {
	d.t.Helper()
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(home(dir, user), "Maildir", sub), 0o700); err != nil {
			d.t.Fatalf("making a mailbox: %v", err)
		}
	}
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", d.uid, d.gid), filepath.Join(dir, "mail")).CombinedOutput(); err != nil {
		d.t.Fatalf("making a mailbox: %v: %s", err, out)
	}
}

// deliver puts a message of the size in octets (at least 14) into a mailbox as a program without quota would.
func (d *Dovecot) deliver(dir, user string, size int) {
	d.t.Helper()
	name := filepath.Join(home(dir, user), "Maildir", "new", fmt.Sprintf("%d.lab%d", time.Now().UnixNano(), size))
	text := "Subject: lab\n\n" + strings.Repeat("x", max(size-14, 0))
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		d.t.Fatalf("filling a mailbox: %v", err)
	}
	if err := os.Chown(name, d.uid, d.gid); err != nil {
		d.t.Fatalf("filling a mailbox: %v", err)
	}
}

// writeUsers writes the file of users, which Dovecot reads again when its size or the second it was written in differs,
// so each writing has a second of its own.
func (d *Dovecot) writeUsers(dir string) {
	d.t.Helper()
	var users strings.Builder
	for _, user := range keys(d.rules) {
		fmt.Fprintf(&users, "%s:{PLAIN}x:%d:%d::%s::userdb_quota_rule=%s\n", user, d.uid, d.gid, home(dir, user), d.rules[user])
	}
	name := write(d.t, dir, "users.new", users.String())
	d.written++
	stamp := time.Now().Add(time.Duration(d.written) * time.Hour)
	if err := os.Chtimes(name, stamp, stamp); err != nil {
		d.t.Fatalf("writing Dovecot's users: %v", err)
	}
	if err := os.Rename(name, filepath.Join(dir, "users")); err != nil {
		d.t.Fatalf("writing Dovecot's users: %v", err)
	}
}

// overUsr runs a program with the kit laid over /usr, for this process and its children alone: the paths of doveconf
// and of LMTP's modules are compiled in.
const overUsr = `set -e
mount -t overlay overlay -o "lowerdir=$1:/usr" /usr; shift
exec "$@"`

// start runs the master and waits for the banner.
func (d *Dovecot) start(name, dir string) {
	d.t.Helper()
	cmd := exec.Command("/usr/bin/unshare", "--mount", "/bin/sh", "-c", overUsr, "sh", DovecotKit.Path("usr"),
		"/usr/sbin/dovecot", "-F", "-c", d.conf)
	cmd.Env = DovecotKit.environment()
	d.Process = Start(d.t, name, dir, cmd)
	d.WaitFor(d.t, func() error { return Greets("tcp", d.Addr()) })
}

// dovecotConf returns dovecot.conf for Dovecot 2.3.
func dovecotConf(dir string, port int, o DovecotOptions) string {
	full, backend := "no", "count"
	if o.QuotaFullTempfail {
		full = "yes"
	}
	if o.Maildirsize {
		backend = "maildir"
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	return fmt.Sprintf(`base_dir = %[1]s
state_dir = %[2]s
log_path = %[3]s
import_environment = TZ LD_LIBRARY_PATH
protocols = lmtp
listen = 127.0.0.1
hostname = mail.behind.test
ssl = no
default_internal_user = postfix
default_internal_group = postfix
default_login_user = postfix
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_plugins = quota
auth_mechanisms = plain
auth_username_format = %%Lu
lmtp_rcpt_check_quota = yes
passdb {
  driver = passwd-file
  args = username_format=%%u %[4]s
}
userdb {
  driver = passwd-file
  args = username_format=%%u %[4]s
}
plugin {
  quota = %[8]s:User quota
  quota_vsizes = yes
  quota_grace = %[9]s
}
quota_full_tempfail = %[7]s
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = %[5]d
  }
  unix_listener %[6]s {
    mode = 0666
  }
}
service stats {
  chroot =
}
service anvil {
  chroot =
}
`, at("run"), at("state"), at("mail.log"),
		at("users"), port, at("lmtp"), full, backend, cmp.Or(o.Grace, "0"))
}
