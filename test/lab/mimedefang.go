// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A MIMEDefang is a running MIMEDefang: the milter, its multiplexor and the Perl workers.
type MIMEDefang struct {
	// Port is the loopback TCP port of the milter.
	Port int
	// Multiplexor has the workers for children.
	Multiplexor *Process
}

// mimedefangUser is who MIMEDefang runs as; it does not run as root.
const mimedefangUser = 65004

// inMIMEDefang shows a program the kit's files at their usual places, which are compiled in, and the user "defang".
const inMIMEDefang = `dir=$1 kit=$2; shift 2
for d in usr etc; do mount -t overlay overlay -o lowerdir="$kit/$d:/$d" "/$d"; done
for file in passwd group; do mount --bind "$dir/$file" "/etc/$file"; done
mount --bind "$dir/filter" /etc/mail/mimedefang-filter
exec "$@"`

// StartMIMEDefang starts MIMEDefang with a filter (mimedefang-filter(5)) and that many Perl workers. All functions of
// the filter are called. Its spool is in memory, as its documentation advises.
func StartMIMEDefang(t testing.TB, filter string, workers int) *MIMEDefang {
	t.Helper()
	Need(t, MIMEDefangKit)
	m := &MIMEDefang{Port: FreePort(t)}
	dir := NewDir(t, "mimedefang")
	write(t, dir, "filter", filter)
	for file, line := range map[string]string{"passwd": "defang:x:%d:%d::/nonexistent:/bin/false\n", "group": "defang:x:%d:\n"} {
		text, err := os.ReadFile(filepath.Join("/etc", file))
		if err != nil {
			t.Fatal(err)
		}
		args := []any{mimedefangUser, mimedefangUser}
		if file == "group" {
			args = args[:1]
		}
		write(t, dir, file, fmt.Sprintf(line, args...)+string(text)) // the first of a name counts
	}
	spool, err := os.MkdirTemp("/dev/shm", "mimedefang-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(spool) })
	for _, d := range []string{dir, spool} {
		if err := os.Chown(d, mimedefangUser, mimedefangUser); err != nil {
			t.Fatal(err)
		}
	}
	start := func(name string, ready func() error, args ...string) *Process {
		t.Helper()
		cmd := exec.Command("/usr/bin/unshare", append([]string{
			"--mount", "--propagation", "private", "/bin/sh", "-ec", inMIMEDefang, "sh", dir, MIMEDefangKit.Root()}, args...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC"}
		p := Start(t, name, dir, cmd)
		p.WaitFor(t, ready)
		return p
	}
	connects := func(network, addr string) func() error {
		return func() error {
			c, err := net.DialTimeout(network, addr, time.Second)
			if err == nil {
				_ = c.Close()
			}
			return err
		}
	}
	mux, n := filepath.Join(dir, "mux.sock"), fmt.Sprint(workers)
	// Workers are not replaced while a test runs (-r), and requests wait for one rather than fail (-q).
	m.Multiplexor = start("mimedefang-multiplexor", connects("unix", mux), "/usr/bin/mimedefang-multiplexor", "-D", "-U", "defang",
		"-m", n, "-x", n, "-w", "0", "-W", "0", "-r", "100000000", "-b", "600", "-q", "128", "-Q", "60", "-I", "256",
		"-z", spool, "-s", mux)
	start("mimedefang", connects("tcp", fmt.Sprintf("127.0.0.1:%d", m.Port)), "/usr/bin/mimedefang", "-D", "-U", "defang", "-t", "-s", "-q", "-y", "-X", "-b", "256",
		"-z", spool, "-m", mux, "-p", fmt.Sprintf("inet:%d@127.0.0.1", m.Port))
	return m
}
