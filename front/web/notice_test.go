// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/unit"
)

// TestTheNoticeEndsWhenThePageIsServed: the port is taken at first.
func TestTheNoticeEndsWhenThePageIsServed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	units := []unit.Unit{Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("state = %q\n[listen]\nhttp = %q\n", t.TempDir(), "inet:"+port(taken)+"@127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Look: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	has := func(text string) bool {
		for _, n := range h.Notices.List() {
			if strings.Contains(n.Text, text) {
				return true
			}
		}
		return false
	}
	testkit.Eventually(t, "a notice of the port", func() bool { return has("no status page") })
	_ = taken.Close()
	testkit.Eventually(t, "the page is served", func() bool { return h.Address("dashboard") != "" })
	testkit.Eventually(t, "the end of the notice", func() bool { return !has("no status page") })
}

func port(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
