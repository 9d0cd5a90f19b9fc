// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// TestPortsAreClaimed: a port that one test has asked for, and no server listens on yet, is not given to another, neither
// in this process nor in another. When the test has ended it is.
func TestPortsAreClaimed(t *testing.T) {
	if text := os.Getenv("RCPTGATE_TEST_CLAIM"); text != "" { // the other process
		port, _ := strconv.Atoi(text)
		if claim(t, port) {
			t.Error("claimed")
		}
		return
	}
	var port int
	t.Run("first", func(t *testing.T) {
		port = FreePort(t)
		if claim(t, port) {
			t.Error("claimed twice in one process")
		}
		other := exec.Command(os.Args[0], "-test.run=^TestPortsAreClaimed$")
		other.Env = append(os.Environ(), "RCPTGATE_TEST_CLAIM="+strconv.Itoa(port))
		if out, err := other.CombinedOutput(); err != nil {
			t.Errorf("in two processes: %v\n%s", err, out)
		}
	})
	if !claim(t, port) {
		t.Error("the port is not free after the test")
	}
}
