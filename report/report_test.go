// SPDX-License-Identifier: BSD-2-Clause

package report

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"rcptgate/kit/exit"
)

// run runs a report command and gives its exit code.
func run(t testing.TB, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(context.Background())
	var has *exit.Error
	switch {
	case err == nil:
	case errors.As(err, &has):
		code = has.Code
		if !has.Quiet {
			errs.WriteString(has.Error())
		}
	default:
		code = exit.Usage
		errs.WriteString(err.Error())
	}
	return code, out.String(), errs.String()
}

// archive is an mbox of the forms of reports, with another message between them.
func archive(t testing.TB) string {
	t.Helper()
	paths, err := filepath.Glob("arf/testdata/reports/*.eml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var box strings.Builder
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&box, "From x@y Sat Nov 28 10:00:00 2026\n%s\nFrom x@y Sat Nov 28 10:00:00 2026\nFrom: a@b.example\nSubject: hello\n\ntext\n\n", data)
	}
	name := filepath.Join(t.TempDir(), "complaints")
	if err := os.WriteFile(name, []byte(box.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestARFCommand(t *testing.T) {
	box := archive(t)
	tests := []struct {
		name string
		args []string
		code int
		out  []string // each is in the output
		not  string
	}{
		{"lines", []string{box}, 0, []string{"Feedback-Type: abuse\n", "Provider: Yahoo\n", "(derived: received)", "Kind: jmrp\n"}, "Subject: hello"},
		{"as arfparse", []string{"--format", "arfparse", "--strict", box}, 0, []string{"X-Idx: 1\nX-Subject: Email Feedback Report for IP 192.0.2.9\nFeedback-Type: abuse\nUser-Agent: AOL SComp\nVersion: 0.1\nReceived-Date: Mon,  4 Mar 2013 23:12:01 (EST)\nSource-IP: 192.0.2.9\nSubject: News\n\n"}, "xarf"},
		{"counted", []string{"--by", "type", box}, 0, []string{"Complaints by type", "abuse", "opt-out"}, "Feedback-Type"},
		{"counted as JSON", []string{"--by", "provider,type", "--json", "--top", "1", box}, 0, []string{`"incidents"`, `"more"`}, ""},
		{"who complained", []string{"--suppress", "--verp", "bounce-{local}={domain}@lists.example.net", box}, 0, []string{"ann@example.org\n", "bob@outlook.com\n", "gone@example.com\n"}, "redacted"},
		{"failures of authentication are no complaints", []string{"--suppress", box}, 0, []string{"bob@outlook.com\n"}, "cpanel.example"},
		{"by source-ip", []string{"--by", "day,source-ip", box}, 0, []string{"Complaints by day, ip", "2017-04-29  192.0.2.8"}, ""},
		{"the last weeks", []string{"--since", "2w", "--until", "1w", "--by", "day", box}, 0, []string{"no reports"}, ""},
		{"since", []string{"--since", "2025-01-01", "--until", "2025-10-01", "--format", "jsonl", box}, 0, []string{`"user_agent":"JMRP/1.0"`}, "xarf"},
		{"twice", []string{"--dedupe", "--by", "kind", "--json", box, box}, 0, []string{`"reports":8`}, ""},
		{"verp", []string{"--by", "rcpt", "--verp", "bounce-{local}={domain}@lists.example.net", box}, 0, []string{"ann@example.org"}, ""},
		{"nothing", []string{"--since", "2030-01-01", "--fail-on-empty", box}, 1, nil, "Report"},
		{"no file", []string{"/nonexistent"}, 66, nil, ""},
		{"one of two files", []string{"/nonexistent", box}, 65, []string{"Provider: Yahoo"}, ""},
		{"unknown format", []string{"--format", "xml", box}, 64, nil, ""},
		{"unknown key", []string{"--by", "colour", box}, 64, nil, ""},
		{"bad date", []string{"--since", "tomorrow", box}, 64, nil, ""},
		{"what does not go together", []string{"--suppress", "--by", "ip", box}, 64, nil, ""},
		{"no arguments", nil, 64, nil, ""},
	}
	for _, tt := range tests {
		code, out, errs := run(t, "", append([]string{"arf"}, tt.args...)...)
		if code != tt.code || code != 0 && code != 1 && errs == "" {
			t.Errorf("%s: exit code %d, want %d; %s", tt.name, code, tt.code, errs)
		}
		for _, want := range tt.out {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%.2000s", tt.name, want, out)
			}
		}
		if tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("%s: %q is in the output", tt.name, tt.not)
		}
	}
}

