// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"rcptgate/test/lab"
)

// attached is a message with a file.
func attached(t *testing.T, mark, name string, file []byte) string {
	t.Helper()
	text := base64.StdEncoding.EncodeToString(file)
	var lines strings.Builder
	for len(text) > 76 {
		lines.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	return "Zz: a field that no scanner knows\r\nSubject: " + mark + "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment; filename=\"" + name + "\"\r\n\r\n" + lines.String() + text + "\r\n--b--\r\n"
}

// zipped packs a file, again and again.
func zipped(t *testing.T, name string, file []byte, times int) []byte {
	t.Helper()
	for range times {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write(file)
		}
		if err == nil {
			err = z.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		name, file = "inner.zip", b.Bytes()
	}
	return file
}

// TestAntivirus sends infected messages through both MTAs, the gate and a real clamd: refused at
// their end, with the name of the signature, and taken or marked where that is configured.
func TestAntivirus(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit, lab.ClamavKit)
	server := lab.StartClamd(t, lab.ClamdOptions{})
	eicar := []byte(lab.Eicar())
	sink := lab.StartSink(t)
	config := func(infected string) string {
		return fmt.Sprintf("[antivirus]\nclamd = [\"unix:%s\"]\nmax_size = \"1MB\"\nheader = \"X-Virus-Status\"\ninfected = %q\n", server.Socket, infected)
	}
	for _, mta := range []string{"postfix", "sendmail"} {
		t.Run(mta, func(t *testing.T) {
			g := lab.StartGate(t, config("reject"))
			addr, log := "", func() string { return "" }
			if mta == "postfix" {
				p := lab.StartPostfix(t, lab.PostfixOptions{Milters: []string{g.PostfixMilter()}, Relay: map[string]string{"in.test": "smtp:" + sink.Hop()}})
				addr, log = p.Addr(), p.Log
			} else {
				s := lab.StartSendmail(t, lab.SendmailOptions{Milter: g.SendmailMilter(), Relay: map[string]string{"in.test": "esmtp:[" + sink.Host + "]"}})
				addr, log = s.Addr(), s.Log
			}
			send := func(message string) lab.Reply {
				d := lab.MustDial(t, addr)
				defer d.Close()
				d.Must(t, 250, d.Mail(t, "x@client.test"))
				d.Must(t, 250, d.Rcpt(t, "a@in.test"))
				d.Must(t, 354, d.Do(t, "DATA"))
				return d.Do(t, message+".")
			}
			for name, message := range map[string]string{
				"plain":      "Subject: v\r\n\r\n" + lab.Eicar() + "\r\n",
				"base64":     attached(t, "v", "eicar.com", eicar),
				"zip":        attached(t, "v", "eicar.zip", zipped(t, "eicar.com", eicar, 1)),
				"zip in zip": attached(t, "v", "eicar.zip", zipped(t, "eicar.com", eicar, 3)),
				"400 KB":     attached(t, "v", "eicar.bin", append(bytes.Repeat([]byte("x"), 300<<10), eicar...)),
			} {
				if r := send(message); r.Code != 550 || r.Enhanced != "5.7.1" || !strings.Contains(r.Text(), lab.ClamdSignature) {
					t.Errorf("%s: %s\n%s", name, r, tail(log()))
				}
			}
			if !g.Logged(`stage=message .*action=reject code=550 .*reason=virus .*virus=` + lab.ClamdSignature) {
				t.Errorf("no line of the decision:\n%s", tail(g.Log()))
			}
			mark := "antivirus-" + mta
			if r := send(attached(t, mark+"-clean", "clean.zip", zipped(t, "clean.txt", []byte("clean"), 1))); r.Code != 250 {
				t.Errorf("clean: %s", r)
			}
			// Rehearsal, then marks.
			g.Configure("enforce = false\n" + config("reject"))
			g.Apply()
			if r := send(attached(t, mark+"-rehearsed", "eicar.com", eicar)); r.Code != 250 {
				t.Errorf("rehearsed: %s", r)
			}
			if !g.Logged(`would=reject code=550 .*virus=` + lab.ClamdSignature) {
				t.Errorf("no line of the rehearsal:\n%s", tail(g.Log()))
			}
			g.Configure(config("mark"))
			g.Apply()
			if r := send("x-virus-status: clean\r\n" + attached(t, mark+"-marked", "eicar.com", eicar)); r.Code != 250 {
				t.Errorf("marked: %s", r)
			}
			for what, want := range map[string]string{"-clean": "X-Virus-Status: clean", "-rehearsed": "", "-marked": "X-Virus-Status: infected (" + lab.ClamdSignature + ")"} {
				_, found := sink.Find(t, "Subject: "+mark+what+"\r\n", 1)
				if len(found) != 1 {
					t.Fatalf("%s: delivered %d times\n%s", what, len(found), tail(log()))
				}
				n := strings.Count(strings.ToLower(found[0].Data), "x-virus-status:")
				if want != "" && (!strings.Contains(found[0].Data, want+"\r\n") || n != 1) || want == "" && n > 0 {
					t.Errorf("%s: %d fields, want %q\n%s", what, n, want, found[0].Data[:min(len(found[0].Data), 800)])
				}
			}
			if out, _, code := g.Command("antivirus", "test"); code != 0 || !strings.Contains(out, server.Socket) {
				t.Errorf("antivirus test: exit code %d\n%s", code, out)
			}
			// The scanner is gone: put off, and nothing passes.
			server.Kill()
			g.Configure(config("reject"))
			g.Apply()
			for range 3 {
				if r := send(attached(t, mark+"-unscanned", "eicar.com", eicar)); r.Code != 451 || r.Enhanced != "4.7.1" {
					t.Errorf("without a scanner: %s", r)
				}
			}
			if _, _, code := g.Command("status"); code != 1 {
				t.Errorf("status without a scanner: exit code %d", code)
			}
			server.Start()
		})
	}
}
