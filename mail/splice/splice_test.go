// SPDX-License-Identifier: BSD-2-Clause

package splice

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/mail"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// TestSplice compares with strings that are put together.
func TestSplice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		original := rapid.StringOfN(rapid.RuneFrom([]rune("abcdef")), 0, 50, -1).Draw(t, "original")
		var edits []Edit
		var want strings.Builder
		at := 0
		for range rapid.IntRange(0, 6).Draw(t, "edits") {
			start := rapid.IntRange(at, len(original)).Draw(t, "start")
			end := rapid.IntRange(start, len(original)).Draw(t, "end")
			text := rapid.StringOfN(rapid.RuneFrom([]rune("XYZ")), 0, 10, -1).Draw(t, "text")
			edits = append(edits, Edit{int64(start), int64(end), []byte(text)})
			want.WriteString(original[at:start] + text)
			at = end
		}
		want.WriteString(original[at:])
		s, err := New(strings.NewReader(original), int64(len(original)), edits)
		if err != nil {
			t.Fatal(err)
		}
		if s.Size() != int64(want.Len()) {
			t.Fatalf("size %d, want %d", s.Size(), want.Len())
		}
		if err := iotest.TestReader(io.NewSectionReader(s, 0, s.Size()), []byte(want.String())); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEditsThatCannotBe(t *testing.T) {
	for _, edits := range [][]Edit{{{0, 2, nil}, {1, 3, nil}}, {{3, 2, nil}}, {{0, 6, nil}}, {{-1, 0, nil}}} {
		if _, err := New(strings.NewReader("12345"), 5, edits); err == nil {
			t.Errorf("%v is taken", edits)
		}
	}
}

func TestOriginalIsShort(t *testing.T) {
	s, err := New(strings.NewReader("123"), 5, []Edit{{0, 0, []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size())); !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "x123" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzSplice: of a message with three parts, one gets another text and a field; the message that
// is written is read by net/mail and mime/multipart, and has every other octet as it was.
func FuzzSplice(f *testing.F) {
	f.Add("one\r\n", "two", "", "new\r\ntext", uint8(0))
	f.Add("", "--", "\n\n", "", uint8(1))
	f.Add("\r\n--bound\r\n", "\x00\xff", "a\rb", "\r\n", uint8(2))
	f.Fuzz(func(t *testing.T, one, two, three, text string, which uint8) {
		bodies := []string{one, two, three}
		for _, s := range append(bodies, text) {
			if strings.Contains(s, "--boundary") {
				t.Skip("a boundary in a part")
			}
		}
		which %= 3
		original := "Subject: x\r\nContent-Type: multipart/mixed; boundary=boundary\r\n\r\npreamble\r\n"
		var edits []Edit
		for i, body := range bodies {
			original += "--boundary\r\n"
			begins := int64(len(original))
			original += "Content-ID: " + strconv.Itoa(i) + "\r\n\r\n"
			at := int64(len(original))
			original += body + "\r\n"
			if i == int(which) {
				edits = append(edits, Edit{at, at + int64(len(body)), []byte(text)}, Edit{begins, begins, []byte("X-Changed: yes\r\n")})
			}
		}
		original += "--boundary--\r\nepilogue"
		s, err := New(strings.NewReader(original), int64(len(original)), edits)
		if err != nil {
			t.Fatal(err)
		}
		written, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
		if err != nil {
			t.Fatal(err)
		}
		bodies[which] = text
		m, err := mail.ReadMessage(bytes.NewReader(written))
		if err != nil {
			t.Fatal(err)
		}
		r := multipart.NewReader(m.Body, "boundary")
		for i, want := range bodies {
			p, err := r.NextRawPart()
			if err != nil {
				t.Fatalf("part %d of %q: %v", i, written, err)
			}
			got, err := io.ReadAll(p)
			if err != nil || string(got) != want || p.Header.Get("Content-Id") != strconv.Itoa(i) || (p.Header.Get("X-Changed") != "") != (i == int(which)) {
				t.Fatalf("part %d is %q with %v, want %q: %v", i, got, p.Header, want, err)
			}
		}
		begin := strings.Index(original, "Content-ID: "+strconv.Itoa(int(which)))
		end := len(original) - int(edits[0].End)
		if !strings.HasPrefix(string(written), original[:begin]) || !strings.HasSuffix(string(written), original[len(original)-end:]) {
			t.Fatalf("%q of %q", written, original)
		}
	})
}
