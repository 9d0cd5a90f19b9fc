// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"testing"

	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
)

// A recipient costs one allocation, its name; what the MTA repeats costs none.
func TestAllocationsOfARecipient(t *testing.T) {
	c := start(t, continues{}, milter.Config{}, "unix").dial(t, mta.Options{Timeout: -1})
	say(t)(c.Connect("client.example", client))
	say(t)(c.Mail("s@example.org", nil))
	hop := macros("i", "4XyZ1234", "{rcpt_mailer}", "smtp", "{rcpt_host}", "[127.0.0.1]:2600", "{rcpt_addr}", "user@example.com")
	n := testing.AllocsPerRun(2000, func() {
		if _, err := c.Rcpt("user@example.com", hop...); err != nil {
			t.Fatal(err)
		}
	})
	if n > 2 {
		t.Errorf("%v allocations a recipient", n)
	}
}
