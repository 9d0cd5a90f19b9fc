// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// StartSocat runs a program for each connection or datagram, as inetd does. Both arguments are addresses of socat(1), such
// as "TCP-LISTEN:%d,fork" and "EXEC:/path/of/script"; %d becomes the port that is returned.
func StartSocat(t testing.TB, listen, program string) (*Process, int) {
	t.Helper()
	Need(t, ServicesKit)
	port := FreePort(t)
	dir := NewDir(t, "socat")
	cmd := exec.Command(ServicesKit.Path("usr/bin/socat"), fmt.Sprintf(listen, port), program)
	cmd.Env = ServicesKit.environment()
	return Start(t, "socat", dir, cmd), port
}

// StartCGI starts a lighttpd that runs a script in Perl as /cgi-bin/NAME. Settings are the script's environment.
func StartCGI(t testing.TB, name, script string, settings map[string]string) (*Process, int) {
	t.Helper()
	Need(t, ServicesKit)
	port := FreePort(t)
	dir := NewDir(t, "lighttpd")
	write(t, dir, name, script)
	conf := fmt.Sprintf(`server.document-root = %[1]q
server.bind = "127.0.0.1"
server.port = %[2]d
server.errorlog = "%[1]s/error.log"
server.modules = ( "mod_alias", "mod_setenv", "mod_cgi" )
alias.url = ( "/cgi-bin/" => "%[1]s/" )
cgi.assign = ( ".cgi" => "/usr/bin/perl" )
`, dir, port)
	for _, key := range keys(settings) {
		conf += fmt.Sprintf("setenv.add-environment += ( %q => %q )\n", key, settings[key])
	}
	write(t, dir, "lighttpd.conf", conf)
	cmd := exec.Command(ServicesKit.Path("usr/sbin/lighttpd"), "-D", "-f", filepath.Join(dir, "lighttpd.conf"), "-m", ServicesKit.Path("usr/lib/lighttpd"))
	cmd.Env = ServicesKit.environment()
	p := Start(t, "lighttpd", dir, cmd)
	p.WaitFor(t, func() error { return knock("tcp", fmt.Sprintf("127.0.0.1:%d", port)) })
	return p, port
}
