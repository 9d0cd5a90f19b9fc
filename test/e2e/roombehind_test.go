// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"testing"

	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// TestRoomBehindLMTP: a real Dovecot refuses full mailboxes in reply to RCPT. While a valid
// answer is remembered it is asked again with "room", and not without.
func TestRoomBehindLMTP(t *testing.T) {
	t.Parallel()
	const box, limit = "box@behind.test", 100 << 10
	dovecot := lab.StartDovecot(t, lab.DovecotOptions{Users: []string{"roomy@behind.test"}, Quota: true})
	dovecot.SetLimit(box, limit)
	config := fmt.Sprintf("[[domain]]\nname = \"behind.test\"\nbackend = [\"lmtp:[127.0.0.1]:%d\"]\nfull = { expire = \"1s\" }\n", dovecot.Port)
	g := lab.StartGate(t, config)
	says := func(code int) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprintf("exit code %d", code), func() bool {
			_, _, got := g.Command("check", "--size", "1K", box)
			return got == code
		})
	}
	says(0)
	dovecot.Fill(box, limit)
	for range 3 {
		g.MustCommand(0, "check", "--size", "1K", box) // the remembered answer serves
	}
	g.Configure(config + "room = \"1s\"\n")
	g.Apply()
	says(75)
	dovecot.Empty(box)
	says(0)
}
