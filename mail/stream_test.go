// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// sameParts compares what Scan and ScanBody find. Offset is that of the body.
func sameParts(a, b *Part, offset int) error {
	if a.Media.Type != b.Media.Type || a.Depth != b.Depth || len(a.Parts) != len(b.Parts) || a.Encoding() != b.Encoding() ||
		fmt.Sprint(a.Names()) != fmt.Sprint(b.Names()) {
		return fmt.Errorf("%s with %d parts, depth %d, names %q; from the body %s with %d, %d, %q",
			a.Media.Type, len(a.Parts), a.Depth, a.Names(), b.Media.Type, len(b.Parts), b.Depth, b.Names())
	}
	if a.Body != b.Body+offset || a.End != b.End+offset {
		return fmt.Errorf("%d to %d, from the body %d to %d", a.Body-offset, a.End-offset, b.Body, b.End)
	}
	for i := range a.Parts {
		if err := sameParts(a.Parts[i], b.Parts[i], offset); err != nil {
			return err
		}
	}
	return nil
}

// TestScanBodyFindsWhatScanFinds compares the two ways on messages made at random of what
// matters to the scanner, long lines among them.
func TestScanBodyFindsWhatScanFinds(t *testing.T) {
	piece := rapid.SampledFrom([]string{"--x", "--xx", "--x--", "--xx--", "--y", "Content-Type: multipart/mixed; boundary=x", "Content-Type: multipart/digest; boundary=xx",
		"Content-Type: message/rfc822", "Content-Type: text/html; name=a.htm", "Content-Transfer-Encoding: base64", "A: 1", " more", "text", "", "", "From x", "--x \t", ": odd",
		strings.Repeat("long ", 20_000), "A: " + strings.Repeat("x", 65_530)})
	eol := rapid.SampledFrom([]string{"\r\n", "\n", "\r", ""})
	rapid.Check(t, func(t *rapid.T) {
		data := []byte("Content-Type: multipart/mixed; boundary=x\n\n")
		for range rapid.IntRange(0, 40).Draw(t, "lines") {
			data = append(append(data, piece.Draw(t, "line")...), eol.Draw(t, "end")...)
		}
		limits := Limits{Depth: 5, Parts: 20, Fields: 4}
		want := Scan(data, limits)
		header := want.Header
		body := data[want.Body:]
		got, err := ScanBody(header, bytes.NewReader(body), len(body), limits)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameParts(want.Part, got.Part, want.Body); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
	})
}

// TestLinesInWindows reads lines of every length about a window's, in reads of every kind.
func TestLinesInWindows(t *testing.T) {
	for _, eol := range []string{"\n", "\r\n", "\r"} {
		for length := lineWindow - 3; length < lineWindow+3; length++ {
			data := "first" + eol + strings.Repeat("x", length) + eol + strings.Repeat("y", 2*length) + eol + "last"
			var got []int
			err := readLines(iotest.HalfReader(strings.NewReader(data)), func(l line) {
				got = append(got, l.start, l.textEnd, l.end)
				if want := data[l.start:l.textEnd]; !strings.HasPrefix(want, string(l.text)) || l.cut != (len(want) != len(l.text)) {
					t.Fatalf("line %d to %d has %d octets of text, cut %t", l.start, l.textEnd, len(l.text), l.cut)
				}
			})
			e := len(eol)
			second, third := 5+e+length, 5+2*e+3*length
			want := []int{0, 5, 5 + e, 5 + e, second, second + e, second + e, third, third + e, third + e, len(data), len(data)}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%q, %d: %v, want %v (%v)", eol, length, got, want, err)
			}
		}
	}
}

// TestDecoderInPieces: what is decoded does not depend on how it is read.
func TestDecoderInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		encoding := rapid.SampledFrom([]string{"base64", "quoted-printable", "7bit"}).Draw(t, "encoding")
		in := rapid.StringOfN(rapid.SampledFrom([]rune("=\r\n \tA4f+/!z")), 0, 60, -1).Draw(t, "in")

		var whole, pieces bytes.Buffer
		if _, err := whole.ReadFrom(NewDecoder(encoding, strings.NewReader(in))); err != nil {
			t.Fatal(err)
		}
		if _, err := pieces.ReadFrom(NewDecoder(encoding, iotest.OneByteReader(strings.NewReader(in)))); err != nil {
			t.Fatal(err)
		}
		if whole.String() != pieces.String() {
			t.Fatalf("%s %q: %q, in pieces %q", encoding, in, whole.String(), pieces.String())
		}
	})
}

