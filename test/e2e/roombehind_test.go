// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"strings"
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

// TestRoomBehindExim: a real Exim refuses a message at RCPT for which its mailbox has no room, by
// the size that MAIL announces. With "room" the gate hears of it although it remembers the mailbox,
// and a smaller message is taken.
func TestRoomBehindExim(t *testing.T) {
	t.Parallel()
	const box = "box@exim.test"
	exim := lab.StartExim(t, box, "other@exim.test")
	tap := lab.NewTap(t, "tcp", exim.Addr())
	g := lab.StartGate(t, fmt.Sprintf("[[domain]]\nname = \"exim.test\"\nbackend = [\"smtp:%s\"]\nroom = \"1s\"\nfull = { expire = \"1s\" }\n", tap.Hop()))
	says := func(size string, code int, words string) {
		t.Helper()
		out := ""
		testkit.Eventually(t, fmt.Sprintf("%s: exit code %d", size, code), func() bool {
			var got int
			out, _, got = g.Command("check", "--size", size, box)
			return got == code
		})
		if !strings.Contains(out, words) {
			t.Errorf("%s: no %q in\n%s", size, words, out)
		}
	}
	says("1K", 0, "")
	exim.Fill(box, lab.EximLimit-100_000) // 100 kB are left
	says("200K", 75, lab.EximFull[4:])
	says("50K", 0, "")
	exim.Fill(box, lab.EximLimit)
	says("50K", 75, lab.EximFull[4:])
	exim.Fill(box, 0)
	says("200K", 0, "")
	if !strings.Contains(tap.Transcript(), "SIZE=200000") && !strings.Contains(tap.Transcript(), "SIZE=204800") {
		t.Errorf("the size is not announced:%s", tap.Transcript())
	}
}
