// SPDX-License-Identifier: BSD-2-Clause

package splice

import (
	"errors"
	"io"
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
