// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// zoneAt writes a time zone (tzfile(5)) in which it is the moment now, as "Mon,23:00" names it.
func zoneAt(t *testing.T, path, moment string) {
	t.Helper()
	day, clock, _ := strings.Cut(moment, ",")
	at, err := time.Parse("15:04", clock)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	then := time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, time.UTC)
	for then.Weekday().String()[:3] != day {
		then = then.AddDate(0, 0, 1)
	}
	file := make([]byte, 44, 64)
	copy(file, "TZif")
	binary.BigEndian.PutUint32(file[36:], 1) // of one kind of time
	binary.BigEndian.PutUint32(file[40:], 4) // octets of names
	file = binary.BigEndian.AppendUint32(file, uint32(int32(then.Sub(now)/time.Second)))
	file = append(file, 0, 0, 'L', 'A', 'B', 0)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRuleHours plays the recipes of docs/rules.md that depend on the time and on the number of recipients
// through both MTAs. The gate is a process whose time zone says that it is the moment of the wish; each wish
// has that minute.
func TestRuleHours(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	site, blocks := docBlocks(t)
	g := lab.NewGate(t)
	g.Zone = filepath.Join(g.Dir, "zone")
	postfix := lab.StartPostfix(t, lab.PostfixOptions{Milters: []string{g.PostfixMilter()}, Main: map[string]string{
		"smtpd_authorized_xclient_hosts": "127.0.0.0/8", "mynetworks": "127.0.0.0/8", "default_transport": "discard:",
		"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": "inet:" + authServer(t),
	}})
	sendmail := lab.StartSendmail(t, lab.SendmailOptions{Milter: g.SendmailMilter(), RelayDomains: []string{"example.net"}, Users: map[string]string{"ann": "secret"}})
	played := 0
	for _, block := range blocks {
		for _, w := range wishesOf(block) {
			if w.with["at"] == "" {
				continue
			}
			played++
			zoneAt(t, g.Zone, w.with["at"])
			g.Configure("trusted = [\"192.0.2.0/24\"]\n" + site + block)
			g.Run()
			d := lab.MustDial(t, postfix.Addr())
			pretend(t, d, &w)
			playCount(t, "postfix", d, &w)
			d = lab.MustDial(t, sendmail.Addr())
			logIn(t, d, w.with["auth"], "secret")
			playCount(t, "sendmail", d, &w)
			g.Stop(time.Minute)
		}
	}
	if played < 4 {
		t.Errorf("only %d wishes name a time", played)
	}
}

// playCount sends as many recipients as a wish names, and wants its outcome for the last.
func playCount(t *testing.T, name string, d *lab.Dialogue, w *wish) {
	t.Helper()
	defer d.Close()
	d.Must(t, 250, d.Do(t, "EHLO client.test"))
	d.Must(t, 250, d.Mail(t, w.sender))
	before, err := strconv.Atoi(w.with["rcpts"])
	if err != nil {
		t.Fatal(err)
	}
	for i := range before - 1 {
		d.Must(t, 250, d.Rcpt(t, fmt.Sprintf("r%d@example.net", i)))
	}
	want := map[string]int{"continue": 250, "tempfail": 451}[w.outcome]
	if r := d.Rcpt(t, w.recipient); r.Code != want {
		t.Errorf("%s: %s: %s", name, w.line, r)
	}
}
