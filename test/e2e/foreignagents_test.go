// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// shellAgent is a quota agent of a postmaster's own, run by inetd for each question.
const shellAgent = `#!/bin/sh
set -- $(dd bs=512 count=1 2>/dev/null)
used=$(stat -c %%s "%[1]s/$2" 2>/dev/null || echo 0)
[ "$1" = CHECK_QUOTA ] && [ "$used" -le 200000 ] && echo QUOTA_OK
[ "$1" = CHECK_QUOTA ] && [ "$used" -gt 200000 ] && echo QUOTA_FULL
`

// perlCGI says what CGIs on mail stores have said for twenty years. The size of a mailbox without
// a file is empty.
const perlCGI = `#!/usr/bin/perl
my ($user) = $ENV{QUERY_STRING} =~ /^u=([\w.+-]+)$/;
print "Content-type: text/plain\n\n";
exit unless defined $user;
my ($size, $quota) = (-s "$ENV{SPOOL}/$user", 200000);
print $size > $quota ? "OVERQUOTA" : "OK", " $user $size $quota\n";
`

// TestForeignAgents: the gate asks agents that others have written, a shell script over UDP and
// over TCP, and a CGI in Perl. A mailbox that fills up is refused, and when they die mail flows.
func TestForeignAgents(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.ServicesKit)
	spool := t.TempDir()
	fill := func(user string, octets int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(spool, user), make([]byte, octets), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fill("ann", 1234)
	fill("full", 300_000)
	script := filepath.Join(lab.NewDir(t, "agent"), "agent.sh")
	if err := os.WriteFile(script, fmt.Appendf(nil, shellAgent, spool), 0o755); err != nil {
		t.Fatal(err)
	}
	udp, udpPort := lab.StartSocat(t, "UDP4-LISTEN:%d,bind=127.0.0.1,fork", "EXEC:"+script)
	tcp, tcpPort := lab.StartSocat(t, "TCP4-LISTEN:%d,bind=127.0.0.1,fork,reuseaddr", "EXEC:"+script)
	cgi, cgiPort := lab.StartCGI(t, "quota.cgi", perlCGI, map[string]string{"SPOOL": spool})
	sim := lab.StartScripted(t)
	config := "[quota]\nuser = \"{local}\"\ntimeout = \"5s\"\nfull_keep = \"1s\"\n"
	sources := map[string]string{
		"udp.test": fmt.Sprintf("udp:127.0.0.1:%d", udpPort), "tcp.test": fmt.Sprintf("tcp:127.0.0.1:%d", tcpPort),
		"cgi.test": fmt.Sprintf("http://127.0.0.1:%d/cgi-bin/quota.cgi?u={user}", cgiPort),
	}
	for domain, source := range sources {
		config += fmt.Sprintf("[[domain]]\nname = %q\nbackend = [\"smtp:%s\"]\nquota = [%q]\n", domain, sim.Hop(), source)
	}
	g := lab.StartGate(t, config)
	says := func(address string, code int, words string) {
		t.Helper()
		out := ""
		testkit.Eventually(t, fmt.Sprintf("%s: exit code %d", address, code), func() bool {
			var got int
			out, _, got = g.Command("check", address)
			return got == code && strings.Contains(out, words)
		})
	}
	for domain := range sources {
		says("full@"+domain, 75, "4.2.2")
		says("ann@"+domain, 0, "quota")
		says("nofile@"+domain, 0, "quota")
		if out, _, _ := g.Command("status", "quota"); strings.Contains(out, "does not answer") {
			t.Errorf("%s: a question has failed:\n%s", domain, out)
		}
	}
	says("full@cgi.test", 75, "300000 used")
	fill("full", 10)
	for domain := range sources {
		says("full@"+domain, 0, "")
	}
	for _, p := range []*lab.Process{udp, tcp, cgi} {
		p.Kill()
	}
	fill("full", 300_000)
	g.MustCommand(0, "cache", "forget", "--all")
	for domain := range sources {
		says("full@"+domain, 0, "")
	}
}
