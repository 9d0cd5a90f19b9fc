// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/mail/part"
	"rcptgate/test/lab"
)

// bodyScript does to a message what its field X-Do says.
const bodyScript = `
def message(m):
    orders = m.header("X-Do")
    if orders == None:
        return
    for word in orders.split(" "):
        for p in m.parts:
            if word == "remove" and p.filename:
                p.remove("` + removedNote + `")
            if word == "drop" and p.filename:
                p.remove()
            if word == "replace" and p.filename:
                p.replace("` + replacedText + `", name = "notice.txt")
            if word == "binary" and p.filename:
                p.replace(bytes([0, 255, 13, 10, 46, 13, 10]), type = "application/octet-stream", name = "new.bin")
        if word == "append":
            m.append_text("` + asciiText + `")
        if word == "umlaut":
            m.append_text("` + umlautText + `", html = "` + umlautHTML + `")
`

const (
	removedNote  = "removed: it was a program"
	replacedText = `a notice\n.\nwith a dot, and Grüße`
	asciiText    = `--\nThis mail is confidential.\n.`
	umlautText   = "Mit freundlichen Grüßen"
	umlautHTML   = "<p>Grüße</p>"
)

// doTo does the same with the library alone.
func doTo(t *testing.T, m *rcptgate.Message, orders string) {
	t.Helper()
	lines := strings.NewReplacer(`\n`, "\n")
	v := part.Open(t.Context(), m)
	parts, err := v.Parts()
	for _, word := range strings.Fields(orders) {
		for _, p := range parts {
			if p.Filename() == "" || p.IsMultipart() || err != nil {
				continue
			}
			switch word {
			case "remove":
				err = p.Remove(removedNote)
			case "drop":
				err = p.Remove("")
			case "replace":
				err = p.Replace([]byte(lines.Replace(replacedText)), "text/plain", "notice.txt")
			case "binary":
				err = p.Replace([]byte("\x00\xff\r\n.\r\n"), "application/octet-stream", "new.bin")
			}
		}
		if word == "append" && err == nil {
			_, err = v.AppendText(lines.Replace(asciiText), "")
		}
		if word == "umlaut" && err == nil {
			_, err = v.AppendText(umlautText, umlautHTML)
		}
	}
	if err == nil {
		err = v.Apply()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// bodyCase is a message, without its marks, and what is done to it. What stands in keep has to be delivered as it was,
// one after the other; gone must not be there.
type bodyCase struct {
	name, orders, message string
	keep, gone            []string
}

const (
	plainHead = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n"
	attachedA = "Content-Type: application/octet-stream; name=\"a.exe\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nUFJPR1JBTQ==\r\n"
	attachedB = "Content-Type: image/png\r\nContent-Transfer-Encoding: BASE64\r\nX-Odd:  kept\t\r\n\r\niVBORw0KGgo=\r\n\r\n"
)

func bodyCases(blanks string) []bodyCase {
	long := strings.Repeat("a line of seventy characters, more or less, that is repeated very often\r\n", 3000)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	mixed := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b=1\"\r\n\r\npreamble\r\n--b=1\r\nContent-Type: text/plain\r\n\r\n..hello\r\n.\r\nworld\r\n" +
		"--b=1" + blanks + "\r\n" + attachedA + "--b=1\r\n" + attachedB + "--b=1--\r\nepilogue\r\n.\r\n--b=1\r\nnot a part\r\n"
	alternative := "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe =\r\n" +
		"soft\r\n--x\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64("<html><body>Gr\xc3\xbc\xc3\x9fe</body></html>\n") + "\r\n--x--\r\n"
	signed := "MIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=s\r\n\r\n--s\r\nContent-Type: text/plain\r\n\r\nsigned \r\n\r\n--s\r\n" +
		"Content-Type: application/pgp-signature; name=sig.asc\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n=abcd\r\n-----END PGP SIGNATURE-----\r\n--s--\r\n"
	return []bodyCase{
		{"nothing", "", mixed, []string{"..hello\r\n.\r\nworld\r\n--b=1" + blanks + "\r\n" + attachedA, attachedB, "epilogue\r\n.\r\n--b=1\r\nnot a part\r\n"}, nil},
		{"text", "append", "X-A: 1\r\n\r\nhello\r\n.\r\n..\r\n", []string{"\r\nhello\r\n.\r\n..\r\n", "confidential"}, nil},
		{"empty", "append", "X-A: 1\r\n\r\n", []string{"confidential"}, nil},
		{"text, not ASCII", "umlaut", "X-A: 1\r\n\r\nhello\r\n", []string{"hello\r\n"}, nil},
		{"UTF-8", "umlaut", fmt.Sprintf(plainHead, "utf-8", "8bit") + "Gr\xc3\xbc\xc3\x9fe\r\n", []string{"Gr\xc3\xbc\xc3\x9fe\r\n", umlautText}, nil},
		{"quoted-printable", "umlaut", fmt.Sprintf(plainHead, "utf-8", "quoted-printable") + "Gr=C3=BC=C3=9Fe =20\r\nsoft=\r\n\r\n=\r\n", []string{"Gr=C3=BC=C3=9Fe =20\r\nsoft=\r\n", "Gr=C3=BC=C3=9Fen"}, nil},
		{"base64", "umlaut", fmt.Sprintf(plainHead, "utf-8", "base64") + b64("hello") + "\r\n", []string{"aGVs"}, nil},
		{"base64, twice", "append umlaut", fmt.Sprintf(plainHead, "utf-8", "base64") + b64(strings.Repeat("hello", 100))[:76] + "\r\n" + b64(strings.Repeat("hello", 100))[76:] + "\r\n", nil, nil},
		{"HTML", "append", "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><BODY>a</BODY>\r\n</html>\r\n", []string{"<html><BODY>a", "confidential", "</BODY>\r\n</html>\r\n"}, nil},
		{"a long text", "append", "X-A: 1\r\n\r\n" + long, []string{long, "confidential"}, nil},
		{"mixed", "append", mixed, []string{"preamble\r\n--b=1\r\n", "..hello\r\n.\r\nworld\r\n", "confidential", "--b=1" + blanks + "\r\n" + attachedA + "--b=1\r\n" + attachedB + "--b=1--\r\nepilogue\r\n.\r\n--b=1\r\nnot a part\r\n"}, nil},
		{"remove", "remove", mixed, []string{"..hello\r\n.\r\nworld\r\n--b=1" + blanks + "\r\n", "removed", "--b=1\r\n" + attachedB + "--b=1--\r\nepilogue\r\n.\r\n"}, []string{"a.exe", "UFJP"}},
		{"drop", "drop", mixed, []string{"..hello\r\n.\r\nworld\r\n", "--b=1\r\n" + attachedB + "--b=1--\r\nepilogue\r\n.\r\n"}, []string{"a.exe", "UFJP"}},
		{"replace", "replace", mixed, []string{"..hello\r\n.\r\nworld\r\n--b=1" + blanks + "\r\n", "notice.txt", "--b=1\r\n" + attachedB + "--b=1--\r\nepilogue\r\n.\r\n"}, []string{"a.exe", "UFJP"}},
		{"replace, and append", "binary umlaut", mixed, []string{"..hello\r\n.\r\nworld\r\n", "new.bin", "AP8NCi4NCg==", "--b=1\r\n" + attachedB + "--b=1--\r\nepilogue\r\n"}, []string{"a.exe", "UFJP"}},
		{"the only part", "remove", "MIME-Version: 1.0\r\n" + attachedA, []string{"removed"}, []string{"UFJP"}},
		{"alternative", "umlaut", alternative, []string{"Gr=FC=DFe =\r\nsoft\r\n", "Gr=FC=DFen", "--x\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"}, nil},
		{"signed", "append", signed, []string{"--s\r\nContent-Type: text/plain\r\n\r\nsigned \r\n\r\n--s\r\n", "=abcd\r\n-----END PGP SIGNATURE-----\r\n--s--\r\n"}, []string{"confidential"}},
		{"signed in mixed", "append remove", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\n" + signed + "--out\r\n" + attachedA + "--out--\r\n", []string{"signed \r\n\r\n--s\r\n", "removed"}, []string{"UFJP", "confidential"}},
		{"a message in it", "remove", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\n\r\ntext\r\n--out\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n" + mixed + "\r\n--out--\r\n", []string{"Subject: inner\r\n", "..hello\r\n", "removed", attachedB}, []string{"UFJP"}},
	}
}

// expected is the message, with its marks, after the library's changes.
func expected(t *testing.T, message, orders string) string {
	t.Helper()
	m := rcptgate.ReadMessage([]byte(message))
	doTo(t, m, orders)
	fields := make([]string, len(m.Fields))
	for i, f := range m.Fields {
		fields[i] = f.Name + ":" + f.Value
	}
	body := io.NewSectionReader(m.Body, 0, m.Size)
	for _, e := range m.Edits() {
		field := e.Name + ": " + e.Value
		switch e.Kind {
		case rcptgate.EditAddHeader:
			fields = append(fields, field)
		case rcptgate.EditChangeHeader, rcptgate.EditDeleteHeader:
			n := 0
			for i, f := range m.Fields {
				if !strings.EqualFold(f.Name, e.Name) {
					continue
				}
				if n++; n != e.Index {
					continue
				}
				if fields[i] = f.Name + ": " + e.Value; e.Kind == rcptgate.EditDeleteHeader {
					fields[i] = ""
				}
			}
		case rcptgate.EditReplaceBody:
			body = io.NewSectionReader(e.Body, 0, e.Size)
		default:
			t.Fatalf("an edit of another kind: %v", e)
		}
	}
	var b strings.Builder
	for _, f := range fields {
		if f != "" {
			b.WriteString(strings.ReplaceAll(f, "\n", "\r\n") + "\r\n")
		}
	}
	b.WriteString("\r\n")
	if _, err := io.Copy(&b, body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBodyEdits has a script change bodies through both MTAs, and compares what is delivered with what the library makes,
// octet for octet.
func TestBodyEdits(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	for _, mta := range stagesMTAs {
		t.Run(mta.name, func(t *testing.T) {
			sink := lab.StartSink(t)
			addr, log := mta.start(t, startScript(t, bodyScript), sink)
			blanks := "  " // behind a boundary; Sendmail itself takes them off any message
			if mta.name == "sendmail" {
				blanks = ""
			}
			for i, tc := range bodyCases(blanks) {
				mark := fmt.Sprintf("body-%s-%d", mta.name, i)
				message := "From: x@client.test\r\nTo: a@in.test\r\nSubject: one\r\nMessage-Id: <" + mark + "@client.test>\r\nDate: Sat, 28 Nov 2026 15:00:00 +0000\r\n"
				if tc.orders != "" {
					message += "X-Do: " + tc.orders + "\r\n"
				}
				message += tc.message
				d := lab.MustDial(t, addr)
				d.Must(t, 250, d.Do(t, "EHLO client.test"))
				d.Must(t, 250, d.Do(t, "MAIL FROM:<x@client.test> BODY=8BITMIME"))
				d.Must(t, 250, d.Rcpt(t, "a@in.test"))
				d.Must(t, 354, d.Do(t, "DATA"))
				d.Must(t, 250, d.Do(t, strings.ReplaceAll(message, "\r\n.", "\r\n..")+"."))
				d.Close()
				_, found := sink.Find(t, mark, 1)
				if len(found) != 1 {
					t.Fatalf("%s: delivered %d times\n%s", tc.name, len(found), tail(log()))
				}
				got, _ := withoutOwn(found[0].Data)
				if want := expected(t, message, tc.orders); got != want {
					t.Errorf("%s: delivered\n%q\nwant\n%q", tc.name, short(got), short(want))
				}
				rest := got
				for _, text := range tc.keep {
					_, after, found := strings.Cut(rest, text)
					if !found {
						t.Errorf("%s: no %q in\n%s", tc.name, short(text), short(got))
						break
					}
					rest = after
				}
				for _, text := range tc.gone {
					if strings.Contains(got, text) {
						t.Errorf("%s: %q is in\n%s", tc.name, text, short(got))
					}
				}
			}
		})
	}
}

func short(s string) string { return s[:min(len(s), 3000)] }
