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
}

// Addr returns the address of the daemon.
func (e *Exim) Addr() string { return fmt.Sprintf("127.0.0.1:%d", e.Port) }

// eximConf verifies recipients at RCPT as Debian's configuration does: relaying first, then the routers. The replies are
// Exim's own ("Unrouteable address"), without enhanced status codes.
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
  file = /dev/null
  user = mail
`

// eximUser is the user that Debian's Exim insists on. It is there for this Exim alone.
const eximUser = `for file in passwd group; do mount --bind "$1/$file" "/etc/$file"; done; shift; exec "$@"`

// StartExim starts an Exim that knows the addresses.
func StartExim(t testing.TB, addresses ...string) *Exim {
	t.Helper()
	Need(t, EximKit)
	e := &Exim{Port: FreePort(t)}
	dir := NewDir(t, "exim")
	domains := map[string]string{}
	for _, address := range addresses {
		domains[address[strings.LastIndex(address, "@")+1:]] = ""
	}
	write(t, dir, "users", strings.Join(addresses, ":\n")+":\n")
	write(t, dir, "exim.conf", fmt.Sprintf(eximConf, dir, strings.Join(keys(domains), " : ")))
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
