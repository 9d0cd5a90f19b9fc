// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"strings"
	"testing"
)

// A real smmapd: what it says of a mailbox with room, a full one, one without a quota, and an
// unknown one.
func TestCyrusSmmapd(t *testing.T) {
	c := StartCyrus(t, "ann@cyrus.test", "bob@cyrus.test")
	ask := func(key, want string) {
		t.Helper()
		if got, err := c.Ask(key); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("smmapd says %q, %v of %s; want %q", got, err, key, want)
		}
	}
	ask("ann@cyrus.test", "OK")
	ask("nobody@cyrus.test", "NOTFOUND")
	c.SetLimit("ann@cyrus.test", 100)
	ask("ann@cyrus.test", "OK")
	c.Fill("ann@cyrus.test", 50_000)
	ask("ann@cyrus.test", "OK")
	c.SetLimit("ann@cyrus.test", 10)
	ask("ann@cyrus.test", "TEMP Over quota")
	ask("bob@cyrus.test", "OK")
	c.Empty("ann@cyrus.test")
	ask("ann@cyrus.test", "OK")
	c.SetMessages("bob@cyrus.test", 1)
	ask("bob@cyrus.test", "OK")
	c.Fill("bob@cyrus.test", 100)
	ask("bob@cyrus.test", "TEMP Over quota")
	c.SetLimit("bob@cyrus.test", -1)
	ask("bob@cyrus.test", "OK")
}
