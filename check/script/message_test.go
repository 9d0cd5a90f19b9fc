// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/unit"
)

const everything = rcptgate.WantMessage | rcptgate.WantHeader | rcptgate.WantBody | rcptgate.EditHeader | rcptgate.EditBody | rcptgate.EditSender | rcptgate.EditRecipients | rcptgate.Quarantine

// letter makes a message of a text whose lines end in LF.
func letter(text string) *rcptgate.Message {
	head, body, _ := strings.Cut(text, "\n\n")
	m := rcptgate.NewMessage(everything)
	for line := range strings.SplitSeq(head, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' {
			m.Fields = append(m.Fields, rcptgate.Field{Name: name, Value: value})
		} else if n := len(m.Fields); n > 0 {
			m.Fields[n-1].Value += "\n" + line
		}
	}
	body = strings.ReplaceAll(body, "\n", "\r\n")
	m.Body, m.Size = strings.NewReader(body), int64(len(body))
	m.Recipients = []rcptgate.Mailbox{address.Parse("Ann@example.org"), address.Parse("bob@example.org")}
	return m
}

// zipped is a zip archive with empty files of these names, in base 64.
func zipped(names ...string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, n := range names {
		_, _ = w.Create(n)
	}
	_ = w.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// mixed is a message with text, HTML and a zip archive.
func mixed() string {
	return `From: "Ann" <Ann@Sender.example>, b@x.example
To: ann@example.org
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Message-ID: <1@x>
Date: Sat, 28 Nov 2026 10:00:00 +0100
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/plain; charset=iso-8859-1

hello
--x
Content-Type: application/zip; name="=?utf-8?q?b=C3=A4d.zip?="
Content-Disposition: attachment; filename="x.zip"
Content-Transfer-Encoding: base64

` + zipped("readme.txt", "dir/evil.exe") + `
--x--
`
}

// tell asks about a message at its end.
func tell(t *testing.T, h *unit.Host, m *rcptgate.Message) (rcptgate.Verdict, *rcptgate.Query) {
	t.Helper()
	q := at(rcptgate.StageMessage, question("ann@example.org"))
	q.Message = m
	return h.Gate.Ask(t.Context(), q), q
}

// TestMessage holds what a script sees of a message.
func TestMessage(t *testing.T) {
	for expr, want := range map[string]string{
		"m.subject":                        "Grüße",
		"m.message_id":                     "<1@x>",
		"','.join(m.from_)":                "ann@sender.example,b@x.example",
		"m.date.format('2006-01-02')":      "2026-11-28",
		"m.header('subject')":              "Grüße",
		"m.header('subject', raw=True)":    "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
		"str(m.header('none'))":            "None",
		"str(len(m.headers('to')))":        "1",
		"m.fields[1][0]":                   "To",
		"','.join(m.recipients)":           "ann@example.org,bob@example.org",
		"m.sender":                         "ann+x@sender.example",
		"str(m.malformed)":                 "None",
		"str(m.cut)":                       "False",
		"m.text().strip()":                 "hello",
		"m.text(max=2)":                    "he",
		"m.text(max='3')":                  "hel",
		"str([p.type for p in m.parts])":   `["text/plain", "application/zip"]`,
		"m.parts[1].filename":              "x.zip",
		"','.join(m.parts[1].names)":       "x.zip,bäd.zip,=?utf-8?q?b=C3=A4d.zip?=",
		"m.parts[1].ext":                   "zip",
		"','.join(m.parts[1].zip_names())": "readme.txt,dir/evil.exe",
		"m.parts[1].archive().kind":        "zip",
		"str(m.parts[0].zip_names())":      "[]",
		"m.parts[1].disposition":           "attachment",
		"str(m.parts[0].size)":             "5",
		"m.parts[0].sha256":                "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
		"str(scan(m)) + m.unscanned":       "Noneno scanner is configured",
		"str(m.virus)":                     "None",
	} {
		h := mustOpen(t, "def message(m): return reject('>' + "+expr+")", "")
		v, q := tell(t, h, letter(mixed()))
		if v.Text != ">"+want {
			t.Errorf("%s: %q, want %q: %v", expr, v.Text, want, q.Trace.Steps)
		}
	}
}

// TestTheHeaderIsRepeatedInTheBody: Stalwart's issue 2346. Each field is there once, what is in the
// body is found as it was, and the message says what is wrong.
func TestTheHeaderIsRepeatedInTheBody(t *testing.T) {
	head, body, _ := strings.Cut(mixed(), "\n\n")
	text := "A: 1\nB: two\n lines\n\n"
	for name, tt := range map[string]struct{ in, want string }{
		"parts":           {mixed(), "None 7 hello readme.txt,dir/evil.exe"},
		"parts, repeated": {head + "\n\n" + head + "\n\n" + body, "repeated 7 hello readme.txt,dir/evil.exe"},
		"text":            {text + text + "hello", "repeated 2 A: 1\nB: two\n lines\n\nhello "},
		"no text":         {text + text, "repeated 2 A: 1\nB: two\n lines "},
		"other case":      {text + "a" + text[1:] + "x", "repeated 2 a: 1\nB: two\n lines\n\nx "},
		"other value":     {text + "A: 2" + text[4:], "None 2 A: 2\nB: two\n lines "},
		"other name":      {text + "A: 1\nC" + text[6:], "None 2 A: 1\nC: two\n lines "},
		"one field":       {text + "A: 1\n\nx", "None 2 A: 1\n\nx "},
		"more fields":     {text + "A: 1\nB: two\n lines\nC: 3\n\nx", "None 2 A: 1\nB: two\n lines\nC: 3\n\nx "},
		"no empty line":   {text + "A: 1\nB: two\n lines\n", "None 2 A: 1\nB: two\n lines "},
		"a name alone":    {text + "A:", "None 2 A: "},
		"half a name":     {text + "A", "None 2 A "},
	} {
		h := mustOpen(t, "def message(m): return reject('>%s %d %s %s' % (m.malformed, len(m.fields), m.text().strip().replace('\\r\\n', '|'), ','.join([n for p in m.parts for n in p.zip_names()])))", "")
		v, q := tell(t, h, letter(tt.in))
		if want := ">" + strings.ReplaceAll(tt.want, "\n", "|"); v.Text != strings.TrimSpace(want) && v.Text != want {
			t.Errorf("%s: %q, want %q: %v", name, v.Text, want, q.Trace.Steps)
		}
	}
}

// TestEdits holds what becomes of changes.
func TestEdits(t *testing.T) {
	edit := func(kind rcptgate.EditKind, index int, name, value string) rcptgate.Edit {
		return rcptgate.Edit{Kind: kind, Index: index, Name: name, Value: value}
	}
	for body, want := range map[string][]rcptgate.Edit{
		"m.add_header('X-A', 'b')":           {edit(rcptgate.EditAddHeader, 0, "X-A", "b")},
		"m.add_header('X-A', 'ü', top=True)": {edit(rcptgate.EditInsertHeader, 0, "X-A", "=?utf-8?q?=C3=BC?=")},
		"m.change_header('to', 'x')":         {edit(rcptgate.EditChangeHeader, 1, "To", "x")},
		"m.delete_header('To')":              {edit(rcptgate.EditDeleteHeader, 1, "To", "")},
		"m.delete_header('None')":            nil,
		"m.tag_subject('[SPAM]')":            {edit(rcptgate.EditChangeHeader, 1, "Subject", "[SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?=")},
		"m.tag_subject('Grü')":               nil,
		"m.change_header('Subject', 'new'); m.tag_subject('[A]'); m.tag_subject('[B]'); m.tag_subject('[B]')": {edit(rcptgate.EditChangeHeader, 1, "Subject", "[B] [A] new")},
		"m.delete_header('Subject'); m.tag_subject('[A]')":                                                    {edit(rcptgate.EditChangeHeader, 1, "Subject", "[A]")},
		"m.add_header('X-A', 'b'); m.tag_subject('[ü]'); m.tag_subject('[ü]')":                                {edit(rcptgate.EditAddHeader, 0, "X-A", "b"), edit(rcptgate.EditChangeHeader, 1, "Subject", "=?utf-8?q?[=C3=BC]_?= =?utf-8?q?Gr=C3=BC=C3=9Fe?=")},
		"m.add_recipient('<c@x>')":              {edit(rcptgate.EditAddRecipient, 0, "c@x", "")},
		"m.delete_recipient('ANN@example.org')": {edit(rcptgate.EditDeleteRecipient, 0, "Ann@example.org", "")},
		"m.change_sender('')":                   {edit(rcptgate.EditChangeSender, 0, "", "")},
	} {
		h := mustOpen(t, "def message(m): "+body, "")
		m := letter(mixed())
		v, q := tell(t, h, m)
		if v.Action != rcptgate.Continue || q.Trace.Steps[0].Err != nil || !slices.Equal(m.Edits(), want) {
			t.Errorf("%s: %+v, want %+v; %v", body, m.Edits(), want, q.Trace.Steps)
		}
	}
}

// TestTagOfNewSubject holds that a subject that the script itself adds gets the tag.
func TestTagOfNewSubject(t *testing.T) {
	h := mustOpen(t, "def message(m): m.add_header('Subject', 'new'); m.tag_subject('[A]')", "")
	m := letter(mixed())
	m.Fields = slices.DeleteFunc(m.Fields, func(f rcptgate.Field) bool { return f.Name == "Subject" })
	tell(t, h, m)
	if want := []rcptgate.Edit{{Kind: rcptgate.EditAddHeader, Name: "Subject", Value: "[A] new"}}; !slices.Equal(m.Edits(), want) {
		t.Errorf("%+v, want %+v", m.Edits(), want)
	}
}

// TestLongEncodedValue holds that a value is encoded first and folded then: an encoded word that
// is broken in two is shown as it stands.
func TestLongEncodedValue(t *testing.T) {
	want := strings.Repeat("wört ", 60) + "ende"
	h := mustOpen(t, "def message(m): m.add_header('X-A', 'wört ' * 60 + 'ende')", "")
	m := letter(mixed())
	tell(t, h, m)
	if len(m.Edits()) != 1 {
		t.Fatalf("%+v", m.Edits())
	}
	lines := strings.Split(m.Edits()[0].Value, "\n")
	for i, line := range lines {
		word := strings.TrimSpace(line)
		if len(line) > 78 || !strings.HasPrefix(word, "=?utf-8?q?") || !strings.HasSuffix(word, "?=") {
			t.Errorf("line %d: %q", i, line)
		}
	}
	got, err := new(mime.WordDecoder).DecodeHeader(strings.Join(lines, "\r\n"))
	if err != nil || got != want || len(lines) < 5 {
		t.Errorf("%d lines, %v: %q", len(lines), err, got)
	}
}

// A bad value is an error of the script, and a change of the body becomes a new body.
func TestEditsOfBodyAndMistakes(t *testing.T) {
	h := mustOpen(t, "def message(m):\n  m.append_text('-- legal --')\n  for p in m.parts:\n    if p.ext == 'zip': p.remove('removed')\n", "")
	if want := everything &^ (rcptgate.EditSender | rcptgate.EditRecipients | rcptgate.Quarantine); h.Gate.Wants() != want {
		t.Errorf("wants %b, not %b", h.Gate.Wants(), want)
	}
	m := letter(mixed())
	if v, q := tell(t, h, m); v.Action != rcptgate.Continue || len(m.Edits()) == 0 {
		t.Fatalf("%+v %v", v, q.Trace.Steps)
	}
	last := m.Edits()[0]
	body, err := io.ReadAll(io.NewSectionReader(last.Body, 0, last.Size))
	if err != nil || !strings.Contains(string(body), "-- legal --") || !strings.Contains(string(body), "removed") || strings.Contains(string(body), "base64") {
		t.Errorf("%v\n%s", err, body)
	}
	for _, bad := range []string{"m.add_header('X A', 'b')", "m.add_header('X-A', 'b\\nEvil: x')", "m.add_header('X-A', 'a\\r')", "m.add_recipient('a\\nb')", "m.change_header('To', 'x', index=5)", "m.tag_subject(5)", "m.parts[0].replace('x', type='nonsense')"} {
		h := mustOpen(t, "def message(m): "+bad, "")
		v, q := tell(t, h, letter(mixed()))
		if v.Action != rcptgate.Tempfail || q.Trace.Steps[0].Err == nil {
			t.Errorf("%s: %+v", bad, v)
		}
	}
}

// What a connection has not agreed on is an error, and what it is follows from on_error.
func TestEditsThatAreNotAgreedOn(t *testing.T) {
	for onError, want := range map[string]rcptgate.Action{"tempfail": rcptgate.Tempfail, "continue": rcptgate.Continue} {
		h := mustOpen(t, "def message(m): m.add_header('X-A', 'b')", fmt.Sprintf("on_error = %q\n", onError))
		m := letter(mixed())
		m.Begin(rcptgate.WantMessage)
		if v, _ := tell(t, h, m); v.Action != want || len(m.Edits()) > 0 {
			t.Errorf("%s: %+v", onError, v)
		}
	}
}
