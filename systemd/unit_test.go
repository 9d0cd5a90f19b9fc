// SPDX-License-Identifier: BSD-2-Clause

// Package systemd holds the unit file that packages install; there is no Go code in
// it but this test. The unit is for systemd 252 (Debian 12) and later.
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

// TestSystemdTakesTheUnit asks systemd itself, with another program in its place
// since ours need not be installed.
func TestSystemdTakesTheUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	path := filepath.Join(t.TempDir(), "rcptgate.service")
	text := strings.Replace(unit(t), "/usr/bin/rcptgate", "/bin/true", 1)
	text = regexp.MustCompile(`(?m)^Documentation=.*$`).ReplaceAllString(text, "") // manual pages are not installed either
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err = exec.Command("systemd-analyze", "security", "--offline=true", path).CombinedOutput()
	level := regexp.MustCompile(`exposure level.*: ([\d.]+)`).FindSubmatch(out)
	if err != nil || level == nil {
		t.Skipf("this systemd cannot judge a file: %v", err)
	}
	if n, err := strconv.ParseFloat(string(level[1]), 64); err != nil || n > 2 {
		t.Errorf("exposure %s, at most 2.0 is wanted (0 is best, 10 worst)", level[1])
	}
}
