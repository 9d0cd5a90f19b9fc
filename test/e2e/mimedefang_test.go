// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rcptgate/check/script"
	"rcptgate/mail"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// sentMail is one message of the comparison with MIMEDefang.
type sentMail struct {
	sender     string
	recipients []string
	data       string // with CRLF
}

// letters are those of the comparison: every kind of what filter.pl looks at, together with every other.
func letters(n int) []sentMail {
	r := rand.New(rand.NewPCG(12, 3)) //nolint:gosec // the same each time
	out := make([]sentMail, n)
	for i := range out {
		w := &letterWriter{Rand: r, n: i}
		m := sentMail{sender: pick(r, "a@client.test", "b@client.test", "ann@partner.test", "bob@inside.test", "x@evil.test", "")}
		m.recipients = append(m.recipients, pick(r, "ann@in.test", "bob@in.test", "boss@in.test", "all@in.test", "night@in.test", "copy@in.test"))
		for r.IntN(3) == 0 {
			m.recipients = append(m.recipients, fmt.Sprintf("more%d@in.test", r.IntN(3)))
		}
		if r.IntN(3) == 0 {
			m.recipients = append(m.recipients, "copy@in.test")
		}
		if slices.Contains(m.recipients, "copy@in.test") { // which may be removed
			m.recipients = append(m.recipients, "stays@in.test")
		}
		slices.Sort(m.recipients)
		m.recipients = slices.Compact(m.recipients)
		m.data = w.message(m.sender)
		out[i] = m
	}
	return out
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// letterWriter writes messages at random.
type letterWriter struct {
	*rand.Rand
	n, boundaries int
}

func (w *letterWriter) message(sender string) string {
	head := []string{"From: <" + sender + ">", "To: undisclosed-recipients:;", fmt.Sprintf("Message-Id: <%d@client.test>", w.n), "Date: Sat, 28 Nov 2026 15:00:00 +0000", "Mime-Version: 1.0"}
	if w.IntN(10) > 0 {
		head = append(head, "Subject: "+pick(w.Rand, "hello", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "a longer subject, with words in it", "Re: [list] x"))
	}
	for _, f := range []struct{ field, often string }{{"X-Archive: yes", "4"}, {"X-Spam: yes", "4"}, {"X-Internal: secret", "3"}, {"X-Other: stays", "2"}, {"X-Internal: another", "6"}} {
		if w.IntN(int(f.often[0]-'0')) == 0 {
			head = append(head, f.field)
		}
	}
	body := w.part(0)
	if strings.HasPrefix(body, "Content-Type: text/plain") && w.IntN(2) == 0 {
		head = append(head, "X-Note: yes")
	}
	return strings.Join(head, "\r\n") + "\r\n" + body
}

// part writes a part, its header first.
func (w *letterWriter) part(depth int) string {
	if depth > 2 || w.IntN(3) == 0 {
		return w.leaf()
	}
	if depth > 0 && w.IntN(6) == 0 {
		return "Content-Type: message/rfc822\r\n\r\nFrom: <inner@client.test>\r\nSubject: inner\r\n" + w.part(depth+1)
	}
	w.boundaries++
	boundary := fmt.Sprintf("b%d", w.boundaries)
	out := fmt.Sprintf("Content-Type: multipart/mixed; boundary=%q\r\n\r\n", boundary)
	for range 1 + w.IntN(3) {
		out += "--" + boundary + "\r\n" + w.part(depth+1) + "\r\n"
	}
	return out + "--" + boundary + "--\r\n"
}

func (w *letterWriter) leaf() string {
	if w.IntN(2) == 0 {
		return "Content-Type: text/plain; charset=utf-8\r\n\r\nsome text\r\nof two lines\r\n"
	}
	name := pick(w.Rand, "report.pdf", "photo.jpg", "notes.txt", "Budget 2026.xls", "exe.txt", "evil.exe", "doc.pdf.scr", "RUN.BAT", "x.js")
	data := "content of a file"
	if w.IntN(4) == 0 {
		name, data = pick(w.Rand, "files.zip", "data.dat"), zipOf(pick(w.Rand, "a/report.txt", "photo.jpg", "inner/evil.exe", "X.PIF"), "readme.txt")
	}
	text := base64.StdEncoding.EncodeToString([]byte(data))
	for i := 76; i < len(text); i += 78 {
		text = text[:i] + "\r\n" + text[i:]
	}
	return w.named(name) + "Content-Transfer-Encoding: base64\r\n\r\n" + text + "\r\n"
}

// named writes the header of a file, its name in one of the usual ways.
func (w *letterWriter) named(name string) string {
	half := len(name) / 2
	percent := strings.ReplaceAll(name, " ", "%20")
	q := strings.ReplaceAll(name, " ", "_")
	return "Content-Type: application/octet-stream" + pick(w.Rand,
		fmt.Sprintf("\r\nContent-Disposition: attachment; filename=%q\r\n", name),
		fmt.Sprintf("; name=%q\r\n", name),
		fmt.Sprintf("; name=%q\r\nContent-Disposition: attachment; filename=%q\r\n", name, name),
		"\r\nContent-Disposition: attachment; filename="+strings.ReplaceAll(name, " ", "-")+"\r\n",
		fmt.Sprintf("\r\nContent-Disposition: attachment; filename*=utf-8''%s\r\n", percent),
		fmt.Sprintf("\r\nContent-Disposition: attachment;\r\n filename*0=%q;\r\n filename*1=%q\r\n", name[:half], name[half:]),
		fmt.Sprintf("\r\nContent-Disposition: attachment; filename=\"=?utf-8?q?%s?=\"\r\n", q),
		fmt.Sprintf("; name=\"=?utf-8?b?%s?=\"\r\n", base64.StdEncoding.EncodeToString([]byte(name))))
}

func zipOf(names ...string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range names {
		f, err := z.Create(name)
		if err == nil {
			_, err = f.Write([]byte("data of " + name))
		}
		if err != nil {
			panic(err) // memory
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// letterFate is what becomes of a message: the replies, and what is delivered.
type letterFate struct {
	replies   string
	delivered string // recipients, header
	text      string // the body, or the first text if a note was to be appended
}

// send sends a message, and gives its letterFate. The mark tells it from others.
func (m *sentMail) send(t *testing.T, addr string, sink *lab.Sink, mark string) (f letterFate) {
	t.Helper()
	d := lab.MustDial(t, addr)
	defer d.Close()
	say := func(r lab.Reply) int {
		text := regexp.MustCompile(`\b[\w.]{14}\b Message|Message \w+ `).ReplaceAllString(r.String(), "Message ") // queue id
		f.replies += text + "\n"
		return r.Code
	}
	if say(d.Mail(t, m.sender)) != 250 {
		return f
	}
	taken := 0
	for _, rcpt := range m.recipients {
		if say(d.Rcpt(t, rcpt)) == 250 {
			taken++
		}
	}
	if taken == 0 || say(d.Do(t, "DATA")) != 354 {
		return f
	}
	r := d.Do(t, "X-Mark: "+mark+"\r\n"+strings.ReplaceAll(m.data, "\r\n.", "\r\n..")+".")
	if r.Code != 250 {
		say(r)
		return f
	}
	_, found := sink.Find(t, "X-Mark: "+mark+"\r\n", 1)
	if len(found) != 1 {
		t.Fatalf("%s: delivered %d times", mark, len(found))
	}
	slices.Sort(found[0].Recipients)
	data, _ := withoutOwn(found[0].Data)
	header, body, _ := strings.Cut(data, "\r\n\r\n")
	if f.text = body; strings.Contains(m.data, "\r\nX-Note: ") && !strings.Contains(m.data, "X-Note: yes\r\nContent-Type: multipart") {
		f.text = string(mail.Scan([]byte(data), mail.Limits{}).Decoded([]byte(data), 1<<20))
		header = regexp.MustCompile(`(?mi)^(content-|mime-version)[^\r]*\r\n([ \t][^\r]*\r\n)*`).ReplaceAllString(header+"\r\n", "") // MIMEDefang writes them anew
	}
	f.delivered = strings.Join(found[0].Recipients, " ") + "\n" + strings.TrimSpace(header)
	return f
}

// defangFilter is filter.pl or filter.star.
func defangFilter(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/mimedefang/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMIMEDefangAndScriptAgree sends 200 messages through Sendmail to real MIMEDefang with filter.pl, and to the gate with
// filter.star, which says the same: replies, recipients, delivered headers and texts are equal.
func TestMIMEDefangAndScriptAgree(t *testing.T) {
	lab.Need(t, lab.SendmailKit, lab.MIMEDefangKit)
	file := filepath.Join(t.TempDir(), "filter.star")
	if err := os.WriteFile(file, []byte(defangFilter(t, "filter.star")), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &stages{more: []unit.Unit{script.Unit()}}
	sink := lab.StartSink(t)
	sendmail := stagesMTAs[1]
	theirs, _ := sendmail.start(t, lab.StartMIMEDefang(t, defangFilter(t, "filter.pl"), 2).Port, sink)
	ours, log := sendmail.start(t, s.start(t, fmt.Sprintf("[script]\nfile = %q\n", file)), sink)
	kinds := map[string]int{}
	for i, m := range letters(200) {
		want := m.send(t, theirs, sink, fmt.Sprintf("theirs-%d", i))
		got := m.send(t, ours, sink, fmt.Sprintf("ours-%d", i))
		if got != want {
			t.Errorf("%d: from %s to %v\n%s\nrcptgate:\n%s%s\n%q\nMIMEDefang:\n%s%s\n%q", i, m.sender, m.recipients, m.data, got.replies, got.delivered, got.text, want.replies, want.delivered, want.text)
		}
		if t.Failed() {
			t.Log(tail(log()))
			return
		}
		for _, word := range []string{"partners only", "for members", "at night", "evil.test", "Programs", "[EXT]", "archive@in.test", "passed the gate"} {
			if strings.Contains(want.replies+want.delivered+want.text, word) {
				kinds[word]++
			}
		}
	}
	t.Logf("200 messages, of which: %v", kinds)
	if len(kinds) != 8 {
		t.Errorf("not everything that the filters do was seen: %v", kinds)
	}
}
