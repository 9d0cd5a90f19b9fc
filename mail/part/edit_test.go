// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"rcptgate"
)

// result is the message that an MTA makes of the proposed edits.
func result(t testing.TB, m *rcptgate.Message) string {
	t.Helper()
	var out strings.Builder
	line := func(name, value string) {
		out.WriteString(name + ":" + strings.ReplaceAll(value, "\n", "\r\n") + "\r\n")
	}
	count := map[string]int{}
	for _, f := range m.Fields {
		name := strings.ToLower(f.Name)
		count[name]++
		i := slices.IndexFunc(m.Edits(), func(e rcptgate.Edit) bool {
			return (e.Kind == rcptgate.EditChangeHeader || e.Kind == rcptgate.EditDeleteHeader) && strings.EqualFold(e.Name, name) && e.Index == count[name]
		})
		switch {
		case i < 0:
			line(f.Name, f.Value)
		case m.Edits()[i].Kind == rcptgate.EditChangeHeader:
			line(f.Name, " "+m.Edits()[i].Value)
		}
	}
	body, size := m.Body, m.Size
	for _, e := range m.Edits() {
		switch e.Kind {
		case rcptgate.EditAddHeader:
			line(e.Name, " "+e.Value)
		case rcptgate.EditReplaceBody:
			body, size = e.Body, e.Size
		}
	}
	out.WriteString("\r\n")
	data, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	if err != nil || int64(len(data)) != size {
		t.Fatalf("%d octets of %d: %v", len(data), size, err)
	}
	return out.String() + string(data)
}

// edit changes a message and gives what comes out, with LF at the ends of lines.
func edit(t testing.TB, text string, do func(v *View) error) string {
	t.Helper()
	m := message(t, text)
	v := Open(t.Context(), m)
	if err := errors.Join(do(v), v.Apply()); err != nil {
		t.Fatal(err)
	}
	out := result(t, m)
	if strings.Count(out, "\n") != strings.Count(out, "\r\n") {
		t.Errorf("bare LF in %q", out)
	}
	return strings.ReplaceAll(out, "\r\n", "\n")
}

// appending appends a text, and holds what comes of it.
func appending(t testing.TB, text string, reasons ...string) func(v *View) error {
	return func(v *View) error {
		t.Helper()
		out, err := v.AppendText(text, "")
		var got []string
		for _, o := range out {
			got = append(got, o.Reason)
		}
		if reasons == nil {
			reasons = []string{""}
		}
		if !slices.Equal(got, reasons) {
			t.Errorf("outcome %q, want %q", got, reasons)
		}
		return err
	}
}