// TestNothingFoundIsSaid: a person who asks for complaints where there are none is not left with
// an empty screen; a program that reads the output is.
func TestNothingFoundIsSaid(t *testing.T) {
	mail := "Subject: hello\r\n\r\nhi\r\n"
	if code, out, errs := run(t, mail, "arf", "-"); code != 0 || out != "" || errs != "rcptgate: no matching report in 1 message\n" {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	if _, out, errs := run(t, mail, "arf", "--format", "jsonl", "-"); out+errs != "" {
		t.Errorf("%q, %q", out, errs)
	}
}

// TestComplaintsArchive is the story that arfparse was written for: an archive of complaints,
// one line of a pipe, simple lines for further programs.
func TestComplaintsArchive(t *testing.T) {
	data, err := os.ReadFile(archive(t))
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, string(data), "arf", "-")
	if n := strings.Count(out, "Report: "); code != 0 || n != 16 || errs != "" {
		t.Errorf("exit code %d, %d reports, %s", code, n, errs)
	}
	for block := range strings.SplitSeq(strings.TrimSuffix(out, "\n\n"), "\n\n") {
		for line := range strings.Lines(block + "\n") {
			if name, _, ok := strings.Cut(line, ": "); !ok || strings.ContainsAny(name, " \t") {
				t.Errorf("not a simple line: %q", line)
			}
		}
	}
}

// subjectsBox is an mbox of messages whose subject lengths span three decades.
func subjectsBox(n int) string {
	random := rand.New(rand.NewPCG(7, 8))
	var b strings.Builder
	for i := range n {
		length := int(math.Exp(3.7+1.3*random.NormFloat64())) + 1
		subject := strings.Repeat("a", min(length, 2000))
		if i%5 == 0 { // every fifth in Greek
			subject = "=?iso-8859-7?q?" + strings.Repeat("=E1", min(length, 2000)) + "?="
		}
		fmt.Fprintf(&b, "From x@y Sat Nov 28 10:00:00 2026\nFrom: a@d%d.example\nTo: a@b, c@d\nReceived: from x ([192.0.%d.1]) by y; Sat, 28 Nov 2026 10:00:00 +0000\nDate: Sat, 28 Nov 2026 10:00:00 +0000\nSubject: %s\n\n%s\n\n",
			i%3, i%3, subject, strings.Repeat("x", length))
	}
	return b.String()
}

