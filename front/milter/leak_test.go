// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/kit/testkit"
)

// rspamd, MIMEDefang: descriptors and spool files that are left behind after messages that were
// taken, refused, thrown away and given up. The connection goes on meanwhile.
func TestNothingIsLeftOfMessages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	gate := &letterGate{wants: wantsAll}
	srv := start(t, gate, milter.Config{}, "unix")
	srv.SpoolIn(dir, nil)
	c := srv.dial(t, mta.Options{})
	body := strings.Repeat("x", 300<<10)
	for _, v := range []rcptgate.Verdict{{}, {Action: rcptgate.Accept}, refusal, {Action: rcptgate.Discard}, {Action: rcptgate.Hold}, rcptgate.CouldNotFindOut} {
		inside := 0
		gate.set(func(*rcptgate.Query) rcptgate.Verdict {
			inside = open(t, dir)
			return v
		})
		for range 3 {
			send(t, c, usual, body)
			if after := open(t, dir); inside != 1 || after != 0 {
				t.Errorf("%v: %d files are open while it is judged, %d afterwards", v.Action, inside, after)
			}
		}
	}
	gone := srv.dial(t, mta.Options{})
	for _, step := range []func() (mta.Response, error){
		func() (mta.Response, error) { return gone.Connect("client.example", client) },
		func() (mta.Response, error) { return gone.Mail("s@example.org", nil) },
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		if _, err := gone.Body(make([]byte, 60_000)); err != nil {
			t.Fatal(err)
		}
	}
	_ = gone.Close()
	testkit.Eventually(t, "the file of a message that was given up is closed", func() bool { return open(t, dir) == 0 })
}

// open counts this process's open files of a directory, those without a name included.
func open(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("there is no /proc")
	}
	for _, fd := range list {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, dir+"/") {
			n++
		}
	}
	return n
}
