// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"fmt"
	"strings"
	"testing"
)

func numbered(format string, n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

// shows reports whether one of a message's names is a program's, or the message is said to be
// malformed.
func shows(m *Message) bool {
	for p := range m.All() {
		for _, n := range p.Names() {
			if Ext(n) == "exe" {
				return true
			}
		}
	}
	return m.Malformed != ""
}

// TestHiddenNames: each of these is an attachment evil.exe to some program. Where the name is not
// listed, the message is malformed.
func TestHiddenNames(t *testing.T) {
	cd := "Content-Disposition: attachment; "
	for _, tt := range []struct{ name, in string }{
		{"gap", cd + "filename*0=evil.exe; filename*2=.txt"},
		{"dup piece first", cd + "filename*0=evil.exe; filename*0=.txt"},
		{"leading zero", cd + "filename*0=evil.exe; filename*01=.txt"},
		{"simple beside pieces", cd + "filename*=''evil.exe; filename*0=.txt"},
		{"simple beside pieces 2", cd + "filename*=''a.txt; filename*0=evil.; filename*1=exe"},
		{"two simples", cd + "filename*=''evil.exe; filename*=''.txt"},
		{"huge index", cd + "filename*0=evil.exe; filename*99999999999999999999=.txt"},
		{"index not a number", cd + "filename*x=a; filename*0=evil.exe"},
		{"encoded second piece", cd + "filename*0*=utf-8''evil; filename*1*=%2Eexe"},
		{"charset in second", cd + "filename*0=evil; filename*1*=utf-8''%2Eexe"},
		{"double star", cd + "filename*0**=utf-8''evil.exe"},
		{"comment behind", cd + "filename=evil.exe(.txt)"},
		{"comment inside", cd + "filename=evil.(x)exe"},
		{"comment before =", cd + "filename(x)=evil.exe"},
		{"comment before = spaced", cd + "filename (x) =evil.exe"},
		{"comment with =", cd + "(a=b) filename=evil.exe"},
		{"comment with ;", cd + "(a;b) filename=evil.exe"},
		{"comment with quote", cd + "(\") filename=evil.exe"},
		{"no semicolon between", cd + "size=3 filename=evil.exe"},
		{"comma", "Content-Disposition: attachment, filename=evil.exe"},
		{"comma2", cd + "size=3, filename=evil.exe"},
		{"colon", "Content-Disposition: attachment; filename: evil.exe"},
		{"quoted name", cd + "\"filename\"=evil.exe"},
		{"quote unended before", cd + "x=\"a; filename=evil.exe"},
		{"quote in the middle", cd + "x=a\"; filename=evil.exe; y=\""},
		{"escaped quote", cd + "x=\"a\\\"; filename=evil.exe; y=\"\""},
		{"utf-7", cd + "filename=\"=?utf-7?q?evil+AC4-exe?=\""},
		{"utf-16 word", cd + "filename=\"=?utf-16le?b?ZQB2AGkAbAAuAGUAeABlAA==?=\""},
		{"utf-16be 2231", cd + "filename*=utf-16be''%00e%00v%00i%00l%00.%00e%00x%00e"},
		{"lying charset", cd + "filename=\"=?utf-16le?q?evil.exe?=\""},
		{"lying charset 2231", cd + "filename*=utf-16le''evil.exe"},
		{"esc", cd + "filename=\"evil.exe\x1b$B\x1b(B\""},
		{"nested words", cd + "filename=\"=?utf-8?q?=3D=3Futf-8=3Fq=3Fevil=2Eexe=3F=3D?=\""},
		{"word split in the middle", cd + "filename=\"=?utf-8?q?evil.?= =?utf-8?q?exe?=\""},
		{"word with newline", cd + "filename=\"=?utf-8?q?evil.?=\n\t=?utf-8?q?exe?=\""},
		{"word with blank", cd + "filename=\"=?utf-8?q?evil.exe ?=\""},
		{"word with lower case b and spaces", cd + "filename=\"=?utf-8?b?ZXZp bC5leGU=?=\""},
		{"word b with padding inside", cd + "filename=\"=?utf-8?b?ZXY=aWwuZXhl?=\""},
		{"word b junk", cd + "filename=\"=?utf-8?b?ZXZpbC5leGU*=?=\""},
		{"words adjoining", cd + "filename==?utf-8?q?evil?==?utf-8?q?=2Eexe?="},
		{"word inside word text", cd + "filename=\"a=?utf-8?q?b=2Eexe?=\""},
		{"percent in word", cd + "filename=\"=?utf-8?q?evil%2Eexe?=\""},
		{"CR in value", cd + "filename=evil.exe\r.txt"},
		{"CR before", "Content-Disposition: attachment;\r filename=evil.exe"},
		{"CR CR LF", "Content-Disposition: attachment;\r\r\n filename=evil.exe"},
		{"CR CR LF field", "A: 1\r\r\nContent-Disposition: attachment; filename=evil.exe"},
		{"CR CR field", "A: 1\r\rContent-Disposition: attachment; filename=evil.exe"},
		{"NUL in a field name", "X\x00: y\nContent-Disposition: attachment; filename=evil.exe"},
		{"junk line", "junk\nContent-Disposition: attachment; filename=evil.exe"},
		{"blank line with blanks", "A: 1\n \nContent-Disposition: attachment; filename=evil.exe"},
		{"blank before colon", "Content-Disposition\t : attachment; filename=evil.exe"},
		{"8 bit field name", "X-\xe9: y\nContent-Disposition: attachment; filename=evil.exe"},
		{"no value", "Content-Disposition:;filename=evil.exe"},
		{"value begins with param", "Content-Disposition: filename=evil.exe"},
		{"value begins with quoted param", "Content-Disposition: filename=\"evil.exe\""},
		{"value begins with 2 params", "Content-Disposition: filename=evil.exe; x=y"},
		{"name in type without type", "Content-Type: name=evil.exe"},
		{"VT", cd + "filename=\x0bevil.exe\x0b.txt"},
		{"blank then junk", cd + "filename=\"evil.exe\"  .txt"},
		{"single quotes with blank", cd + "filename='my evil.exe' .txt"},
		{"rtl", cd + "filename=\"evil\u202etxt.exe\""},
		{"slash", cd + "filename=\"evil.exe/\""},
		{"backslash end", cd + "filename=\"evil.exe\\\\\""},
		{"backslash lone", cd + "filename=\"evil.ex\\e\""},
		{"a field of its own", "Content-Type: application/x\nContent-Name: evil.exe"},
		{"65 names", cd + strings.Repeat("filename=a.txt; ", 64) + "filename=evil.exe"},
		{"64 spellings", cd + numbered("filename=a%d.txt; ", 63) + "filename=evil.exe"},
		{"30 names with colons", cd + numbered("filename=\"a%[1]d:b%[1]d\"; ", 30) + "filename=evil.exe"},
		{"long name", cd + "filename=\"" + strings.Repeat("a", 1020) + ".exe; filename=evil.exe"},
		{"mixed names type", "Content-Type: application/octet-stream; name*0=evil; name*1=.exe"},
		{"kanji half", cd + "filename=\"=?shift_jis?b?g0VldmlsLmV4ZQ==?=\""},
	} {
		in := "Content-Type: multipart/mixed; boundary=x\n\n--x\n" + tt.in + "\n\nbody\n--x--\n"
		if m := Scan([]byte(in), Limits{}); !shows(m) {
			t.Errorf("%s: not in %q", tt.name, m.Parts[0].Names())
		}
	}
}

// TestHiddenParts: each of these has the part evil.exe to some program.
func TestHiddenParts(t *testing.T) {
	const ct = "Content-Type: multipart/mixed; boundary="
	const evil = "Content-Type: application/x; name=evil.exe\n\nx\n"
	for _, tt := range []struct{ name, in string }{
		{"plain", ct + "x\n\n--x\n" + evil + "--x--\n"},
		{"after the last boundary", ct + "x\n\n--x\n\nhi\n--x--\n--x\n" + evil + "--x--\n"},
		{"a last boundary by bare CR", ct + "x\n\n--x\n\nhi\r--x--\r\n--x\n" + evil + "--x--\n"},
		{"two boundary parameters", ct + "y; boundary=x\n\n--y\n\nhi\n--y--\n\n--x\n" + evil + "--x--\n"},
		{"two boundary parameters, first", ct + "x; boundary=y\n\n--y\n\nhi\n--y--\n\n--x\n" + evil + "--x--\n"},
		{"boundary in RFC 2231 beside", ct + "y; boundary*=us-ascii''x\n\n--y\n\nhi\n--y--\n\n--x\n" + evil + "--x--\n"},
		{"boundary in pieces beside", ct + "y; boundary*0=x\n\n--y\n\nhi\n--y--\n\n--x\n" + evil + "--x--\n"},
		{"boundary in pieces", "Content-Type: multipart/mixed; boundary*0=ab; boundary*1=c\n\n--abc\n" + evil + "--abc--\n"},
		{"boundary like an encoded word", ct + "\"=?utf-8?q?x?=\"\n\n--x\n\nhi\n--x--\n\n--=?utf-8?q?x?=\n" + evil + "--=?utf-8?q?x?=--\n"},
		{"boundary like an encoded word, legal", ct + "\"=?utf-8?q?x?=\"\n\n--=?utf-8?q?x?=\n" + evil + "--=?utf-8?q?x?=--\n"},
		{"blank at the end of the boundary", ct + "\"x \"\n\n--x\n" + evil + "--x--\n"},
		{"blank in the boundary, unquoted", ct + "x y\n\n--x y\n\nhi\n--x y--\n--x\n" + evil + "--x--\n"},
		{"comment behind the boundary", ct + "x(y)\n\n--x(y)\n\nhi\n--x(y)--\n--x\n" + evil + "--x--\n"},
		{"quoted boundary with text behind", ct + "\"x\"y\n\n--x\n\nhi\n--x--\n--xy\n" + evil + "--xy--\n"},
		{"escape in the boundary", ct + "\"x\\y\"\n\n--xy\n\nhi\n--xy--\n--x\\y\n" + evil + "--x\\y--\n"},
		{"blank before the slash", "Content-Type: multipart /mixed; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"blank behind the slash", "Content-Type: multipart/ mixed; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"comment in the type", "Content-Type: multipart(x)/mixed; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"comment before the type", "Content-Type: (x) multipart/mixed; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"comment with a semicolon", "Content-Type: multipart/mixed (;) ; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"comment before the parameter", "Content-Type: multipart/mixed; (a=b;) boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"comment in the parameter", "Content-Type: multipart/mixed; boundary(a)=x\n\n--x\n" + evil + "--x--\n"},
		{"quoted type", "Content-Type: \"multipart/mixed\"; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"comma", "Content-Type: multipart/mixed, boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"two types", "Content-Type: text/plain\n" + ct + "x\n\n--x\n" + evil + "--x--\n"},
		{"empty subtype", "Content-Type: multipart/; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"message/news", "Content-Type: message/news\n\n" + evil},
		{"message/rfc822 in blanks", "Content-Type: message/rfc822 \n\n" + evil},
		{"message / rfc822", "Content-Type: message / rfc822\n\n" + evil},
		{"rfc822 with a semicolon", "Content-Type: message/rfc822;\n\n" + evil},
		{"base64 message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nQ29udGVudA==\n"},
		{"x-encoded message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: x-uuencode\n\nbegin\n"},
		{"boundary in the header's fold", ct + "\n x\n\n--x\n" + evil + "--x--\n"},
		{"NUL in the boundary line", ct + "x\n\n--x\x00\n" + evil + "--x--\n"},
		{"tab behind the boundary", ct + "x\n\n--x\t\n" + evil + "--x--\n"},
		{"VT behind the boundary", ct + "x\n\n--x\x0b\n" + evil + "--x--\n"},
		{"blank before the boundary", ct + "x\n\n --x\n" + evil + "--x--\n"},
		{"NUL before the boundary", ct + "x\n\n\x00--x\n" + evil + "--x--\n"},
		{"boundary with 8 bit", ct + "\"\xe9\"\n\n--\xe9\n" + evil + "--\xe9--\n"},
		{"same boundary inside", ct + "x\n\n--x\n" + ct + "x\n\n--x\n\nhi\n--x--\n--x\n" + evil + "--x--\n"},
		{"prefix", ct + "x\n\n--x\n" + ct + "xy\n\n--xy\n" + evil + "--xy--\n--x--\n"},
		{"prefix, outer longer", ct + "xy\n\n--xy\n" + ct + "x\n\n--x\n" + evil + "--x--\n--xy--\n"},
		{"boundary x--", ct + "\"x--\"\n\n--x--\n" + evil + "--x----\n"},
		{"inner x, outer x--", ct + "\"x--\"\n\n--x--\n" + ct + "x\n\n--x\n\nhi\n--x--\n" + evil + "--x----\n"},
		{"outer x, inner x--", ct + "x\n\n--x\n" + ct + "\"x--\"\n\n--x--\n" + evil + "--x----\n--x--\n"},
		{"preamble only", ct + "x\n\n" + evil},
		{"8bit name of the type", "Content-Type: multipart/mixed; boundary=\"x\"\xa0\n\n--x\n" + evil + "--x--\n"},
		{"upper case", "CONTENT-TYPE: MULTIPART/MIXED; BOUNDARY=x\n\n--x\n" + evil + "--x--\n"},
		{"case of the boundary", ct + "X\n\n--x\n" + evil + "--x--\n"},
		{"header without blank, boundary", ct + "x\n--x\n" + evil + "--x--\n"},
		{"signed", "Content-Type: multipart/signed; boundary=x\n\n--x\n" + evil + "--x--\n"},
		{"appledouble", "Content-Type: multipart/appledouble; boundary=x\n\n--x\n" + evil + "--x--\n"},
	} {
		for _, eol := range []string{"\n", "\r\n"} {
			if m := Scan([]byte(strings.ReplaceAll(tt.in, "\n", eol)), Limits{}); !shows(m) {
				t.Errorf("%s, %q: %s", tt.name, eol, outline(m, m.Part))
			}
		}
	}
}
