// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"rcptgate/front/socketmap"
	"rcptgate/test/lab"
	"rcptgate/unit"
	"rcptgate/unit/fronttest"
)

const virusText = "You have sent us mail containing a virus and are blocked for an hour."

// recipe is the code block of docs/virus-senders.md that has the words, with the socket's path
// where the site's would be.
func recipe(t *testing.T, word, socket string) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/virus-senders.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		if strings.Contains(m[1], word) {
			return strings.ReplaceAll(m[1], "/run/rcptgate/map.sock", socket)
		}
	}
	t.Fatalf("docs/virus-senders.md has no block with %q", word)
	return ""
}

// mapGate is a gate in this process that has a list as a socket map, and the map's socket.
func mapGate(t *testing.T, list *fronttest.List, units ...unit.Unit) (socket string) {
	t.Helper()
	dir := lab.NewDir(t, "maps")
	socket = dir + "/map.sock"
	fronttest.Start(t, "[listen]\nsocketmap = [\"unix:"+socket+"\"]\n[socketmap]\nsocket_mode = \"0666\"\nmaps = [{ name = \"virbl\", list = \"virus\" }]\n",
		append([]unit.Unit{fronttest.Unit(list), socketmap.Unit()}, units...)...)
	return socket
}

func TestX(t *testing.T) {
	lab.Need(t, lab.SendmailKit)
	for _, word := range []string{"check_rcpt"} {
	list := fronttest.NewList("virus")
	list.Words = virusText
	dir := lab.NewDir(t, "maps")
	socket := dir + "/map.sock"
	h, _ := fronttest.Start(t, "[listen]\nsocketmap = [\"unix:"+socket+"\"]\n[socketmap]\nsocket_mode = \"0666\"\nmaps = [{ name = \"virbl\", list = \"virus\" }]\n", fronttest.Unit(list), socketmap.Unit())
	s := lab.StartSendmail(t, lab.SendmailOptions{LocalDomains: []string{"here.test"}, Aliases: map[string]string{"postmaster": "root", "abuse": "root"}, Extra: recipe(t, word, socket)})
	try := func(what string) {
		d, err := lab.Dial("tcp", s.Addr())
		if err != nil {
			t.Logf("%s: %v", what, err)
			return
		}
		t.Logf("%s: banner %s, ehlo %s, mail %s", what, d.Banner, d.Do(t, "EHLO x"), d.Mail(t, "a@b.test"))
		for _, r := range []string{"root@here.test", "postmaster@here.test", "postmaster", "abuse@here.test", "Postmaster@Here.test"} {
		t.Log(r, d.Rcpt(t, r))
		}
		d.Close()
	}
	try("not listed")
	client := netip.MustParseAddr(lab.ClientHost)
	_ = list.Add(client, "Eicar", "q", 0)
	try("listed")
	list.Remove(client)
	try("removed")
	h.Stop()
	try("stopped")
	time.Sleep(10*time.Millisecond)
	t.Log(s.Log())
	}
}
