// SPDX-License-Identifier: BSD-2-Clause

package syntax

import (
	"testing"

	"rcptgate"
	"rcptgate/address"
)

func TestSyntax(t *testing.T) {
	for path, bad := range map[string]bool{
		"u@example.com": false, "u@example.com\nRSET": true, "u\r@example.com": true, "u\x00@example.com": true, "\"u\n\"@example.com": true,
		"u\t\x7f@example.com": false, // the MTA's business
	} {
		m := address.Parse(path)
		q := &rcptgate.Query{Recipient: m, Target: m, AuthUser: "joe"} // whoever says it
		v, err := Check{}.Check(t.Context(), q)
		if err != nil || (v.Action == rcptgate.Reject) != bad || bad && (v.Code != 501 || v.Enhanced != "5.1.3" || v.Reason != rcptgate.ReasonBadAddress) {
			t.Errorf("%q: %+v, %v", path, v, err)
		}
	}
	q := &rcptgate.Query{Recipient: address.Parse("u@example.com"), Target: rcptgate.Mailbox{Path: "u\r@example.com"}}
	if v, _ := (Check{}).Check(t.Context(), q); v.Action != rcptgate.Reject {
		t.Errorf("what the MTA made of it: %+v", v)
	}
}
