// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"net/netip"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/testkit"
)

// put asks at a stage about a client; change makes it another question.
func (w *world) put(stage rcptgate.Stage, change func(*rcptgate.Query)) (rcptgate.Verdict, *rcptgate.Query) {
	m := address.Parse("u@example.org")
	q := &rcptgate.Query{Stage: stage, Client: netip.MustParseAddr("198.51.100.1"), Recipient: m, Target: m}
	change(q)
	return w.host.Gate.Ask(w.t.Context(), q), q
}

func TestWhoIsRefused(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"dry\"\nenforce = false\n[[blocklist]]\nname = \"dry-too\"\nenforce = false\n[[blocklist]]\nname = \"virus\"\n")
	for _, list := range []string{"dry", "dry-too"} {
		w.add(list, "198.51.100.1")
	}
	plain := func(*rcptgate.Query) {}
	if v, _ := w.put(rcptgate.StageRcpt, plain); v.Action != rcptgate.Continue || v.Would != rcptgate.Reject || v.Reason != "blocklist:dry" {
		t.Errorf("two lists in rehearsal: %+v", v)
	}
	w.add("virus", "198.51.100.1")
	if v, _ := w.put(rcptgate.StageRcpt, plain); v.Action != rcptgate.Reject || v.Reason != "blocklist:virus" {
		t.Errorf("behind two lists in rehearsal: %+v", v)
	}
	for name, tt := range map[string]struct {
		change func(*rcptgate.Query)
		refuse bool
	}{
		"this machine's own mail": {func(q *rcptgate.Query) { q.Session = &rcptgate.Session{Local: true} }, false},
		"a session":               {func(q *rcptgate.Query) { q.Session = new(rcptgate.Session) }, true},
		"authenticated":           {func(q *rcptgate.Query) { q.AuthUser = "joe" }, false},
		"without an address":      {func(q *rcptgate.Query) { q.Client = netip.Addr{} }, false},
	} {
		if v, _ := w.put(rcptgate.StageRcpt, tt.change); v.Action.Refuses() != tt.refuse {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if n := w.list("virus").(*List).refused.Load(); n != 2 {
		t.Errorf("%d questions refused, want 2", n)
	}
	_, q := w.put(rcptgate.StageRcpt, func(q *rcptgate.Query) { q.Trace.Explain = true })
	notes := ""
	for _, s := range q.Trace.Steps {
		notes += strings.Join(s.Notes, " ") + "\n"
	}
	if !strings.Contains(notes, `198.51.100.1 is on blocklist "virus" for another 1h: `) || !strings.Contains(notes, "Eicar-Test") {
		t.Errorf("explained: %q", notes)
	}
}

// TestExemptRecipients holds that postmaster is reachable at RCPT alone, where a recipient is
// named, and not at all with exempt = [].
func TestExemptRecipients(t *testing.T) {
	w := newWorld(t, "[[blocklist]]\nname = \"virus\"\n[[blocklist]]\nname = \"mail\"\nstage = \"mail\"\n[[blocklist]]\nname = \"all\"\nexempt = []\n")
	postmaster := func(q *rcptgate.Query) { // at MAIL it is one of the transaction before
		q.Recipient = address.Parse("postmaster@example.org")
		q.Target = q.Recipient
		q.Trace.Explain = true
	}
	w.add("virus", "198.51.100.1")
	v, q := w.put(rcptgate.StageRcpt, postmaster)
	if v.Action.Refuses() || !strings.Contains(strings.Join(q.Trace.Steps[0].Notes, " "), "listed clients can still write to this recipient") {
		t.Errorf("%+v, %+v", v, q.Trace.Steps)
	}
	w.add("mail", "198.51.100.1")
	if v, _ := w.put(rcptgate.StageMail, postmaster); v.Reason != "blocklist:mail" {
		t.Errorf("at MAIL: %+v", v)
	}
	w.add("all", "198.51.100.1")
	if v, _ := w.put(rcptgate.StageRcpt, postmaster); v.Reason != "blocklist:all" {
		t.Errorf("exempt = []: %+v", v)
	}
}

func TestDefaults(t *testing.T) {
	for text, good := range map[string]bool{
		"name = \"" + strings.Repeat("n", nameMax) + "\"": true, "name = \"" + strings.Repeat("n", nameMax+1) + "\"": false,
		"name = \"x\"\nfor = \"2h\"\nfor_max = \"2h\"": true,
		"name = \"x\"\ncode = 521":                     false, "name = \"x\"\ncode = 556": false, "name = \"x\"\ncode = 559": true, "name = \"x\"\ncode = 459": true, "name = \"x\"\ncode = 460": false,
		"name = \"x\"\ncode = 499": false, "name = \"x\"\ncode = 500": true, "name = \"x\"\ncode = 520": true, "name = \"x\"\ncode = 555": true,
	} {
		if _, err := tryWorld(t, testkit.Dir(t), "[[blocklist]]\n"+text+"\n"); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
	var c Config
	c.SetDefaults()
	if c.Entries != 100_000 || nameMax != 32 {
		t.Errorf("%+v", c)
	}
}
