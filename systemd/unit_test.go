// SPDX-License-Identifier: BSD-2-Clause

// Package systemd holds the unit files that are installed; this test is its only Go
// code. The units are for systemd 252 (Debian 12) and later. The socket units are put to
// work by test/e2e.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func unit(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("rcptgate.service")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWhatTheDaemonNeedsIsLeftToIt(t *testing.T) {
	text := unit(t)
	for _, want := range []string{
		"\nExecStart=/usr/bin/rcptgate serve -c /etc/rcptgate/rcptgate.toml\n", // a missing file that is named is an error
		"\nExecReload=/usr/bin/rcptgate reload -c /etc/rcptgate/rcptgate.toml\n",
		"\nType=notify\n", "\nWatchdogSec=", "\nUser=rcptgate\n", "\nStateDirectory=rcptgate\n", "\nRuntimeDirectory=rcptgate\n",
		"\nProtectSystem=strict\n", "\nNoNewPrivileges=yes\n", "\nCapabilityBoundingSet=\n", "\nRestartPreventExitStatus=78\n", "AF_NETLINK", "@chown", "prlimit64",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, harm := range []string{"\nPrivateUsers=", "\nProcSubset=", "\nPrivateNetwork=", "\nType=notify-reload"} {
		if strings.Contains(text, harm) {
			t.Errorf("%q would harm: see the comments in the unit", strings.TrimSpace(harm))
		}
	}
}

// TestSystemdTakesTheUnits asks systemd itself, with another program in the place of
// ours, which need not be installed.
func TestSystemdTakesTheUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	names, err := filepath.Glob("rcptgate*.*")
	if err != nil || len(names) < 3 {
		t.Fatalf("units: %v %v", names, err)
	}
	for i, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), "/usr/bin/rcptgate", "/bin/true")
		text = regexp.MustCompile(`(?m)^Documentation=.*$`).ReplaceAllString(text, "") // manual pages are not installed either
		names[i] = filepath.Join(dir, name)
		if err := os.WriteFile(names[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify"}, names...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	for _, name := range []string{"rcptgate.service", "rcptgate-agent.service"} {
		out, err = exec.Command("systemd-analyze", "security", "--offline=true", filepath.Join(dir, name)).CombinedOutput()
		level := regexp.MustCompile(`exposure level.*: ([\d.]+)`).FindSubmatch(out)
		if err != nil || level == nil {
			t.Skipf("this systemd cannot judge a file: %v", err)
		}
		if n, err := strconv.ParseFloat(string(level[1]), 64); err != nil || n > 2 {
			t.Errorf("%s: exposure %s, at most 2.0 is wanted (0 is best, 10 worst)", name, level[1])
		}
	}
}

// TestTheAgentMayOnlyRead: nothing is writable for it, and it has no rights of its own.
func TestTheAgentMayOnlyRead(t *testing.T) {
	data, err := os.ReadFile("rcptgate-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{
		"\nExecStart=/usr/bin/rcptgate agent quota -c /etc/rcptgate/agent.toml\n", "\nType=notify\n", "\nUser=rcptgate\n", "\nProtectSystem=strict\n", "\nNoNewPrivileges=yes\n",
		"\nCapabilityBoundingSet=\n", "\nRestartPreventExitStatus=78\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, harm := range []string{"\nReadWritePaths=", "\nStateDirectory=", "\nRuntimeDirectory=", "\nPrivateUsers="} {
		if strings.Contains(text, harm) {
			t.Errorf("%q: the agent writes nothing, and reads with the rights of a group", strings.TrimSpace(harm))
		}
	}
}
