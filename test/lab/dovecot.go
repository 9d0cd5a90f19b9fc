// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Dovecot is a running Dovecot that speaks LMTP (RFC 2033) and answers for existence and quota at RCPT.
type Dovecot struct {
	*Process
	// Port is the loopback TCP port of LMTP.
	Port int
	// Socket is the unix socket of LMTP.
	Socket string

	t    testing.TB
	conf string
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
	d := &Dovecot{Port: FreePort(t), Socket: filepath.Join(dir, "lmtp"), t: t}
	uid, gid := lookupIDs(t, "postfix", "postfix")
	var users strings.Builder
	for _, user := range append(append([]string{}, o.Users...), o.Full...) {
		home := filepath.Join(dir, "mail", user)
		message := filepath.Join(home, "Maildir", "new", "1.lab")
		for _, sub := range []string{"new", "cur", "tmp"} {
			if err := os.MkdirAll(filepath.Join(home, "Maildir", sub), 0o700); err != nil {
				t.Fatalf("making a mailbox: %v", err)
			}
		}
		if err := os.WriteFile(message, []byte("Subject: lab\n\n"+strings.Repeat("x", 4<<10)+"\n"), 0o600); err != nil {
			t.Fatalf("filling a mailbox: %v", err)
		}
		if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", uid, gid), filepath.Join(dir, "mail")).CombinedOutput(); err != nil {
			t.Fatalf("making a mailbox: %v: %s", err, out)
		}
		rule := "*:storage=100M"
		if contains(o.Full, user) {
			rule = "*:bytes=1024"
		}
		fmt.Fprintf(&users, "%s:{PLAIN}x:%d:%d::%s::userdb_quota_rule=%s\n", user, uid, gid, home, rule)
	}
	write(t, dir, "users", users.String())
	d.conf = write(t, dir, "dovecot.conf", dovecotConf(dir, d.Port, o.QuotaFullTempfail))
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
func dovecotConf(dir string, port int, tempfail bool) string {
	full := "no"
	if tempfail {
		full = "yes"
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
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
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
		at("users"), port, at("lmtp"), full)
}
