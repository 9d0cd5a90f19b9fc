// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"slices"
	"testing"
	"time"

	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
)

// Sendmail writes macros and command apart. With delayed acknowledgements the second
// write waits 40 ms for the first one's; the filter must not let it.
func TestSendmailsTwoWritesAreNotDelayed(t *testing.T) {
	c := start(t, continues{}, milter.Config{}, "tcp").dial(t, mta.Options{TwoWrites: true})
	say := say(t)
	say(c.Connect("client.example", client, macros("j", "mx.example")...))
	say(c.Helo("client.example", macros("{tls_version}", "")...))
	var took []time.Duration
	for range 20 { // MAIL goes without an answer, so its macros and RCPT's wait in a row
		begun := time.Now()
		say(c.Mail("s@example.org", nil, macros("i", "Q")...))
		for range 3 {
			say(c.Rcpt("u@example.com", macros("i", "Q", "{rcpt_mailer}", "esmtp")...))
		}
		took = append(took, time.Since(begun))
		if err := c.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median > 20*time.Millisecond {
		t.Errorf("a transaction of three recipients takes %v at the median", median)
	} else {
		t.Logf("a transaction of three recipients takes %v at the median", median)
	}
}
