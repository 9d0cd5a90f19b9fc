// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"testing"

	"rcptgate"
	"rcptgate/address"
)

// TestTooManyRecipients names more recipients than a transaction records: those are put off
// (RFC 5321 section 4.5.3.1.8), the others are taken, and the next transaction has room again.
func TestTooManyRecipients(t *testing.T) {
	c := &conn{wants: rcptgate.EditRecipients}
	q := &rcptgate.Query{Recipient: address.Parse("u@in.test")}
	take := func() (v rcptgate.Verdict) {
		c.take(q, &v, []byte("<u@in.test>"))
		return v
	}
	for i := range recipientsMax {
		if v := take(); v.Action.Refuses() {
			t.Fatalf("recipient %d: %+v", i+1, v)
		}
	}
	for range 2 {
		if v := take(); v.Action != rcptgate.Tempfail || v.Code != 452 || v.Enhanced != "4.5.3" {
			t.Errorf("one more: %+v", v)
		}
	}
	s := &c.session
	if len(s.state.Mail.Recipients) != recipientsMax || len(s.arguments) != recipientsMax || s.taken != recipientsMax {
		t.Errorf("recorded: %d, %d, taken: %d", len(s.state.Mail.Recipients), len(s.arguments), s.taken)
	}
	s.forgetRecipients()
	if v := take(); v.Action.Refuses() || s.taken != 1 {
		t.Errorf("in the next transaction: %+v", v)
	}
	c.wants = 0
	for range recipientsMax + 1 {
		if v := take(); v.Action.Refuses() {
			t.Fatalf("where nothing is recorded: %+v", v)
		}
	}
}
