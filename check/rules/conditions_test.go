// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"net"
	"net/netip"
	"testing"

	"rcptgate"
	"rcptgate/address"
)

// TestConditions: each condition holds where it should, and only there.
func TestConditions(t *testing.T) {
	for condition, questions := range map[string]map[string]bool{
		`auth = true`:                              {"a@b auth=ann": true, "a@b": false},
		`auth = false`:                             {"a@b auth=ann": false, "a@b": true},
		`tls = true`:                               {"a@b tls": true, "a@b": false},
		`tls = false`:                              {"a@b tls": false, "a@b": true},
		`size = "< 100"`:                           {"a@b size=99": true, "a@b size=100": false, "a@b": false}, // without SIZE it is not known
		`rcpts = "> 2"`:                            {"a@b rcpts=3": true, "a@b rcpts=2": false, "a@b": false},
		`mailer = ["esmtp"]`:                       {"a@b mailer=ESMTP": true, "a@b mailer=local": false, "a@b": false},
		`auth_user = ["Ann"]`:                      {"a@b auth=aNN": true, "a@b auth=bob": false, "a@b": false},
		`client_name = [".isp.example"]`:           {"a@b name=a.ISP.example": true, "a@b name=isp.example": false, "a@b": false},
		`helo = ["$own"]`:                          {"a@b helo=MX.example.org": true, "a@b helo=mx2.example.org": false, "a@b": false},
		`client = ["2001:db8::/32"]`:               {"a@b client=2001:db8:1::1": true, "a@b client=2001:db9::1": false, "a@b client=192.0.2.1": false},
		`target = ["t@x"]`:                         {"a@b target=t@x": true, "a@b": false},
		"sender = [\"a@b\"]\ntarget = [\"c@d\"]":   {"a@b": true, "x@b": false, "a@b target=t@x": false},
		"helo = [\"h\"]\nsender = [\"list:gone\"]": {"a@b helo=other": false}, // what cannot be read does not matter
		"sender = [\"list:gone\"]\ntls = true":     {"a@b": false},
		"client = [\"192.0.2.1\"]\nauth = false":   {"a@b client=192.0.2.1": true, "a@b client=192.0.2.1 auth=x": false, "a@b client=192.0.2.2": false},
	} {
		c := checkOf(t, "[[list]]\nname = \"gone\"\ntable = [\"texthash:/nonexistent/list\"]\n[[rule]]\n"+condition+"\n")
		for question, want := range questions {
			if v := ask(t, c, question+" -> c@d"); (v.Action == rcptgate.Reject) != want {
				t.Errorf("%s: %s: %v, want %v", condition, question, v.Action, want)
			}
		}
	}
}

// TestAnUnreadableConditionDecidesNothing: what cannot be found out about one condition does not
// matter where another, asked later, does not hold.
func TestAnUnreadableConditionDecidesNothing(t *testing.T) {
	c := checkOf(t, "[[list]]\nname = \"gone\"\ntable = [\"texthash:/nonexistent/list\"]\n[[rule]]\nclient = [\"list:gone\"]\nrecipient = [\"*@d\"]\nsender = [\"!a@b\"]\n")
	if v := ask(t, c, "a@b client=192.0.2.1 -> c@d"); v.Action != rcptgate.Continue {
		t.Errorf("%+v", v)
	}
	if v, err := c.Check(t.Context(), &questionOf(t, "x@b client=192.0.2.1 -> c@d").query); err == nil {
		t.Errorf("what decides is unreadable: %+v", v)
	}
}

// TestOwnAddresses: $own is every address of this machine.
func TestOwnAddresses(t *testing.T) {
	c := checkOf(t, "[[rule]]\nclient = [\"$own\"]\n")
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range append(addresses, &net.IPNet{IP: net.IPv4(127, 9, 9, 9)}, &net.IPNet{IP: net.IPv6loopback}) {
		n, _ := a.(*net.IPNet)
		client, ok := netip.AddrFromSlice(n.IP)
		if client = client.Unmap(); !ok || client.IsLinkLocalUnicast() {
			continue
		}
		q := &rcptgate.Query{Recipient: address.Parse("c@d"), Sender: "a@b", Client: client}
		q.Target = q.Recipient
		if v, err := c.Check(t.Context(), q); err != nil || v.Action != rcptgate.Reject {
			t.Errorf("%v: %+v, %v", client, v, err)
		}
	}
}

// TestCountedOnce: a rule that the index has under several keys of a question is asked once.
func TestCountedOnce(t *testing.T) {
	c := checkOf(t, "[[rule]]\nrecipient = [\"a@x\", \"@x\"]\nenforce = false\n")
	ask(t, c, "s@t -> a@x")
	if n, _ := c.rules[0].hits.read(); n != 1 {
		t.Errorf("%d hits of one question", n)
	}
}

// TestVerify: expectations are checked as if no rule were rehearsed. What depends on a table that
// cannot be read is left out, unless the answer must be complete.
func TestVerify(t *testing.T) {
	c := checkOf(t, `
[[rule]]
recipient = ["a@x"]
enforce = false
expect = ["s@t -> a@x: reject"]
[[rule]]
recipient = ["@x"]
action = "tempfail"
[[rule]]
sender = ["list:gone"]
expect = ["s@t -> a@y: reject"]
[[list]]
name = "gone"
table = ["texthash:/nonexistent/list"]
`)
	if err := c.Verify(t.Context(), false); err != nil {
		t.Error(err)
	}
	if err := c.Verify(t.Context(), true); err == nil {
		t.Error("an expectation that cannot be checked holds")
	}
}