func TestEveryNameIsFound(t *testing.T) {
	tests := []struct{ header, hidden string }{
		{"Content-Disposition: attachment; filename=a.txt; filename=evil.exe", "evil.exe"},
		{"Content-Disposition: attachment; filename=a.txt\nContent-Type: x/y; name=evil.exe", "evil.exe"},
		{"Content-Disposition: attachment; filename=a.txt\nContent-Disposition: attachment; filename=evil.exe", "evil.exe"},
		{"Content-Type: x/y; name=a.txt\nContent-Type: x/y; name=evil.exe", "evil.exe"},
		{"Content-Disposition: attachment; filename*=utf-8''evil%2Eexe; filename=a.txt", "evil.exe"},
		{"Content-Disposition: attachment; filename*0=evil.e; filename*1=xe", "evil.exe"},
		{"Content-Disposition: attachment; filename*1=xe; filename*0=evil.e", "evil.exe"},
		{"Content-Disposition: attachment; filename*0*=utf-8''evil%2E; filename*1=exe", "evil.exe"},
		{"Content-Disposition: attachment; filename*0=\"=?utf-8?q?evil=2E\"; filename*1=\"exe?=\"", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"=?utf-8?b?ZXZpbC5leGU=?=\"", "evil.exe"},
		{"Content-Disposition: attachment; filename==?utf-8?b?ZXZpbC5leGU=?=", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"=?utf-8?b?ZXZpbC4=?=\n =?utf-8?b?ZXhl?=\"", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil%2Eexe\"", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"c:\\dir\\evil.exe\"", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"../../evil.exe\"", "evil.exe"},
		{"Content-Disposition: attachment; filename=evil.exe .txt", "evil.exe"},
		{"Content-Disposition: attachment; filename=evil.exe (no harm.txt)", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil.exe", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil\".exe", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil.exe\\\".txt\"", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil.exe;.txt\"", "evil.exe"},
		{"Content-Disposition: attachment; filename='evil.exe'", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil.exe...  \"", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil.exe\x00.txt\"", "evil.exe"},
		{"Content-Disposition: attachment; filename*=utf-8''evil.exe%00.txt", "evil.exe"},
		{"Content-Disposition: attachment; filename*=utf-8''evil.e%E2%80%8Bxe", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"readme.txt:evil.exe\"", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"evil.exe:$DATA\"", "evil.exe"},
		{"Content-Disposition: attachment; (hello) filename=evil.exe", "evil.exe"},
		{"Content-Disposition: attachment filename=evil.exe", "evil.exe"},
		{"Content-Disposition: attachment; FileName = evil.exe", "evil.exe"},
		{"content-disposition:attachment;filename=evil.exe", "evil.exe"},
		{"Content-Disposition: attachment;\n\tfilename=\n\tevil.exe", "evil.exe"},
		{"Content-Disposition: attachment; filename=\"=?iso-2022-jp?B?GyRCJCIbKEI=?=.exe\"", "あ.exe"},
	}
	for _, tt := range tests {
		m := Scan([]byte(tt.header+"\n\n"), Limits{})
		found := false
		for _, name := range m.Names() {
			found = found || name == tt.hidden
		}
		if !found {
			t.Errorf("%q: %q not in %q", tt.header, tt.hidden, m.Names())
		}
		if len(m.Names()) > 8 {
			t.Errorf("%q: %d spellings: %q", tt.header, len(m.Names()), m.Names())
		}
	}
}

func TestFilename(t *testing.T) {
	tests := []struct{ header, want, ext string }{
		{"Content-Disposition: attachment; filename=a.TXT; filename*=utf-8''b%C3%A9.Doc\nContent-Type: x/y; name=c", "bé.Doc", "doc"},
		{"Content-Type: x/y; name=\"/tmp/c.tar.gz \"", "c.tar.gz", "gz"},
		{"Content-Disposition: attachment; filename=\"/\"\nContent-Type: x/y; name=c", "c", ""},
		{"Content-Type: text/plain; charset=utf-8", "", ""},
		{"Content-Disposition: attachment; filename=" + strings.Repeat("é", 600), strings.Repeat("é", 512), ""},
		{"Content-Disposition: attachment; filename=\"a\u202etxt.exe. \"", "atxt.exe", "exe"},
	}
	for _, tt := range tests {
		m := Scan([]byte(tt.header+"\n\n"), Limits{})
		if got := m.Filename(); got != tt.want || Ext(got) != tt.ext {
			t.Errorf("%q: %q, extension %q; want %q, %q", tt.header, got, Ext(got), tt.want, tt.ext)
		}
	}
}

func TestMalformed(t *testing.T) {
	tests := []struct{ in, want string }{
		{"Content-Type: text/plain\nContent-Type: text/html\n\n", "duplicate"},
		{"Content-Type: text/plain\nContent-Type: text/plain\n\n", ""},
		{"Content-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit\n\n", "duplicate"},
		{"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nQQ==\n", "encoding"},
		{"Content-Type: multipart/mixed; boundary=x\nContent-Transfer-Encoding: 8bit\n\n--x\n\n--x--\n", ""},
		{"Content-Type: multipart/mixed; boundary=x\n\n--x\n\n--xy\n\n--x--\n", "boundary"},
		{"Content-Type: x/y; name=" + strings.Repeat("n", 1025) + "\n\n", "name"},
		{"Content-Type: x/y; " + strings.Repeat("a=b; ", 65) + "name=evil.exe\n\n", "header"},
		{strings.Repeat("A: b\n", 1001) + "\n", "fields"},
		{"A: " + strings.Repeat("x", 256<<10) + "\n\n", "header"},
	}
	for _, tt := range tests {
		if m := Scan([]byte(tt.in), Limits{}); m.Malformed != tt.want {
			t.Errorf("%.80q: %q, want %q", tt.in, m.Malformed, tt.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct{ in, want string }{
		{"ann@example.org", "[{ ann@example.org}]"},
		{`"Ann, B." <ann@example.org>, (Bob) bob@example.org`, "[{Ann, B. ann@example.org} {Bob bob@example.org}]"},
		{"=?utf-8?q?Andr=C3=A9?= <a@b>", "[{André a@b}]"},
		{"friends: a@b, c@d;", "[{ a@b} {c@d}]"},
		{"<a@b", "[{ a@b}]"}, {"", "[]"}, {",;,", "[]"}, {"<>", "[{ }]"},
		{`"a\"b" <x@y>`, `[{a"b x@y}]`},
		{`<"a,b"@c>`, `[{ "a,b"@c}]`},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(Addresses(tt.in)); got != strings.ReplaceAll(tt.want, "{c@d}", "{ c@d}") {
			t.Errorf("%q: %s, want %s", tt.in, got, tt.want)
		}
	}
}
