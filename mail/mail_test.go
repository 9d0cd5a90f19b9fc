// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestHeader(t *testing.T) {
	for _, eol := range []string{"\n", "\r\n", "\r"} {
		data := strings.ReplaceAll("From a@b Sat\nSubject: one\n two\nX-Empty:\nfrom : x\nTo:\ty \n\nbody\n", "\n", eol)
		h, body := ParseHeader([]byte(data))
		if got := fmt.Sprintf("%q %q %q %q", h.Value("subject"), h.Value("X-Empty"), h.Value("FROM"), h.Value("to")); got != `"one two" "" "x" "y"` {
			t.Errorf("%q: %s", eol, got)
		}
		if string(body) != "body"+eol || h.Get("absent") != nil || len(h) != 4 {
			t.Errorf("%q: body %q, %d fields", eol, body, len(h))
		}
		for _, f := range h {
			if !strings.HasPrefix(data[f.Start:f.End], f.Name) || !strings.HasSuffix(data[f.Start:f.End], eol) {
				t.Errorf("%q: field %q stands at %q", eol, f.Name, data[f.Start:f.End])
			}
		}
	}
}

func TestDecodeWords(t *testing.T) {
	tests := []struct {
		in, want string
		ok       bool
	}{
		{"plain", "plain", true},
		{"=?utf-8?q?caf=C3=A9?=", "café", true},
		{"=?ISO-8859-7?B?yuHr5+zd8eE=?= x", "Καλημέρα x", true},
		{"=?utf-8?b?4pyT?= =?utf-8?q?_ok?=", "✓ ok", true},
		{"=?utf-8?b?4py=?= =?utf-8?b?kw==?=", "✓", true}, // a character parted between two words
		{"a =?utf-8?q?b?= c", "a b c", true},
		{"=?utf-8*en?q?b?=", "b", true},
		{"=?koi8-r?B?8NLJ18XU?=", "Привет", true},
		{"=?iso-2022-jp?B?GyRCJCIbKEI=?=", "あ", true},
		{"=?no-such-set?q?x=E9?=", "xé", false},
		{"=?utf-8?x?y?=", "=?utf-8?x?y?=", false},
		{"=?utf-8?q?unended", "=?utf-8?q?unended", false},
		{"=?", "=?", false},
		{"caf\xe9", "café", true},
		{"=?utf-8?q??=", "", true},
	}
	for _, tt := range tests {
		if got, ok := DecodeWordsOK(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("%q: %q, %t; want %q, %t", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestParseMedia(t *testing.T) {
	tests := []struct{ in, want string }{
		{`text/Plain; charset="utf-8"`, `text/plain charset=utf-8`},
		{`attachment; filename="a \"b\".txt"; size=3`, `attachment filename=a "b".txt size=3`},
		{`attachment; filename*=UTF-8''%e2%82%ac.exe`, `attachment filename=€.exe`},
		{`attachment; filename*1="b.exe"; filename*0="a"`, `attachment filename=ab.exe`},
		{`attachment; filename*0*=iso-8859-1''%e9; filename*1="x"; filename=old.txt`, `attachment filename=old.txt filename=éx`},
		{`attachment; filename="=?utf-8?q?caf=C3=A9.exe?="`, `attachment filename=café.exe`},
		{`multipart/mixed; boundary=a=b`, `multipart/mixed boundary=a=b`},
		{`multipart/mixed; boundary="unended`, `multipart/mixed boundary=unended`},
		{`;;; x; =; y=1`, ` y=1`},
		{``, ``},
	}
	for _, tt := range tests {
		m := ParseMedia(tt.in)
		got := m.Type
		for _, p := range m.Params {
			got += " " + p.Name + "=" + p.Value
		}
		if got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

// outline writes a message's parts in one line.
func outline(m *Message, p *Part) string {
	out := p.Media.Type
	if len(p.Parts) == 0 {
		return fmt.Sprintf("%s %q", out, p.Raw(m.Data))
	}
	var inner []string
	for _, q := range p.Parts {
		inner = append(inner, outline(m, q))
	}
	return out + "(" + strings.Join(inner, ", ") + ")"
}

func TestScan(t *testing.T) {
	tests := []struct{ name, in, want, malformed string }{
		{"plain", "A: 1\n\nbody\n", `text/plain "body\n"`, ""},
		{"no body", "A: 1\n", `text/plain ""`, ""},
		{"two parts", "Content-Type: multipart/mixed; boundary=x\n\npre\n--x\n\none\n--x\nContent-Type: text/html\n\ntwo\n\n--x--\npost\n",
			`multipart/mixed(text/plain "one", text/html "two\n")`, ""},
		{"no last boundary", "Content-Type: multipart/mixed; boundary=x\n\n--x\n\none\n", `multipart/mixed(text/plain "one\n")`, "boundary"},
		{"nested, the inner one not ended", "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/alternative; boundary=y\n\n--y\n\none\n--x\n\ntwo\n--x--\n",
			`multipart/mixed(multipart/alternative(text/plain "one"), text/plain "two")`, "boundary"},
		{"one boundary is the beginning of another", "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/mixed; boundary=xx\n\n--xx\n\none\n--xx--\n--x--\n",
			`multipart/mixed(multipart/mixed(text/plain "one"))`, ""},
		{"a message in it", "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\nSubject: in\n\none\n--x--\n",
			`multipart/mixed(message/rfc822(text/plain "one"))`, ""},
		{"digest", "Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: in\n\none\n--x--\n", `multipart/digest(message/rfc822(text/plain "one"))`, ""},
		{"no boundary", "Content-Type: multipart/mixed\n\n--x\n\none\n", `multipart/mixed "--x\n\none\n"`, "boundary"},
		{"a part's header cut off by the boundary", "Content-Type: multipart/mixed; boundary=x\n\n--x\nA: 1\n--x--\n", `multipart/mixed(text/plain "")`, ""},
		{"text where a header should be", "Subject: x\nno field\n\nbody\n", `text/plain "no field\n\nbody\n"`, "header"},
		{"CRLF and blanks after the boundary", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x \r\n\r\none\r\n--x--\t\r\n", `multipart/mixed(text/plain "one")`, ""},
		{"empty", "", `text/plain ""`, ""},
	}
	for _, tt := range tests {
		m := Scan([]byte(tt.in), Limits{})
		if got := outline(m, m.Part); got != tt.want || m.Malformed != tt.malformed {
			t.Errorf("%s: %s (%q), want %s (%q)", tt.name, got, m.Malformed, tt.want, tt.malformed)
		}
	}
}

func TestDecoded(t *testing.T) {
	tests := []struct{ encoding, body, want string }{
		{"", "x=41", "x=41"}, {"7bit", "x", "x"},
		{"base64", "aGVs\nbG8=\n", "hello"}, {"BASE64 ", "aG!Vs bG8", "hello"}, {"base64", "aGVsbG8=aGVs", "hello"}, {"base64", "a", ""},
		{"quoted-printable", "a=41=\nb =\n=zz\n", "aAb =zz\n"}, {"quoted-printable", "x  \r\n=", "x\r\n"},
	}
	for _, tt := range tests {
		m := Scan([]byte("Content-Transfer-Encoding: "+tt.encoding+"\n\n"+tt.body), Limits{})
		if got := string(m.Decoded(m.Data, 100)); got != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.encoding, tt.body, got, tt.want)
		}
		if got := m.Decoded(m.Data, 2); len(got) > 2 {
			t.Errorf("%s %q: %q is more than 2 octets", tt.encoding, tt.body, got)
		}
	}
}

func TestNames(t *testing.T) {
	m := Scan([]byte("Content-Type: application/x; name=\"c:\\\\dir\\\\a.exe\"\nContent-Disposition: attachment; filename=\"/x/b.txt\"; filename*=''c.txt\n\n"), Limits{})
	if got := strings.Join(m.Names(), " "); got != "b.txt c.txt a.exe" {
		t.Errorf("names %q", got)
	}
}

// hostile are messages that have been expensive to other programs.
func hostile() map[string][]byte {
	deep := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return b.Bytes()
	}
	return map[string][]byte{
		"nesting":      deep(10_000),
		"parts":        []byte("Content-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\n\ny\n", 100_000)),
		"fields":       []byte(strings.Repeat("A: 1\n", 500_000)),
		"a long field": []byte("A: " + strings.Repeat("x", 8<<20)),
		"folding":      []byte("A: 1\n" + strings.Repeat(" x\n", 1_000_000)),
		"bare CR":      []byte("A: 1\r\r" + strings.Repeat("x\r", 1_000_000)),
		"dashes":       []byte("Content-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--y\n", 1_000_000)),
		"encoded":      []byte("Subject: " + strings.Repeat("=?", 500_000)),
		"messages":     []byte(strings.Repeat("Content-Type: message/rfc822\n\n", 10_000)),
	}
}

func TestHostileMessagesAreBounded(t *testing.T) {
	for name, data := range hostile() {
		m := Scan(data, Limits{})
		n := 0
		for p := range m.All() {
			n++
			if p.Depth > DefaultLimits.Depth || len(p.Header) > DefaultLimits.Fields {
				t.Errorf("%s: depth %d, %d fields", name, p.Depth, len(p.Header))
			}
			p.Names()
			p.Header.Text("Subject")
		}
		if n > DefaultLimits.Parts {
			t.Errorf("%s: %d parts", name, n)
		}
		allocs := testing.AllocsPerRun(1, func() { Scan(data, Limits{}) })
		if allocs > 20_000 {
			t.Errorf("%s: %.0f allocations", name, allocs)
		}
	}
}

// FuzzScan: parts are inside their parents, in order, and nothing panics.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{"A: 1\n\nx", "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\nA: 1\n\ny\n--x--\n",
		"Content-Type: text/plain; name*0*=utf-8''%41; name*1=b\nContent-Transfer-Encoding: base64\n\nYQ==\r\n", "Subject: =?utf-8?q?=41?= =?b?b?b?="} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := Scan(data, Limits{Depth: 5, Parts: 10})
		for p := range m.All() {
			if p.Start > p.Body || p.Body > p.End || p.End > len(data) {
				t.Fatalf("start %d, body %d, end %d of %d", p.Start, p.Body, p.End, len(data))
			}
			at := p.Body
			for _, q := range p.Parts {
				if q.Start < at || q.End > max(p.End, q.Start) {
					t.Fatalf("part %d to %d in %d to %d", q.Start, q.End, p.Body, p.End)
				}
				at = q.End
			}
			for i := range p.Header {
				_ = p.Header[i].Text()
			}
			p.Names()
			if got := p.Decoded(data, 100); len(got) > 100 {
				t.Fatalf("%d octets", len(got))
			}
			_ = p.Text(data, 1000)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	data := []byte("From: a@b\nSubject: x\nContent-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\nContent-Type: text/plain\n\n"+strings.Repeat("some words in a line\n", 100), 5) + "--x--\n")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		Scan(data, Limits{})
	}
}
