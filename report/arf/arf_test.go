// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"rcptgate/report/mailbox"
)

var update = flag.Bool("update", false, "write the golden files anew")

// reports reads the forms in testdata, written after those of the providers.
func reports(t testing.TB, o Options) (out []*Report) {
	t.Helper()
	paths, err := filepath.Glob("testdata/reports/*.eml")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d reports, %v", len(paths), err)
	}
	err = mailbox.Walk(context.Background(), paths, mailbox.Options{}, func(m *mailbox.Message) error {
		if r := Find(m, o); r != nil {
			r.File = filepath.Base(r.File)
			out = append(out, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGolden(t *testing.T) {
	all := reports(t, Options{VERP: ParseVERP("bounce-{local}={domain}@lists.example.net")})
	for _, format := range Formats() {
		var out bytes.Buffer
		w, err := NewWriter(&out, format, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if err := w.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join("testdata/golden", format)
		if *update {
			if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil || out.String() != string(want) {
			t.Errorf("%s differs from %s (%v); run with -update and look at the difference", format, name, err)
		}
		if bytes.ContainsAny(out.Bytes(), "\x1b") {
			t.Errorf("%s: an escape character goes out", format)
		}
	}
}

// TestForms says of each form what matters, apart from the golden files.
func TestForms(t *testing.T) {
	byFile := map[string]*Report{}
	for _, r := range reports(t, Options{VERP: ParseVERP("bounce-{local}={domain}@lists.example.net")}) {
		byFile[strings.TrimSuffix(r.File, ".eml")] = r
	}
	tests := []struct {
		file     string
		kind     Kind
		provider string
		ip, rcpt string
		arrival  string
		subject  string
		derived  string
	}{
		{"rfc5965", KindARF, "", "192.0.2.1", "user@example.com", "2005-03-08T18:00:00Z", "Earn money", ""},
		{"yahoo", KindARF, "Yahoo", "192.0.2.8", "ann@example.org", "2017-04-29T23:34:45Z", "Angebote für Sie", "rcpt_to=verp source_ip=received"},
		{"aol", KindARF, "AOL", "192.0.2.9", "redacted redacted@", "2013-03-05T04:12:01Z", "News", ""},
		{"validity", KindARF, "Validity", "", "8fa3c1@example.com 8fa3c2@example.com", "", "", ""},
		{"jmrp-old", KindJMRP, "Microsoft", "192.0.2.10", "ann@hotmail.com", "2018-07-02T05:00:00Z", "News", "arrival=received rcpt_to=x-hmxmroriginalrecipient source_ip=received type=form"},
		{"jmrp-new", KindARF, "Microsoft", "192.0.2.11", "bob@outlook.com", "2025-06-01T10:00:00Z", "News", "arrival=date rcpt_to=x-hmxmroriginalrecipient source_ip=x-originating-ip"},
		{"auth-failure", KindARF, "LinkedIn", "192.0.2.12", "someone@linkedin.com", "2019-09-10T09:59:59Z", "Καλημέρα", "rcpt_to=to"},
		{"draft", KindARF, "", "", "gone@example.com", "2010-05-02T14:00:00Z", "News", "arrival=date"},
		{"forwarded", KindLoose, "", "2001:db8::25", "ann@fastmail.example", "", "Your account", "rcpt_to=to"},
		{"prose", KindProse, "", "192.0.2.13", "ann@cpanel.example", "2022-07-01T09:59:00Z", "Forged", "arrival=date rcpt_to=to source_ip=received-spf type=form"},
		{"xarf4", KindXARF, "", "192.0.2.14", "", "2025-11-01T09:58:00Z", "", ""},
		{"xarf4-evidence", KindXARF, "", "192.0.2.16", "trap@spamtrap.example", "2026-01-15T10:30:00Z", "Κέρδος", "rcpt_to=to"},
		{"xarf3-evidence", KindXARF, "", "192.0.2.17", "trap@spamtrap.example", "2018-02-05T14:17:10Z", "Buy now", ""},
		{"dmarc-words", KindProse, "", "192.0.2.5", "ann@cpanel.example", "2024-02-14T09:00:00Z", "pay", "arrival=received rcpt_to=to source_ip=received type=form"},
		{"xarf02", KindXARF, "", "192.0.2.15", "", "2014-11-01T09:00:00Z", "log", ""},
	}
	for _, tt := range tests {
		r := byFile[tt.file]
		if r == nil {
			t.Errorf("%s: no report", tt.file)
			continue
		}
		got := []string{string(r.Kind), r.Provider, addr(r), strings.Join(r.RcptTo, " "), stamp(r.Arrival), r.Original.Subject, derivedText(r)}
		want := []string{string(tt.kind), tt.provider, tt.ip, tt.rcpt, tt.arrival, tt.subject, tt.derived}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %q, want %q", tt.file, got[i], want[i])
			}
		}
	}
	if byFile["dsn"] != nil {
		t.Error("a delivery notification counts as a complaint")
	}
	if r := byFile["hostile"]; r == nil || r.Incidents != 1 || r.SourceIP.IsValid() || len(r.Problems) < 5 {
		t.Errorf("hostile: %+v", r)
	}
	if r := byFile["auth-failure"]; r.AuthFailure["DKIM-Domain"] != "one.example, two.example" || r.SourcePort != 4711 || len(r.Extra) != 2 || r.Extra[0] != (Extra{"Source-IP-Raw", "192.0.2.12 (host.example.net)"}) || r.Extra[1].Name != "Message-ID" {
		t.Errorf("auth-failure: %+v", r)
	}
	if byFile["dmarc-words"].Type != "auth-failure" || byFile["prose"].Type != "auth-failure" {
		t.Errorf("reports in words: %s, %s", byFile["dmarc-words"].Type, byFile["prose"].Type)
	}
	words := "Subject: complaint\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: text/plain\n\nSpam!\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\nbody\n--b--\n"
	if r := Find(&mailbox.Message{Data: []byte(words), Size: int64(len(words))}, Options{}); r == nil || r.Kind != KindProse || r.Type != "abuse" {
		t.Errorf("a complaint in words: %+v", r)
	}
}

// TestNoReports: mail about subscriptions and deliveries is no complaint.
func TestNoReports(t *testing.T) {
	for name, text := range map[string]string{
		"Apple's unsubscribe mail": "From: x@icloud.com\nTo: unsub@example.org\nSubject: Unsubscribe\nContent-Type: text/plain\n\nUnsubscribe\n",
		"a report of TLS failures": "Subject: Report Domain: example.org\nContent-Type: multipart/report; report-type=tlsrpt; boundary=b\n\n--b\nContent-Type: text/plain\n\nx\n--b\nContent-Type: application/tlsrpt+gzip\n\nx\n--b--\n",
		"a reading receipt":        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n--b\nContent-Type: message/disposition-notification\n\nx: y\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\ny\n--b--\n",
	} {
		if r := Find(&mailbox.Message{Data: []byte(text), Size: int64(len(text))}, Options{}); r != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	spamtrap := "From: spamtrap@abusix.com\nSubject: Spamtraphit by 192.0.2.1\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: text/plain\n\nx\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: a\nVersion: 1\nOriginal-Envelope-Id: e1\nOriginal-Rcpt-To: a@b.example\nOriginal-Rcpt-To: c@b.example\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\ny\n--b--\n"
	if r := Find(&mailbox.Message{Data: []byte(spamtrap), Size: int64(len(spamtrap))}, Options{}); r == nil || r.Provider != "Abusix" || r.EnvelopeID != "e1" || len(r.RcptTo) != 2 {
		t.Errorf("a spamtrap's report: %+v", r)
	}
}

// TestUnknownFields: they are kept, as often as they stand there, and are no problem. In JSON
// they are an object of strings.
func TestUnknownFields(t *testing.T) {
	r := &Report{}
	r.fields([]byte("Feedback-Type: abuse\nUser-Agent: x\nVersion: 1\nX-Own: one\nX-Own: two\nSource: y\nVersion: 1\n"))
	if len(r.Problems) != 1 || r.Problems[0] != "Version stands more than once" {
		t.Errorf("%q", r.Problems)
	}
	if data, err := json.Marshal(r.Extra); err != nil || string(data) != `{"Source":"y","Version":"1","X-Own":"one\ntwo"}` {
		t.Errorf("%s, %v", data, err)
	}
}

func TestStrict(t *testing.T) {
	for _, r := range reports(t, Options{Strict: true}) {
		if r.Kind != KindARF {
			t.Errorf("%s is %s", r.File, r.Kind)
		}
	}
}

// TestNothingIsLeftOut: each value of the report part is in the text and in the JSON.
func TestNothingIsLeftOut(t *testing.T) {
	for _, r := range reports(t, Options{}) {
		var text, js bytes.Buffer
		for format, out := range map[string]*bytes.Buffer{"text": &text, "jsonl": &js} {
			w, _ := NewWriter(out, format, false)
			_ = w.Write(r)
			_ = w.Close()
		}
		for _, line := range r.lines {
			_, value, _ := strings.Cut(line, ": ")
			if r.File == "hostile.eml" || strings.HasSuffix(value, "T") || strings.Contains(strings.ToLower(line), "-date:") {
				continue // shown in another form
			}
			for _, word := range strings.Fields(strings.Trim(value, "<>")) {
				word = strings.Trim(word, "()[]<>")
				word = strings.TrimPrefix(word, "IPv6:")
				if !strings.Contains(text.String(), word) || !strings.Contains(js.String(), word) {
					t.Errorf("%s: %q of %q is missing", r.File, word, line)
				}
			}
		}
	}
}

func TestCSVIsRead(t *testing.T) {
	var out bytes.Buffer
	w, _ := NewWriter(&out, "csv", false)
	all := reports(t, Options{})
	for _, r := range all {
		_ = w.Write(r)
	}
	_ = w.Close()
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != len(all)+1 {
		t.Fatalf("%d rows of %d, %v", len(rows), len(all), err)
	}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
				t.Errorf("a spreadsheet would run %q", cell)
			}
		}
	}
}

func TestHTMLIsClosed(t *testing.T) {
	var out bytes.Buffer
	w, _ := NewWriter(&out, "html", false)
	for _, r := range reports(t, Options{}) {
		_ = w.Write(r)
	}
	_ = w.Close()
	doc, err := html.Parse(&out)
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "img") {
			t.Errorf("a value became a %s element", n.Data)
		}
	}
}

