// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rcptgate/front/milter"
)

// TestMiltertest has a client that others wrote talk to the front: miltertest(8),
// Debian's package of that name.
func TestMiltertest(t *testing.T) {
	program, err := exec.LookPath("miltertest")
	if err != nil {
		t.Skip("miltertest is not installed")
	}
	for _, network := range []string{"unix", "tcp"} {
		gate := &asker{}
		srv := start(t, gate, milter.Config{}, network)
		socket := "unix:" + srv.socket.Address
		if host, port, ok := strings.Cut(srv.socket.Address, ":"); network == "tcp" && ok {
			socket = "inet:" + port + "@" + host
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := exec.CommandContext(ctx, program, "-D", "socket="+socket, "-s", "testdata/gate.lua").CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v: %s", network, err, out)
		}
		if n := srv.Stats().Recipients; n != 12 {
			t.Errorf("%s: %d recipients were asked about, want 12", network, n)
		}
	}
}
