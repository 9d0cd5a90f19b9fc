// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// changing are the parts of a dialogue that differ in every run: queue ids and the client's port.
var changing = regexp.MustCompile(`(i" )"[^"]+"|("4).*(127\.0\.0\.9")`)

// golden compares text, without what changes from run to run, with a file of testdata.
func golden(t *testing.T, name, text, host string) {
	t.Helper()
	text = strings.ReplaceAll(text, host, "127.80.0.1")
	text = changing.ReplaceAllString(text, "${1}${2}*${3}")
	file := filepath.Join("testdata", name)
	if os.Getenv("RCPTGATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("differs from %s:\n%s", file, text)
	}
}
