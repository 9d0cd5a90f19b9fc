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
	// The kernel does not delay its first acknowledgements. Of the others each of a
	// transaction's three would be 40 ms late, so that a single quick one shows they are not;
	// how long most take is the machine's matter.
	var took []time.Duration
	for range 60 { // MAIL goes without an answer, so its macros and RCPT's wait in a row
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
	took = took[30:]
	slices.Sort(took)
	t.Logf("a transaction of three recipients takes %v at the median, %v at best", took[len(took)/2], took[0])
	if took[0] > 100*time.Millisecond {
		t.Errorf("a transaction of three recipients takes %v at best", took[0])
	}
}