func TestParseDate(t *testing.T) {
	tests := []struct{ in, want string }{
		{"Thu, 8 Mar 2005 17:40:36 EDT", "2005-03-08T21:40:36Z"}, {"8 Mar 05 17:40 +0100", "2005-03-08T16:40:00Z"}, {"Mon, 4 Mar 2013 23:12:01 -0500 (EST)", "2013-03-05T04:12:01Z"},
		{"Mon,  4 Mar 2013 23:12:01 (EST)", "2013-03-05T04:12:01Z"}, {"Sat Nov 28 10:00:00 2026", "2026-11-28T10:00:00Z"}, {"2026-11-28T10:00:00+02:00", "2026-11-28T08:00:00Z"},
		{"28-Nov-2026 10:00:00 JST", "2026-11-28T01:00:00Z"}, {"1 Jan 99 00:00:00 GMT", "1999-01-01T00:00:00Z"}, {"1 Jan 126 00:00:00 GMT", "2026-01-01T00:00:00Z"},
		{"Sat, 29 Apr 2017 16:34:45 PDT", "2017-04-29T23:34:45Z"}, {"31 Feb 2020 10:00:00 GMT", ""}, {"yesterday", ""}, {"", ""}, {"10:00:00", ""}, {"1 Jan 2020 25:00:00 GMT", ""},
	}
	for _, tt := range tests {
		got, err := ParseDate(tt.in)
		if stamp(got) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %s, %v; want %s", tt.in, stamp(got), err, tt.want)
		}
	}
}

