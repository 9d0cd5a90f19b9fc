// SPDX-License-Identifier: BSD-2-Clause

// Package lab starts real mail servers for tests: Sendmail and Postfix as the gateways whose milter setting points at
// the socket under test, Postfix and Dovecot LMTP as the servers behind them, all at once on one machine, from private
// directories that test/install.sh has filled from Debian's packages.
//
// Servers listen on free loopback ports chosen at start, write everything they say to files in a directory of their
// own, and are gone with their children when the test ends, even when the test process itself is killed: each has a
// reaper (see proc.go). When a test fails, the logs of its servers are part of the test's output.
//
// Limits: root and Debian are required (Postfix's master and Sendmail's namespaces); where they are missing, Need skips
// the test with the reason, notes it in the file named by RCPTGATE_LEFT_OUT, and fails when CI=true. Nothing here
// ever talks to an address other than the loopback's.
package lab

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Kit is one set of programs that install.sh unpacks.
type Kit string

// The kits, named like their directories.
const (
	PostfixKit    Kit = "postfix"
	SendmailKit   Kit = "sendmail"
	DovecotKit    Kit = "dovecot"
	MiltertestKit Kit = "miltertest"
	DatabaseKit   Kit = "database"
	MapsKit       Kit = "maps"
	// Optional: fetched when a test first needs them.
	EximKit   Kit = "exim"
	SlapdKit  Kit = "slapd"
	CyrusKit  Kit = "cyrus"
	ClamavKit Kit = "clamav"
	// MIMEDefangKit has the milter, its multiplexor and what its Perl workers load.
	MIMEDefangKit Kit = "mimedefang"
	// DNSKit has dig and rbldnsd.
	DNSKit Kit = "dns"
	// NftablesKit has nft.
	NftablesKit Kit = "nftables"
	// ClientsKit has netcat and curl.
	ClientsKit Kit = "clients"
	// ServicesKit has what makes a network service of a script: socat, and lighttpd for CGIs.
	ServicesKit Kit = "services"
	// SASLKit has the parts of Cyrus SASL with which a Sendmail knows users and passwords.
	SASLKit Kit = "sasl"
	// ChromiumKit has a browser (see browser.go).
	ChromiumKit Kit = "chromium"
)

// optional reports whether install.sh fetches the kit only when asked for it.
func (k Kit) optional() bool {
	return slices.Contains([]Kit{EximKit, SlapdKit, CyrusKit, ClamavKit, ClientsKit, DNSKit, NftablesKit, ChromiumKit, MIMEDefangKit, ServicesKit, SASLKit}, k)
}

// defaultDir is where install.sh puts the lab unless RCPTGATE_LAB says otherwise: not below a world-writable directory
// (Sendmail) and enterable by every user (Postfix).
const defaultDir = "/var/cache/rcptgate-lab"

// Dir returns the directory of the lab.
func Dir() string {
	if dir := os.Getenv("RCPTGATE_LAB"); dir != "" {
		return dir
	}
	return defaultDir
}

// Root returns the directory below which the programs of a kit lie as they would below "/".
func (k Kit) Root() string { return filepath.Join(Dir(), string(k)) }

// Path returns the path of a file of the kit, given as it is named in Debian's package.
func (k Kit) Path(name string) string { return filepath.Join(k.Root(), name) }

// libraryPath returns the value of LD_LIBRARY_PATH with which the programs of the kit run.
func (k Kit) libraryPath() string {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/*-linux-gnu/pulseaudio", "usr/lib/postfix", "usr/lib/dovecot"} {
		found, _ := filepath.Glob(k.Path(pattern)) // the patterns are well formed
		dirs = append(dirs, found...)
	}
	return strings.Join(dirs, ":")
}

// environment returns the environment of every program of the kit: none of the test's own variables reach a server.
func (k Kit) environment() []string {
	return []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C",
		"TZ=UTC",
		"LD_LIBRARY_PATH=" + k.libraryPath(),
	}
}

// Environment is the environment of a program of the kit that a test runs by itself.
func (k Kit) Environment() []string { return k.environment() }

// possible returns why the lab cannot be had on this machine.
var possible = sync.OnceValue(func() error {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		return fmt.Errorf("real mail servers need root on Debian")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("real mail servers need Debian's apt-get: %w", err)
	}
	return nil
})

// prepare prepares the lab, with an optional kit if one is named. It runs install.sh, which takes up to a second, only
// if there is something to do.
func prepare(optional ...string) error {
	if err := possible(); err != nil {
		return err
	}
	script, err := installer()
	if err != nil || prepared(script, Dir(), optional...) {
		return err
	}
	_, err = Installer(optional...)
	return err
}

// prepared reports whether install.sh has nothing left to do: the lab was completed by this very script, it was made
// from the same packages, and the accounts exist.
func prepared(script, dir string, optional ...string) bool {
	text, err := os.ReadFile(script)
	if err != nil {
		return false
	}
	ready, err := os.ReadFile(filepath.Join(dir, "ready"))
	if err != nil || strings.TrimSpace(string(ready)) != fmt.Sprintf("%x", sha256.Sum256(text)) {
		return false
	}
	for _, kit := range optional {
		from, err := os.ReadFile(filepath.Join(dir, kit, "made-from"))
		if err != nil || !strings.Contains(string(text), fmt.Sprintf("\n\t[%s]=%q\n", kit, strings.TrimSuffix(string(from), "\n"))) {
			return false
		}
	}
	for _, name := range []string{"postfix", "smmsp"} {
		if _, err := user.Lookup(name); err != nil {
			return false
		}
	}
	_, err = user.LookupGroup("postdrop")
	return err == nil
}

// installer returns the path of install.sh.
func installer() (string, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", fmt.Errorf("finding test/install.sh: the source path is unknown")
	}
	return filepath.Join(filepath.Dir(filepath.Dir(here)), "install.sh"), nil
}

// Installer runs test/install.sh with the arguments and returns what it printed on standard output.
func Installer(args ...string) (string, error) {
	script, err := installer()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("/bin/bash", append([]string{script}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running test/install.sh: %w: %s", err, strings.TrimSpace(errs.String()))
	}
	return string(out), nil
}

// Need makes sure that the kits are there. If they cannot be had, the test is skipped, or fails when CI=true: a green run
// that silently left out the real servers would be worthless. With -short it always skips.
func Need(t testing.TB, kits ...Kit) {
	t.Helper()
	if testing.Short() {
		LeaveOut(t, "-short leaves out the real mail servers")
	}
	if err := prepare(); err != nil {
		LeaveOut(t, err.Error())
	}
	for _, kit := range kits {
		if kit.optional() {
			if err := prepare(string(kit)); err != nil {
				LeaveOut(t, err.Error())
			}
		}
		if _, err := os.Stat(kit.Root()); err != nil {
			LeaveOut(t, fmt.Sprintf("the lab has no %s: %v", kit, err))
		}
	}
}

// LeaveOut ends the test as left out for the reason. It is a failure when CI=true; otherwise it is a skip, and one
// line "TEST: REASON" is added to the file named by RCPTGATE_LEFT_OUT so that a run can list all it left out.
func LeaveOut(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("left out, which CI does not allow: %s", reason)
		return // only in a test of this function
	}
	if name := os.Getenv("RCPTGATE_LEFT_OUT"); name != "" {
		if err := appendLine(name, t.Name()+": "+reason); err != nil {
			t.Errorf("noting what was left out: %v", err)
		}
	}
	t.Skip("left out: " + reason)
}

// appendLine adds one line to a file that several test processes write to at the same time: one write in append mode.
func appendLine(name, line string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
