// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"io"
	"runtime"
	"strings"
	"testing"
)

func TestReadMessageJoinsFoldedLines(t *testing.T) {
	for _, end := range []string{"", "\n", "\r\n\r\nbody"} {
		m := ReadMessage([]byte(" lost\r\nA: 1\r\n 2\r\n\t3\r\nB:\nno field\n 4" + end))
		if len(m.Fields) != 2 || m.Fields[0] != (Field{Name: "A", Value: " 1\n 2\n\t3"}) ||
			m.Fields[1] != (Field{Name: "B", Value: "\n 4"}) {
			t.Errorf("with the end %q: %q", end, m.Fields)
		}
	}
}

// A field of a great many lines costs what its length says, not the square of it.
func TestReadMessageOfManyFoldedLines(t *testing.T) {
	raw := []byte("Subject: a\r\n" + strings.Repeat(" b\r\n", 20_000) + "\r\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := ReadMessage(raw)
	runtime.ReadMemStats(&after)
	if got := len(m.Fields[0].Value); got != len(" a")+20_000*len("\n b") {
		t.Errorf("the value has %d octets", got)
	}
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(100*len(raw)); got > most {
		t.Errorf("%d octets allocated for a message of %d, at most %d expected", got, len(raw), most)
	}
}

func TestReadMessageEndsLinesAsMailDoes(t *testing.T) {
	for body, want := range map[string]string{
		"":                       "",
		"a":                      "a",
		"a\r\nb\r\n":             "a\r\nb\r\n",
		"a\nb":                   "a\r\nb",
		"a\r\nb\nc\r\n\nd\r\r\n": "a\r\nb\r\nc\r\n\r\nd\r\r\n",
		"\ra\rb\n":               "\ra\rb\r\n",
	} {
		m := ReadMessage([]byte("Subject: s\n\n" + body))
		if got, err := io.ReadAll(io.NewSectionReader(m.Body, 0, 100)); err != nil || string(got) != want || m.Size != int64(len(want)) {
			t.Errorf("%q: %q of %d octets, %v, want %q", body, got, m.Size, err, want)
		}
	}
}