func TestSummary(t *testing.T) {
	s, err := NewSummary("provider,type")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports(t, Options{}) {
		s.Add(r)
	}
	table := s.Table(2)
	if len(table.Rows) != 2 || table.More < 3 || table.Rows[0].Cells[0] != "-" || table.Rows[0].Cells[2] != 4 && table.Rows[0].Cells[2] != 3 {
		t.Errorf("%+v", table.Rows)
	}
	if _, err := NewSummary("colour"); err == nil || !strings.Contains(err.Error(), "feedback-id") {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	seen := map[[16]byte]string{}
	for _, r := range append(reports(t, Options{}), reports(t, Options{})...) {
		if other, ok := seen[r.Identity()]; ok && other != r.File {
			t.Errorf("%s and %s are one", r.File, other)
		}
		seen[r.Identity()] = r.File
	}
}

func TestWhenAReportCounts(t *testing.T) {
	r := &Report{Report: Envelope{Date: time.Unix(1, 0)}}
	if r.At() != time.Unix(1, 0) {
		t.Error("without an arrival the report's own date counts")
	}
}

// FuzzFind: whatever the message, every format can be written, and JSON read again.
func FuzzFind(f *testing.F) {
	paths, _ := filepath.Glob("testdata/reports/*.eml")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := Find(&mailbox.Message{Data: data, Size: int64(len(data))}, Options{VERP: ParseVERP("b-{local}={domain}@x")})
		if r == nil {
			return
		}
		for _, format := range Formats() {
			var out bytes.Buffer
			w, err := NewWriter(&out, format, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(r); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if format == "jsonl" && !json.Valid(out.Bytes()) {
				t.Fatalf("not JSON: %q", out.String())
			}
			if (format == "text" || format == "arfparse") && strings.ContainsAny(out.String(), "\x1b\r\x00") {
				t.Fatalf("%s: %q", format, out.String())
			}
		}
		r.Identity()
	})
}

func BenchmarkFind(b *testing.B) {
	data, err := os.ReadFile("testdata/reports/yahoo.eml")
	if err != nil {
		b.Fatal(err)
	}
	m := &mailbox.Message{Data: data, Size: int64(len(data))}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Find(m, Options{})
	}
}
