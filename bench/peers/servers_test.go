// SPDX-License-Identifier: BSD-2-Clause

//go:build peers

package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// workers is the number of Perl processes of MIMEDefang: as many as there are connections, so that none waits for one.
const workers = 8

// peersDir is where install.sh puts the programs unless RCPTGATE_PEERS says otherwise.
func peersDir() string {
	if dir := os.Getenv("RCPTGATE_PEERS"); dir != "" {
		return dir
	}
	return "/var/cache/rcptgate-peers"
}

// inKit is a command that sees the kit's files at their usual places, in a mount namespace of its own:
// MIMEDefang's paths are compiled in. FILTER in env is its filter.
func inKit(kit string, env []string, args ...string) *exec.Cmd {
	script := `for d in usr etc; do mount -t overlay overlay -o lowerdir="$1/$d":/$d /$d || exit 1; done
		[ -z "$FILTER" ] || mount --bind "$FILTER" /etc/mail/mimedefang-filter || exit 1
		shift; exec "$@"`
	cmd := exec.Command("/usr/bin/unshare", append([]string{
		"--mount", "--propagation", "private", "/bin/sh", "-c", script, "kit", filepath.Join(peersDir(), kit),
	}, args...)...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, env...)
	return cmd
}

// writeFile writes a file of a server's configuration that its user can read.
func writeFile(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // other users read it
		t.Fatal(err)
	}
	return path
}

// run runs a short command to its end.
func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// answers reports whether somebody listens on a unix socket.
func answers(path string) func() error {
	return func() error {
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
}

// startMIMEDefang starts memcached, the multiplexor with its Perl workers and the milter, and returns the milter's
// socket. Its spool is in memory, as its documentation advises.
func startMIMEDefang(t testing.TB, backend string) string {
	t.Helper()
	dir := lab.NewDir(t, "mimedefang")
	spool, err := os.MkdirTemp("/dev/shm", "mimedefang-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(spool) })
	run(t, "chown", "defang:defang", dir, spool)
	filter, err := filepath.Abs("filter.pl")
	if err != nil {
		t.Fatal(err)
	}
	memory := filepath.Join(dir, "memcached.sock")
	mux, socket := filepath.Join(dir, "mux.sock"), filepath.Join(dir, "milter.sock")
	n := fmt.Sprint(workers)

	lab.Start(t, "memcached", dir, inKit("mimedefang", nil,
		"/usr/bin/memcached", "-u", "defang", "-m", "64", "-t", "2", "-s", memory, "-a", "0777")).WaitFor(t, answers(memory))
	env := []string{"FILTER=" + filter, "RCPTGATE_PEER_MEMCACHED=" + memory, "RCPTGATE_PEER_BACKEND=" + backend}
	// Workers are not replaced while they are measured (-r), and requests wait for one rather than fail (-q).
	lab.Start(t, "mimedefang-multiplexor", dir, inKit("mimedefang", env,
		"/usr/bin/mimedefang-multiplexor", "-D", "-U", "defang", "-m", n, "-x", n, "-w", "0", "-W", "0", "-r", "100000000",
		"-b", "600", "-q", "128", "-Q", "60", "-I", "256", "-z", spool, "-s", mux)).WaitFor(t, answers(mux))
	lab.Start(t, "mimedefang", dir, inKit("mimedefang", nil,
		"/usr/bin/mimedefang", "-D", "-U", "defang", "-t", "-q", "-y", "-b", "256", "-z", spool, "-m", mux, "-p", socket)).WaitFor(t, answers(socket))
	return socket
}

// eximConf is a gateway that relays one domain to the backend and verifies each recipient by a callout, with its
// callout cache. The limits that would end a long session of a load generator are lifted.
const eximConf = `
primary_hostname = mx.gate.test
spool_directory = %[1]s/spool
log_file_path = %[1]s/exim-%%s.log
pid_file_path = %[1]s/exim.pid
exim_user = Debian-exim
exim_group = Debian-exim
local_interfaces = 127.0.0.1
daemon_smtp_ports = %[2]d
tls_advertise_hosts =
rfc1413_query_timeout = 0s
smtp_accept_max = 200
smtp_accept_queue = 0
smtp_accept_max_nonmail = 100000000
smtp_accept_max_per_connection = 100000000
disable_ipv6
acl_smtp_rcpt = rcpt

begin acl
rcpt:
  require domains = example.com
  require verify = recipient/callout=30s
  accept

begin routers
inward:
  driver = manualroute
  domains = example.com
  route_list = * 127.0.0.1
  transport = inward
  self = send

begin transports
inward:
  driver = smtp
  port = %[3]s
  allow_localhost
  hosts_avoid_tls = *
`

// startExim returns the address of its SMTP server.
func startExim(t testing.TB, backend string) string {
	t.Helper()
	dir := lab.NewDir(t, "exim")
	run(t, "install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", dir+"/spool", dir+"/spool/db", dir+"/spool/input", dir+"/spool/msglog")
	run(t, "chown", "Debian-exim:Debian-exim", dir)
	_, backendPort, err := net.SplitHostPort(backend)
	if err != nil {
		t.Fatal(err)
	}
	port := lab.FreePort(t)
	conf := writeFile(t, dir+"/exim.conf", fmt.Sprintf(eximConf, dir, port, backendPort))
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	lab.Start(t, "exim", dir, inKit("exim", nil, "/usr/sbin/exim4", "-C", conf, "-bdf", "-q1h")).
		WaitFor(t, func() error { return lab.Greets("tcp", addr) })
	return addr
}

// postfixMain lifts the limits that would slow or end a long session of a load generator.
func postfixMain(more map[string]string) map[string]string {
	main := map[string]string{
		"smtpd_junk_command_limit":            "100000000",
		"smtpd_error_sleep_time":              "0",
		"smtpd_soft_error_limit":              "100000000",
		"smtpd_hard_error_limit":              "100000000",
		"smtpd_client_connection_count_limit": "0",
		"in_flow_delay":                       "0",
		"smtpd_recipient_limit":               "100000",
		"line_length_limit":                   "2048",
	}
	for key, value := range more {
		main[key] = value
	}
	return main
}

// startPostfix returns the address of the SMTP server of a gateway that relays example.com to the backend.
func startPostfix(t testing.TB, name, backend string, milters []string, more map[string]string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(backend)
	if err != nil {
		t.Fatal(err)
	}
	return lab.StartPostfix(t, lab.PostfixOptions{
		Name: name, Milters: milters,
		Relay: map[string]string{"example.com": fmt.Sprintf("smtp:[%s]:%s", host, port)},
		Main:  postfixMain(more),
	}).Addr()
}

// verifyMain is Postfix's own recipient verification (ADDRESS_VERIFICATION_README) with its default cache, asked at
// every RCPT and polled as fast as can be configured: a miss waits for the probe 1 s at a time instead of 3.
var verifyMain = map[string]string{
	"smtpd_recipient_restrictions":     "reject_unauth_destination, reject_unverified_recipient",
	"unverified_recipient_reject_code": "550",
	"address_verify_poll_delay":        "1s",
	"address_verify_poll_count":        "5",
	"address_verify_map":               "btree:$data_directory/verify_cache",
}
