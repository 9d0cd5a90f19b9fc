// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/test/lab"
)

// withAll is a script that works with what two gates share, with a list, and with a scanner.
const withAll = `
SEEN = memory("seen", "1h", shared = True)
RATE = counter("rate", "1h")
BAD = blocklist("bad")

def recipient(r):
    if r.sender == "reader@client.test":
        return reject("seen: " + str(SEEN.get("word", "nothing")))
    if r.sender.user == "writer":
        SEEN.set("word", r.sender.detail)
    if r.sender == "eager@client.test" and RATE.add(r.sender) > 2:
        return tempfail("slow down")
    if r.sender == "asker@client.test":
        listing = BAD.listed(r.client.ip)
        return reject("listed: %s" % (listing.evidence if listing else None))

def message(m):
    found = scan(m)
    if found == None:
        return tempfail("unscanned: " + m.unscanned)
    if found:
        BAD.add(m.client.ip, "the script says " + found)
        return reject("infected: " + found)
`

// TestScriptWithOthers has a script work with real companions behind both MTAs: two gates share
// its memory over memcached, a [[blocklist]] takes what it adds and refuses the client, and
// scan() asks clamd.
func TestScriptWithOthers(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit, lab.ClamavKit, lab.MemcachedKit)
	scanner := lab.StartClamd(t, lab.ClamdOptions{})
	shared := lab.StartMemcached(t, lab.MemcachedOptions{})
	file := filepath.Join(lab.NewDir(t, "script"), "filter.star")
	if err := os.WriteFile(file, []byte(withAll), 0o644); err != nil { //nolint:gosec // a test's own
		t.Fatal(err)
	}
	config := fmt.Sprintf(`[cache]
memcached = [%q]
[script]
file = %q
[antivirus]
clamd = ["unix:%s"]
infected = "continue"
unscanned = "continue"
[[blocklist]]
name = "bad"
evidence = []
for = "1h"
text = "You are on the list"
`, shared.Socket(), file, scanner.Socket)
	g := &listGate{t: t, net: lab.NewNetwork(t, virusClient, otherClient)}
	gates := map[string]*lab.Gate{"postfix": lab.StartGate(t, config), "sendmail": lab.StartGate(t, config)}
	addr := map[string]string{"postfix": g.postfix(lab.PostfixOptions{Milters: []string{"unix:" + gates["postfix"].Unix}}).Addr()}
	g.net.Do(func() {
		addr["sendmail"] = lab.StartSendmail(t, lab.SendmailOptions{Milter: "unix:" + gates["sendmail"].Unix, LocalDomains: []string{"here.test"}}).Addr()
	})
	to := map[string]string{"sendmail": "root@here.test", "postfix": "ann@here.test"}
	heard := func(what, mta, client, sender string, code int, text string) {
		t.Helper()
		if r := g.from(addr[mta], client, sender, to[mta], "clean"); r.Code != code || !strings.Contains(r.Text(), text) {
			t.Errorf("%s: %s heard %s, want %d %s", mta, what, r, code, text)
		}
	}
	for mta, other := range map[string]string{"postfix": "sendmail", "sendmail": "postfix"} {
		heard("what the other gate writes", mta, otherClient, "writer+"+mta+"@client.test", 250, "")
		heard("the reader", mta, otherClient, "reader@client.test", 550, "seen: "+mta)
		heard("the reader at the other gate", other, otherClient, "reader@client.test", 550, "seen: ")
		for range 2 {
			heard("an eager sender", mta, otherClient, "eager@client.test", 250, "")
		}
		heard("an eager sender", mta, otherClient, "eager@client.test", 451, "slow down")

		heard("another client", mta, otherClient, "asker@client.test", 550, "listed: None")
	}
	// The client is listed at one gate, and at once at the other.
	if r := g.from(addr["postfix"], virusClient, "a@client.test", to["postfix"], lab.Eicar()); r.Code != 550 || !strings.Contains(r.Text(), "infected: "+lab.ClamdSignature) {
		t.Errorf("an infected message: %s", r)
	}
	for mta, gate := range gates {
		heard("the next message", mta, virusClient, "a@client.test", 550, "You are on the list")
		if out, problem, _ := gate.Command("blocklist", "show", virusClient); !strings.Contains(out, "the script says "+lab.ClamdSignature) {
			t.Errorf("%s: the list shows\n%s%s", mta, out, problem)
		}
	}
	// Written at one gate, and read at the other.
	heard("a writer", "sendmail", otherClient, "writer+news@client.test", 250, "")
	if n := shared.Stats()["cmd_set"]; n == "0" {
		t.Error("nothing was written to memcached")
	}
	scanner.Kill()
	heard("a message without a scanner", "postfix", otherClient, "a@client.test", 451, "unscanned: ")
}
