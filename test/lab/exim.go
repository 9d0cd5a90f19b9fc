// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// An Exim is a running Exim (exim4-daemon-light) as a server behind the gate.
type Exim struct {
	*Process
	// Port is the loopback TCP port of the daemon.
	Port int

	t testing.TB
}

// EximLimit is how many octets each mailbox may hold, and EximFull how a message is refused for which there is no room.
const (
	EximLimit = 1_000_000
	EximFull  = "452 4.2.2 Mailbox is full"
)

// Addr returns the address of the daemon.
func (e *Exim) Addr() string { return fmt.Sprintf("127.0.0.1:%d", e.Port) }

// eximConf verifies recipients at RCPT as Debian's configuration does: relaying first, then the routers. The replies are
// Exim's own ("Unrouteable address"), without enhanced status codes, except for a mailbox without room: that needs a line
// of the postmaster's, since Exim has no setting for it but "verify = recipient/quota". That runs Exim again with the
// rights of the delivery, which only an installed Exim, setuid root, has; so the line here compares the file's size itself.
const eximConf = `
primary_hostname = mail.behind.test
spool_directory = %[1]s/spool
log_file_path = %[1]s/%%s.log
pid_file_path =
local_interfaces = 127.0.0.1
host_lookup =
rfc1413_hosts =
keep_environment =
acl_smtp_rcpt = recipients
domainlist here = %[2]s
begin acl
recipients:
  deny !domains = +here
       message = relay not permitted
  require verify = recipient
  defer message = %[3]s
       condition = ${if >{${eval:${lookup{$local_part@$domain}lsearch{%[1]s/users}{${extract{size}{${stat:$value}}}}{0}} + \
                   ${if >{$message_size}{0}{$message_size}{1}}}}{%[4]d}}
  accept
begin routers
users:
  driver = accept
  domains = +here
  condition = ${lookup{$local_part@$domain}lsearch{%[1]s/users}{yes}{no}}
  transport = nowhere
begin transports
nowhere:
  driver = appendfile
  file = ${lookup{$local_part@$domain}lsearch{%[1]s/users}}
  user = mail
`

// eximUser is the user that Debian's Exim insists on. It is there for this Exim alone.
const eximUser = `for file in passwd group; do mount --bind "$1/$file" "/etc/$file"; done; shift; exec "$@"`

// StartExim starts an Exim that knows the addresses.
func StartExim(t testing.TB, addresses ...string) *Exim {
	t.Helper()
	Need(t, EximKit)
	e := &Exim{Port: FreePort(t), t: t}
	dir := NewDir(t, "exim")
	domains, users := map[string]string{}, ""
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		domains[address[strings.LastIndex(address, "@")+1:]] = ""
		write(t, dir, filepath.Join("mail", address), "")
		users += fmt.Sprintf("%s: %s\n", address, filepath.Join(dir, "mail", address))
	}
	write(t, dir, "users", users)
	write(t, dir, "exim.conf", fmt.Sprintf(eximConf, dir, strings.Join(keys(domains), " : "), EximFull, EximLimit))
	uid, gid := eximIDs(t, dir)
	if err := os.Chown(dir, uid, gid); err != nil { // its logs
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/unshare", "--mount", "/bin/sh", "-ec", eximUser, "sh", dir,
		EximKit.Path("usr/sbin/exim4"), "-C", filepath.Join(dir, "exim.conf"), "-bdf", "-oX", fmt.Sprintf("127.0.0.1.%d", e.Port))
	cmd.Env = EximKit.environment()
	e.Process = Start(t, "exim", dir, cmd)
	e.WaitFor(t, func() error { return Greets("tcp", e.Addr()) })
	return e
}

// Fill makes the mailbox of an address so large in octets.
func (e *Exim) Fill(address string, octets int64) {
	e.t.Helper()
	if err := os.Truncate(filepath.Join(e.Dir, "mail", address), octets); err != nil {
		e.t.Fatal(err)
	}
}

// eximIDs gives the ids of Exim's user, and writes the files that have it: the machine's own if it knows the user.
func eximIDs(t testing.TB, dir string) (uid, gid int) {
	t.Helper()
	uid, gid = 65003, 65003
	own, err := user.Lookup("Debian-exim")
	if err == nil {
		uid, _ = strconv.Atoi(own.Uid) // numbers on every Unix
		gid, _ = strconv.Atoi(own.Gid)
	}
	for file, line := range map[string]string{"passwd": "Debian-exim:x:65003:65003::/nonexistent:/bin/false\n", "group": "Debian-exim:x:65003:\n"} {
		text, err := os.ReadFile(filepath.Join("/etc", file))
		if err != nil {
			t.Fatal(err)
		}
		if own != nil {
			line = ""
		}
		write(t, dir, file, string(text)+line)
	}
	return uid, gid
}