func TestAppendText(t *testing.T) {
	tests := []struct{ name, in, text, want string }{
		{"plain", "A: 1\n\nhello\n", "bye", "A: 1\n\nhello\nbye\n"},
		{"without a line end", "A: 1\n\nhello", "bye\n\n", "A: 1\n\nhello\nbye\n"},
		{"nothing", "A: 1\n\n", "bye", "A: 1\n\nbye\n"},
		{"UTF-8 into ASCII", "Mime-Version: 1.0\nContent-Type: text/plain; charset=us-ascii; format=fixed\n\nhello\n", "grüße",
			"Mime-Version: 1.0\nContent-Type: text/plain; charset=utf-8; format=fixed\nContent-Transfer-Encoding: 8bit\n\nhello\ngrüße\n"},
		{"UTF-8 where nothing is said", "A: 1\n\nhello\n", "grüße",
			"A: 1\nContent-Type: text/plain; charset=utf-8\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\nhello\ngrüße\n"},
		{"UTF-8 where nothing is said and octets are", "A: 1\n\nh\xe4llo\n", "grüße “x” Ω", "A: 1\n\nh\xe4llo\ngrusse \"x\" ?\n"},
		{"Latin-1, 8bit", "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nh\xe4llo\n", "grüße ✓ – €",
			"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n\nh\xe4llo\ngr\xfc\xdfe ? \x96 \x80\n"},
		{"ISO-8859-7", "Content-Type: text/plain; charset=iso-8859-7\nContent-Transfer-Encoding: quoted-printable\n\n=E1\n", "α é “x”",
			"Content-Type: text/plain; charset=iso-8859-7\nContent-Transfer-Encoding: quoted-printable\n\n=E1\n=E1 e \"x\"\n"},
		{"ISO-2022-JP", "Content-Type: text/plain; charset=iso-2022-jp\nMime-Version: 1.0\n\n\x1b$B$\"\x1b(B\n", "あ.", "Content-Type: text/plain; charset=iso-2022-jp\nMime-Version: 1.0\n\n\x1b$B$\"\x1b(B\n\x1b$B$\"\x1b(B.\n"},
		{"UTF-7", "Content-Type: text/plain; charset=utf-7\n\n1 +- 1\n", "2 + é", "Content-Type: text/plain; charset=utf-7\n\n1 +- 1\n2 +- e\n"},
		{"unknown character set", "Content-Type: text/plain; charset=x-none\n\nhello\n", "grüße", "Content-Type: text/plain; charset=x-none\n\nhello\ngrusse\n"},
		{"quoted-printable", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4", "ä=", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n=C3=A4=3D\n"},
		{"quoted-printable, a soft line break at the end", "Content-Transfer-Encoding: quoted-printable\n\nhello=", "bye", "Content-Transfer-Encoding: quoted-printable\n\nhello=\n\nbye\n"},
		{"quoted-printable, a soft line break and a line end", "Content-Transfer-Encoding: quoted-printable\n\nhello=\n", "bye", "Content-Transfer-Encoding: quoted-printable\n\nhello=\n\nbye\n"},
		{"base64", "Content-Transfer-Encoding: base64\n\naGVsbG8K\n", "bye", "Content-Transfer-Encoding: base64\n\naGVsbG8K\nYnllDQo=\n"},
		{"base64 with padding", "Content-Transfer-Encoding: base64\n\naGVsbG8=\n", "bye", "Content-Transfer-Encoding: base64\n\naGVs\nbG8NCmJ5ZQ0K\n"},
		{"base64 without padding", "Content-Transfer-Encoding: base64\n\naGVsbG8\n", "bye", "Content-Transfer-Encoding: base64\n\naGVs\nbG8NCmJ5ZQ0K\n"},
		{"base64 in short lines", "Content-Transfer-Encoding: base64\n\naGV\nsb\nG8=", "bye", "Content-Transfer-Encoding: base64\n\naGV\ns\nbG8NCmJ5ZQ0K\n"},
		{"base64 of nothing", "Content-Transfer-Encoding: base64\n\n", "bye", "Content-Transfer-Encoding: base64\n\nYnllDQo=\n"},
		{"base64 in UTF-16", "Content-Type: text/plain; charset=utf-16le\nContent-Transfer-Encoding: base64\n\naAAKAA==\n", "é",
			"Content-Type: text/plain; charset=utf-16le\nContent-Transfer-Encoding: base64\n\naAAK\nAOkADQAKAA==\n"},
		{"HTML", "Content-Type: text/html\n\n<html><body>hello</body></html>\n", "a<b\nü", "Content-Type: text/html\n\n<html><body>hello<div>a&lt;b<br>\n&#252;</div>\n</body></html>\n"},
		{"HTML without an end", "Content-Type: text/html\n\n<p>hello", "bye", "Content-Type: text/html\n\n<p>hello\n<div>bye</div>\n"},
		{"HTML with two bodies", "Content-Type: text/html\n\n</body>x</BoDy >y</bod>z</html>", "bye", "Content-Type: text/html\n\n</body>x<div>bye</div>\n</BoDy >y</bod>z</html>"},
		{"HTML, quoted-printable", "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\nhello =3C/b=\nody></html=3E\n", "a=b",
			"Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\nhello =\n<div>a=3Db</div>\n=\n=3C/b=\nody></html=3E\n"},
		{"flowed", "Content-Type: text/plain; format=flowed\n\nhello \n", "> quoted  \n-- \nFrom me", "Content-Type: text/plain; format=flowed\n\nhello \n > quoted\n--\n From me\n"},
		{"alternatives", "Content-Type: multipart/alternative; boundary=x\n\n--x\n\nhello\n--x\nContent-Type: text/html\n\n<b>hello</b>\n--x--\n", "bye",
			"Content-Type: multipart/alternative; boundary=x\n\n--x\n\nhello\nbye\n--x\nContent-Type: text/html\n\n<b>hello</b>\n<div>bye</div>\n--x--\n"},
		{"mixed, an attachment first", "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain; name=a.txt\n\nA\n--x\n\nhello\n\n--x\n\nfooter\n--x--\n", "bye",
			"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain; name=a.txt\n\nA\n--x\n\nhello\nbye\n\n--x\n\nfooter\n--x--\n"},
		{"8bit in multiparts", "Mime-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/related; boundary=y\nContent-Transfer-Encoding: 7bit\n\n--y\n\nhello\n--y--\n--x--\n", "é",
			"Mime-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\nContent-Transfer-Encoding: 8bit\n\n--x\nContent-Type: multipart/related; boundary=y\nContent-Transfer-Encoding: 8bit\n\n--y\nContent-Type: text/plain;\n\tcharset=utf-8\nContent-Transfer-Encoding: 8bit\n\nhello\né\n--y--\n--x--\n"},
		{"the boundary right behind the header", "Content-Type: multipart/mixed; boundary=x\n\n--x\n\n--x--\n", "bye", "Content-Type: multipart/mixed; boundary=x\n\n--x\n\nbye\n--x--\n"},
		{"no empty line behind the header", "Content-Type: multipart/mixed; boundary=x\n\n--x\nhello\n--x--\n", "é",
			"Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\n--x\nContent-Type: text/plain;\n\tcharset=utf-8\nContent-Transfer-Encoding: 8bit\n\nhello\né\n--x--\n"},
		{"a line like the boundary", "Content-Type: multipart/mixed; boundary=x\n\n--x\n\nhello\n--x--\n", "--x--\n--y", "Content-Type: multipart/mixed; boundary=x\n\n--x\n\nhello\n --x--\n--y\n--x--\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reasons := []string{""}
			if tt.name == "alternatives" {
				reasons = []string{"", ""}
			}
			if got := edit(t, tt.in, appending(t, tt.text, reasons...)); got != tt.want {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

func TestHTMLInBase64(t *testing.T) {
	for pad := range 6 {
		before := strings.Repeat("x", pad)
		in := "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + string(base64Lines([]byte(before+"<p>hello</body></html>"))) + "\n"
		m := message(t, edit(t, in, appending(t, "bye é")))
		got := must[string](t)(must[*Part](t)(Open(t.Context(), m).Root()).Text(1000))
		want := before + "<p>hello<div>bye &#233;</div>\r\n</body></html>"
		if short := strings.Replace(strings.Replace(got, "\r\n  </body", "\r\n</body", 1), "\r\n </body", "\r\n</body", 1); short != want {
			t.Errorf("%d octets in front: %q, want %q", pad, got, want)
		}
	}
}

func TestAppendTextLeavesAlone(t *testing.T) {
	tests := []struct{ name, in, reason string }{
		{"signed", "Content-Type: multipart/signed; boundary=x\n\n--x\n\nhello\n--x\nContent-Type: application/pgp-signature\n\ns\n--x--\n", "signed"},
		{"signed in mixed", "Content-Type: multipart/mixed; boundary=y\n\n--y\nContent-Type: multipart/signed; boundary=x\n\n--x\n\nhello\n--x\nContent-Type: application/pgp-signature\n\ns\n--x--\n--y--\n", "signed"},
		{"S/MIME, signed", "Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nx\n", "signed"},
		{"S/MIME", "Content-Type: application/x-pkcs7-mime; smime-type=enveloped-data\n\nx\n", "encrypted"},
		{"PGP/MIME", "Content-Type: multipart/encrypted; boundary=x\n\n--x\n\nhello\n--x--\n", "encrypted"},
		{"report", "Content-Type: multipart/report; boundary=x\n\n--x\n\nhello\n--x--\n", "report"},
		{"picture", "Content-Type: image/png\n\nx\n", "type"},
		{"attachment", "Content-Disposition: attachment\n\nx\n", "type"},
		{"junk behind base64", "Content-Transfer-Encoding: base64\n\naGVsbG8=\naGVsbG8=\n", "encoding"},
		{"unknown encoding", "Content-Transfer-Encoding: x-uuencode\n\nbegin\n", "encoding"},
		{"no parts", "Content-Type: multipart/mixed\n\nhello\n", "encoding"},
	}
	for _, tt := range tests {
		if got := edit(t, tt.in, appending(t, "bye", tt.reason)); got != tt.in {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

const two = `From: a@example.org
Content-Type: multipart/mixed; boundary=x

preamble
--x
Content-Type: text/plain

hello
--x
Content-Type: application/zip; name=evil.zip
Content-Transfer-Encoding: base64
X-Other: 1

UEsDBA==

--x
Content-Type: message/rfc822

Subject: inner
Content-Type: text/html

<b>inner</b>
--x--
epilogue
`

func TestRemoveAndReplace(t *testing.T) {
	parts := func(v *View) []*Part { return must[[]*Part](t)(v.Parts()) }
	tests := []struct {
		name, in string
		do       func(v *View) error
		want     string
	}{
		{"remove", two, func(v *View) error { return parts(v)[2].Remove("") }, strings.Replace(two, two[strings.Index(two, "--x\nContent-Type: application"):strings.Index(two, "--x\nContent-Type: message")], "", 1)},
		{"remove with a note", two, func(v *View) error { return parts(v)[2].Remove("evil.zip was removed. ü=\n") },
			strings.Replace(two, two[strings.Index(two, "Content-Type: application"):strings.Index(two, "\n--x\nContent-Type: message")],
				"Content-Type: text/plain;\n\tcharset=utf-8\nContent-Transfer-Encoding: quoted-printable\nContent-Disposition: inline\n\nevil.zip was removed. =C3=BC=3D", 1)},
		{"replace", two, func(v *View) error {
			return parts(v)[2].Replace([]byte(strings.Repeat("\x00", 60)), "application/x-test", "é.bin")
		}, strings.Replace(two, two[strings.Index(two, "Content-Type: application"):strings.Index(two, "\n--x\nContent-Type: message")],
			"Content-Type: application/x-test;\n\tname*=utf-8''%C3%A9.bin\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment;\n\tfilename*=utf-8''%C3%A9.bin\n\n"+strings.Repeat("A", 76)+"\nAAAA", 1)},
		{"the message in a part", two, func(v *View) error { return parts(v)[4].Remove("gone") },
			strings.Replace(two, "Content-Type: text/html\n\n<b>inner</b>", "Content-Type: text/plain;\n\tcharset=utf-8\nContent-Transfer-Encoding: quoted-printable\nContent-Disposition: inline\n\ngone", 1)},
		{"all parts", two, func(v *View) error {
			return errors.Join(parts(v)[1].Remove(""), parts(v)[2].Remove(""), parts(v)[3].Remove(""))
		}, two[:strings.Index(two, "--x\n")] + "--x\n\n\n--x--\nepilogue\n"},
		{"the message", two, func(v *View) error { return parts(v)[0].Remove("gone") },
			"From: a@example.org\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nMIME-Version: 1.0\n\ngone\n"},
		{"the message, of a single part", "Content-Type: application/zip\nContent-Disposition: attachment; filename=a.zip\nContent-Transfer-Encoding: base64\nMime-Version: 1.0\n\nUEs=\n",
			func(v *View) error { return parts(v)[0].Remove("") }, "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nMime-Version: 1.0\n\n\n"},
		{"append, then remove, then append", two, func(v *View) error {
			return errors.Join(appending(t, "bye", "")(v), parts(v)[1].Replace([]byte("new"), "text/plain", ""), appending(t, "bye", "replaced")(v))
		}, strings.Replace(two, "Content-Type: text/plain\n\nhello", "Content-Type: text/plain;\n\tcharset=utf-8\nContent-Transfer-Encoding: quoted-printable\nContent-Disposition: inline\n\nnew", 1)},
		{"append twice", two, func(v *View) error {
			return errors.Join(appending(t, "one\n")(v), appending(t, "two")(v))
		}, strings.Replace(two, "hello", "hello\none\ntwo", 1)},
		{"nothing", two, func(v *View) error { return nil }, two},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := edit(t, tt.in, tt.do); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestEditsThatAreRefused(t *testing.T) {
	v := view(t, two)
	parts := must[[]*Part](t)(v.Parts())
	if err := parts[3].Remove("gone"); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, ContentMax)
	cut := message(t, two)
	cut.Cut = true
	tests := []struct {
		name string
		err  error
		want error
	}{
		{"a part of what is gone", parts[4].Remove("x"), ErrReplaced},
		{"twice", parts[3].Remove(""), ErrReplaced},
		{"multipart", parts[1].Replace(nil, "multipart/mixed", ""), nil},
		{"no type", parts[1].Replace(nil, "text", ""), nil},
		{"CR in the name", parts[1].Replace(nil, "text/plain", "a\r\nb"), nil},
		{"too long", parts[1].Replace(append(big, 0), "text/plain", ""), nil},
		{"too long a text", func() error { _, err := v.AppendText(strings.Repeat("x", AppendMax+1), ""); return err }(), nil},
		{"too much together", errors.Join(parts[1].Replace(big, "a/b", ""), parts[2].Replace(big, "a/b", "")), nil},
		{"a message that was cut", func() error { return must[[]*Part](t)(Open(t.Context(), cut).Parts())[1].Remove("x") }(), ErrCut},
		{"not agreed on", func() error {
			m := rcptgate.NewMessage(rcptgate.WantBody)
			m.Body, m.Size = bytes.NewReader([]byte("x")), 1
			v := Open(t.Context(), m)
			_, err := v.AppendText("y", "")
			return errors.Join(err, v.Apply())
		}(), rcptgate.ErrNotAgreed},
	}
	for _, tt := range tests {
		if tt.err == nil || tt.want != nil && !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.want)
		}
	}
}

func TestNoLineOfQuotedPrintableIsABoundary(t *testing.T) {
	for n := range 90 {
		out := string(quoted([]byte(strings.Repeat("x", n) + strings.Repeat("--b", 60))))
		for line := range strings.SplitSeq(out, "\r\n") {
			if strings.HasPrefix(line, "--") || len(line) > 78 {
				t.Fatalf("%d: line %q", n, line)
			}
		}
		if got := fmt.Sprint(out); strings.Contains(strings.ReplaceAll(strings.ReplaceAll(got, "=\r\n", ""), "=2D", "-"), "=") {
			t.Fatalf("%q", got)
		}
	}
}