func TestBenfordCommand(t *testing.T) {
	dir := t.TempDir()
	box, few := filepath.Join(dir, "box"), filepath.Join(dir, "few") // to be close to the law takes many messages
	for name, n := range map[string]int{box: 8000, few: 1000} {
		if err := os.WriteFile(name, []byte(subjectsBox(n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, "maillog")
	var lines strings.Builder
	random := rand.New(rand.NewPCG(9, 10))
	for i := range 4000 {
		fmt.Fprintf(&lines, "Nov 28 10:00:00 mx postfix/qmgr[1]: Q%06d: from=<a@d%d.example>, size=%d, nrcpt=1 (queue active)\n", i, i%2, int(math.Exp(9+2*random.NormFloat64()))+1)
	}
	if err := os.WriteFile(log, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	small, packed := filepath.Join(dir, "small"), filepath.Join(dir, "numbers.gz")
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte("12\n130\n2\n"))
	_ = z.Close()
	for name, data := range map[string]string{small: "From x@y Sat Nov 28 10:00:00 2026\nSubject: \n\nfour\nfive\n", packed: zipped.String()} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	svg, page := filepath.Join(dir, "g.svg"), filepath.Join(dir, "g.html")
	tests := []struct {
		name string
		args []string
		code int
		out  []string
	}{
		{"subjects", []string{box}, 0, []string{"Subject lengths in characters: 8000 numbers", "conform to Benford's law closely", "█"}},
		{"raw subjects", []string{"--unit", "raw", box}, 0, []string{"in octets as encoded: 8000"}},
		{"second", []string{"--digits", "second", "--ascii", few}, 0, []string{"second digit in base 10", "#"}},
		{"base 16", []string{"--base", "16", "--digits", "first-two", few}, 0, []string{"base 16", "times what chance makes"}},
		{"sizes", []string{"--what", "message", few}, 0, []string{"Message sizes: 1000"}},
		{"bodies", []string{"--what", "body", "--json", few}, 0, []string{`"n":1000`, `"verdict"`}},
		{"recipients", []string{"--what", "nrcpt", box}, 0, []string{"2       8000", "do not conform", "0.0 decades"}},
		{"domains", []string{"--by", "domain", few}, 0, []string{"d0.example", "d1.example", "d2.example"}},
		{"networks", []string{"--by", "sender-net", few}, 0, []string{"192.0.2.0/24"}},
		{"days", []string{"--by", "day", few}, 0, []string{"2026-11-28"}},
		{"a log", []string{"--log", "--what", "message", log}, 0, []string{"Message sizes: 4000", "closely"}},
		{"a log without --log", []string{"--what", "message", log}, 0, []string{"Message sizes: 4000", "closely"}},
		{"a log and a mailbox", []string{"--what", "message", log, box}, 64, nil},
		{"bodies of what is a log", []string{"--what", "body", log}, 64, nil},
		{"a log by domain", []string{"--log", "--what", "message", "--by", "domain", log}, 0, []string{"d1.example"}},
		{"mailboxes", []string{"--what", "mailbox", box, log, dir}, 0, []string{"3 numbers: too few to tell, at least"}},
		{"csv", []string{"--csv", few}, 0, []string{"digit,count,share"}},
		{"graphs", []string{"--svg", svg, "--html", page, few}, 0, nil},
		{"sizes on the wire", []string{"--what", "message", "--size", "wire", "--json", small}, 0, []string{`"p5":25,`}},
		{"bodies on the wire", []string{"--what", "body", "--size", "wire", "--json", small}, 0, []string{`"p5":12,`}},
		{"bodies as stored", []string{"--what", "body", "--json", small}, 0, []string{`"p5":10,`}},
		{"size", []string{"--size", "huge", box}, 64, nil},
		{"compressed numbers", []string{"--what", "number", "--csv", packed}, 0, []string{"1,2,0.666667"}},
		{"a base", []string{"--base", "2", box}, 64, nil},
		{"digits", []string{"--digits", "third", box}, 64, nil},
		{"what", []string{"--what", "mood", box}, 64, nil},
		{"bodies of a log", []string{"--log", "--what", "body", log}, 64, nil},
		{"no file", []string{"/nonexistent"}, 66, nil},
		{"no log", []string{"--log", "--what", "message", "/nonexistent"}, 66, nil},
	}
	for _, tt := range tests {
		code, out, errs := run(t, "", append([]string{"benford"}, tt.args...)...)
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d; %s", tt.name, code, tt.code, errs)
		}
		for _, want := range tt.out {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%.2000s", tt.name, want, out)
			}
		}
	}
	for _, name := range []string{svg, page} {
		if data, err := os.ReadFile(name); err != nil || !bytes.Contains(data, []byte("<svg")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	odd := "From x@y Sat Nov 28 10:00:00 2026\nFrom: a@b\n\nx\n\nFrom x@y Sat Nov 28 10:00:00 2026\nSubject:\n\nx\n\nFrom x@y Sat Nov 28 10:00:00 2026\nSubject: =?no-such-charset?q?abc?=\n\nx\n"
	if code, out, errs := run(t, odd, "benford", "-"); code != 0 || !strings.Contains(out, "1 number, first digit") || !strings.Contains(errs, "left out: 1 message without a Subject, 1 with an empty one; not decoded and counted as it is: 1") {
		t.Errorf("odd subjects: %d, %s, %s", code, out, errs)
	}
	logText, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := run(t, string(logText), "benford", "--what", "message", "-"); code != 0 || !strings.Contains(out, "Message sizes: 4000") {
		t.Errorf("a log on standard input: %d, %s, %s", code, out, errs)
	}
	code, out, errs := run(t, "12\n345\n# x\n\n0.5\nword\n"+strings.Repeat("9", 9000)+"\n", "benford", "--what", "number", "-")
	if code != 65 || !strings.Contains(out, "Numbers: 3 numbers") || !strings.Contains(errs, "left out 2 lines: not a number") {
		t.Errorf("numbers: %d, %s, %s", code, out, errs)
	}
}

// repeated is an mbox of many copies of some messages, made while it is read.
type repeated struct {
	block string
	left  int64
	at    int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	r.left -= int64(n)
	return n, nil
}

// TestMemoryIsBounded reads 12 MB of mail and looks at what is still in use while it reads: as much
// as at the beginning, not more with every message.
func TestMemoryIsBounded(t *testing.T) {
	box, err := os.ReadFile(archive(t))
	if err != nil {
		t.Fatal(err)
	}
	for block, args := range map[string][]string{string(box): {"arf", "--by", "type", "-"}, subjectsBox(1000): {"benford", "-"}} {
		stream := &watched{repeated: repeated{block: block, left: 12 << 20}}
		var out bytes.Buffer
		cmd := command()
		cmd.SetArgs(args)
		cmd.SetIn(stream)
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		if err := cmd.Execute(); err != nil || out.Len() == 0 {
			t.Errorf("%v: %v, %s", args, err, out.String())
		}
		if grown := int64(stream.last) - int64(stream.first); stream.first == 0 || grown > 1<<20 {
			t.Errorf("%v: %d octets in use after 2 MB, %d at the end", args, stream.first, stream.last)
		}
	}
}

// watched looks at the heap every 2 MB.
type watched struct {
	repeated
	looked      int64
	first, last uint64
}

func (w *watched) Read(p []byte) (int, error) {
	if part := w.left / (2 << 20); part != w.looked {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		if w.last = m.HeapAlloc; w.looked > 0 && w.first == 0 {
			w.first = w.last
		}
		w.looked = part
	}
	return w.repeated.Read(p)
}

func BenchmarkReports(b *testing.B) {
	box, err := os.ReadFile(archive(b))
	if err != nil {
		b.Fatal(err)
	}
	// Complaints mostly have the whole original in them.
	block := strings.ReplaceAll(string(box), "\ntext\n", "\n"+strings.Repeat(strings.Repeat("words of a text ", 4)+"\n", 150))
	ordinary := "From x@y Sat Nov 28 10:00:00 2026\nFrom: a@b.example\nSubject: some words\nContent-Type: text/plain\n\n" + strings.Repeat(strings.Repeat("words of a text ", 4)+"\n", 150) + "\n"
	for name, data := range map[string]string{"complaints": strings.Repeat(block, 20), "ordinary": strings.Repeat(ordinary, 2000)} {
		for _, args := range [][]string{{"arf", "--by", "type", "-"}, {"benford", "-"}} {
			b.Run(args[0]+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					run(b, data, args...)
				}
			})
		}
	}
}
