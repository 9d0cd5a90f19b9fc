// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcptgate/check/script"
	"rcptgate/front/milter"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// everyHook has all functions: what each is to refuse is named by the client or the sender.
const everyHook = `
def connect(c):
    c.notes["from"] = c.ip

def helo(c):
    c.notes["helo"] = c.helo
    if c.helo == "bad.test":
        return reject("no such name")

def sender(m):
    m.notes["sender"] = m.sender
    m.notes["args"] = " ".join(m.args)
    if m.sender.user == "spammer":
        return reject("not you, " + m.sender, code = 554)

def recipient(r):
    if r.address.local == "nobody":
        return reject("nobody there", enhanced = "5.1.1")
    if r.address.local == "drop":
        return discard()
    if r.address.local == "later":
        return tempfail("later")

def message(m):
    if m.subject == "Grüße":
        return reject("no greetings")
    for p in m.parts:
        if "exe" in p.exts:
            p.remove("a program was removed")
    m.append_text("-- the disclaimer --")
    m.add_header("X-Seen", "%s %s %s %s" % (m.client.notes.get("from"), m.client.notes.get("helo"), m.notes.get("sender"), m.notes.get("args")))
    m.tag_subject("[in]")
    m.delete_header("X-Secret")
`

// startScript runs a gate with a script, and gives the port of its milter.
func startScript(t *testing.T, text string) (port int) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "filter.star")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	port = lab.FreePort(t)
	units := []unit.Unit{script.Unit(), milter.Unit()}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("enforce = true\nstate = %q\n[listen]\nmilter = [\"inet:%d@127.0.0.1\"]\n[script]\nfile = %q\n", dir, port, file))
	if err != nil {
		t.Fatal(err)
	}
	h, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Disk: openDisk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return port
}

const twoParts = "Subject: %s\r\nX-Secret: 1\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x\r\nContent-Type: application/octet-stream; name=a.exe\r\n\r\nPROGRAM\r\n--x--\r\n"

// TestScript plays every function of a script through both MTAs.
func TestScript(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, m := range stagesMTAs {
		t.Run(m.name, func(t *testing.T) {
			sink := lab.StartSink(t)
			addr, log := m.start(t, startScript(t, everyHook), sink)
			d := lab.MustDial(t, addr)
			defer d.Close()
			d.Must(t, 250, d.Do(t, "EHLO bad.test"))
			heard := func(r lab.Reply, code int, text string) {
				t.Helper()
				if r.Code != code || !strings.HasSuffix(r.String(), text) {
					t.Errorf("%q, want %d ... %s\n%s", r, code, text, tail(log()))
				}
			}
			heard(d.Mail(t, "a@client.test"), 550, "no such name")
			d.Must(t, 250, d.Do(t, "EHLO good.test"))
			heard(d.Mail(t, "Spammer+1@client.test"), 554, "not you, spammer+1@client.test")
			d.Must(t, 250, d.Do(t, "MAIL FROM:<a@client.test> SIZE=400 BODY=7BIT"))
			heard(d.Rcpt(t, "nobody@in.test"), 550, "nobody there")
			heard(d.Rcpt(t, "later@in.test"), 451, "later")
			for _, rcpt := range []string{"a@in.test", "drop@in.test", "b@in.test"} {
				d.Must(t, 250, d.Rcpt(t, rcpt))
			}
			mark := "script-" + m.name
			d.Must(t, 354, d.Do(t, "DATA"))
			d.Must(t, 250, d.Do(t, fmt.Sprintf(twoParts, mark)+"."))
			got, found := sink.Find(t, mark, 2)
			if !slices.Equal(got, []string{"a@in.test", "b@in.test"}) {
				t.Fatalf("delivered to %q\n%s", got, tail(log()))
			}
			text := found[0].Data
			for _, want := range []string{"Subject: [in] " + mark, "X-Seen: 127.0.0.9 good.test a@client.test SIZE=400 BODY=7BIT", "-- the disclaimer --", "a program was removed"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if strings.Contains(text, "X-Secret") || strings.Contains(text, "PROGRAM") {
				t.Errorf("what was removed is there:\n%s", text)
			}
			d.Must(t, 250, d.Mail(t, "a@client.test"))
			d.Must(t, 250, d.Rcpt(t, "a@in.test"))
			d.Must(t, 354, d.Do(t, "DATA"))
			heard(d.Do(t, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nx\r\n."), 550, "no greetings")
		})
	}
}
