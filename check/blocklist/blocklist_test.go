// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/check/trusted"
	"rcptgate/unit"
	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) {
	checktest.Run(t, checktest.Suite{Unit: Unit(), Config: "[[blocklist]]\nname = \"virus\"\n"})
}

// world is a gate with lists.
type world struct {
	t     testing.TB
	host  *unit.Host
	setup *unit.Setup
}

func newWorld(t testing.TB, text string) *world {
	t.Helper()
	w := &world{t: t}
	units := []unit.Unit{Unit(), trusted.Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", "state = \""+t.TempDir()+"\"\nhostname = \"mx.example.org\"\ntrusted = [\"203.0.113.0/24\"]\nenforce = true\n"+text)
	if err != nil {
		t.Fatal(err)
	}
	if w.host, err = unit.Open(t.Context(), units, c, unit.Options{Offline: true, Hook: func(s *unit.Setup) { w.setup = s }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.host.Stop)
	return w
}

func (w *world) list(name string) rcptgate.Blocklist { return w.setup.Blocklists[name] }

func (w *world) ask(client, recipient string) rcptgate.Verdict {
	m := address.Parse(recipient)
	return w.host.Gate.Ask(w.t.Context(), &rcptgate.Query{Stage: rcptgate.StageRcpt, Client: netip.MustParseAddr(client), Recipient: m, Target: m})
}

func (w *world) add(list, client string) {
	w.t.Helper()
	if err := w.list(list).Add(netip.MustParseAddr(client), "Eicar-Test", "4Q1", 0); err != nil {
		w.t.Fatal(err)
	}
}

func TestAListedClientIsRefusedForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[[blocklist]]\nname = \"virus\"\ntext = \"Blocked.\"\n")
		const bad = "198.51.100.7"
		if v := w.ask(bad, "u@example.org"); v.Action != rcptgate.Continue {
			t.Fatalf("before: %+v", v)
		}
		w.add("virus", bad)
		v := w.ask(bad, "u@example.org")
		if v.Action != rcptgate.Reject || v.Code != 550 || v.Enhanced != "5.7.1" || v.Text != "Blocked." || v.Reason != "blocklist:virus" {
			t.Errorf("listed: %+v", v)
		}
		for _, open := range []string{"postmaster@example.org", "POSTMASTER@other.example", "abuse+virus@example.org", "postmaster"} {
			if v := w.ask(bad, open); v.Action != rcptgate.Continue {
				t.Errorf("%s: %+v", open, v)
			}
		}
		for _, other := range []string{"198.51.100.8", "2001:db8::1"} {
			if v := w.ask(other, "u@example.org"); v.Action != rcptgate.Continue {
				t.Errorf("%s: %+v", other, v)
			}
		}
		time.Sleep(time.Hour - time.Second)
		if v := w.ask("::ffff:"+bad, "u@example.org"); v.Action != rcptgate.Reject {
			t.Errorf("after 59:59, IPv4 in IPv6: %+v", v)
		}
		time.Sleep(time.Second)
		if v := w.ask(bad, "u@example.org"); v.Action != rcptgate.Continue {
			t.Errorf("after an hour: %+v", v)
		}
	})
}
