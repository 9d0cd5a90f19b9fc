// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"errors"
	"net/mail"
	"strings"
	"testing"
)

func message(has Wants) *Message {
	m := NewMessage(has)
	m.Fields = []Field{{"Subject", " one"}, {"X-Two", " a"}, {"x-two", " b"}}
	m.Recipients = []Mailbox{{Path: "a@in.test"}, {Path: "b@in.test"}}
	return m
}

// TestFieldsThatCannotBeWritten holds that no field ends the header, begins another or
// is longer than a line may be.
func TestFieldsThatCannotBeWritten(t *testing.T) {
	for name, do := range map[string]func(*Message) error{
		"an empty line":             func(m *Message) error { return m.AddHeader("X", "a\n\nbody") },
		"another field":             func(m *Message) error { return m.AddHeader("X", "a\nBcc: b") },
		"CRLF":                      func(m *Message) error { return m.AddHeader("X", "a\r\nBcc: b") },
		"CR":                        func(m *Message) error { return m.InsertHeader("X", "a\rb") },
		"NUL":                       func(m *Message) error { return m.ChangeHeader("Subject", 1, "a\x00b") },
		"a line of blanks":          func(m *Message) error { return m.AddHeader("X", "a\n \n b") },
		"a line break at the end":   func(m *Message) error { return m.AddHeader("X", "a\n") },
		"a line that is too long":   func(m *Message) error { return m.AddHeader("X", strings.Repeat("a", 999)) },
		"a value that is too long":  func(m *Message) error { return m.AddHeader("X", strings.Repeat("a ", 40<<10)) },
		"no name":                   func(m *Message) error { return m.AddHeader("", "a") },
		"a colon in the name":       func(m *Message) error { return m.AddHeader("X:Y", "a") },
		"a space in the name":       func(m *Message) error { return m.AddHeader("X Y", "a") },
		"a name beyond ASCII":       func(m *Message) error { return m.AddHeader("Xé", "a") },
		"index 0":                   func(m *Message) error { return m.ChangeHeader("X-Two", 0, "a") },
		"an index beyond the last":  func(m *Message) error { return m.DeleteHeader("X-Two", 3) },
		"a change into nothing":     func(m *Message) error { return m.ChangeHeader("Subject", 1, "") },
		"a recipient with brackets": func(m *Message) error { return m.AddRecipient("a>@in.test") },
		"a recipient with CR":       func(m *Message) error { return m.AddRecipient("a\r@in.test") },
		"an empty recipient":        func(m *Message) error { return m.AddRecipient("") },
		"a recipient that is not":   func(m *Message) error { return m.DeleteRecipient(2) },
		"a sender with a control":   func(m *Message) error { return m.ChangeSender("a\x01@in.test") },
	} {
		m := message(^Wants(0))
		if err := do(m); err == nil || len(m.Proposed()) > 0 {
			t.Errorf("%s: %v, proposed %+v", name, err, m.Proposed())
		}
		if err := m.AddHeader("X-After", "fine"); err != nil {
			t.Errorf("%s: nothing can be added afterwards: %v", name, err)
		}
	}
}

// TestEditsNeedAgreement holds that an edit the MTA was not asked for is an error of the step.
func TestEditsNeedAgreement(t *testing.T) {
	for name, do := range map[string]func(*Message) error{
		"add":        func(m *Message) error { return m.AddHeader("X", "a") },
		"delete":     func(m *Message) error { return m.DeleteHeader("Subject", 1) },
		"recipient":  func(m *Message) error { return m.DeleteRecipient(0) },
		"sender":     func(m *Message) error { return m.ChangeSender("") },
		"body":       func(m *Message) error { return m.ReplaceBody(strings.NewReader(""), 0) },
		"quarantine": func(m *Message) error { return m.Hold("x") },
	} {
		if err := do(message(WantMessage | WantHeader | WantBody)); !errors.Is(err, ErrNotAgreed) {
			t.Errorf("%s: %v", name, err)
		}
		if err := do(message(^Wants(0))); err != nil {
			t.Errorf("%s, agreed on: %v", name, err)
		}
	}
}

// TestEditsOfOneField holds that the last word on a field counts.
func TestEditsOfOneField(t *testing.T) {
	m := message(^Wants(0))
	for _, err := range []error{m.ChangeHeader("X-TWO", 2, "c"), m.DeleteHeader("x-two", 2), m.ChangeHeader("X-Two", 2, " d")} {
		if err != nil {
			t.Error(err)
		}
	}
	if e := m.Proposed(); len(e) != 1 || e[0].Kind != EditChangeHeader || e[0].Value != "d" || e[0].Name != "x-two" {
		t.Errorf("%+v", e)
	}
}

func TestEditsAreBounded(t *testing.T) {
	m := message(^Wants(0))
	n := 0
	for ; n <= editsMax && m.AddHeader("X", "a") == nil; n++ {
	}
	if n != editsMax {
		t.Errorf("%d edits", n)
	}
	m = message(^Wants(0))
	for n = 0; m.AddHeader("X", strings.Repeat("word ", 10_000)) == nil; n++ {
	}
	if n == 0 || n > 5 {
		t.Errorf("%d edits of 50 KB", n)
	}
}

// In rehearsal nothing is changed, and what would have been is still there to be shown.
func TestRehearsedEdits(t *testing.T) {
	for _, rehearse := range []bool{false, true} {
		var g Gate
		setup := Setup{Rehearse: func(*Query) bool { return rehearse }}
		setup.Chains[StageMessage] = &Chain{Steps: []Step{{Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
			return Verdict{}, q.Message.AddHeader("X", "a")
		})}}}
		g.Swap(setup)
		q := Query{Stage: StageMessage, Message: message(^Wants(0))}
		g.Ask(t.Context(), &q)
		if made := len(q.Message.Edits()); made == 1 == rehearse || len(q.Message.Proposed()) != 1 {
			t.Errorf("rehearsal %v: %d edits", rehearse, made)
		}
		g.Close()
	}
}

// FuzzEdits adds a field to a message, writes it as an MTA does, and reads it with
// net/mail: there must be that field, one more and the same body.
func FuzzEdits(f *testing.F) {
	for _, seed := range [][2]string{
		{"X-A", "b"}, {"X", ""}, {"X", " a"}, {"X", "a\n\tb"}, {"X", "a\r\n\r\nb"}, {"X", "a\nb: c"}, {"X:", "b"}, {"", ""}, {"X", "\n"}, {"X", strings.Repeat("ab ", 500)},
		{"X", strings.Repeat(" ", 300)}, {"X", "a\n \t\n"}, {"Ñ", "x"}, {"X", "=?utf-8?q?=0a?="},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		m := message(^Wants(0))
		if m.AddHeader(name, value) != nil {
			return
		}
		e := m.Edits()[0]
		text := "Subject: one\r\n" + e.Name + ": " + strings.ReplaceAll(e.Value, "\n", "\r\n") + "\r\nX-Last: end\r\n\r\nbody"
		for _, line := range strings.Split(text, "\r\n") {
			if len(line) > 998 {
				t.Fatalf("a line of %d octets", len(line))
			}
		}
		got, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		fields := 0
		for _, values := range got.Header {
			fields += len(values)
		}
		body := make([]byte, 8)
		n, _ := got.Body.Read(body)
		if fields != 3 || string(body[:n]) != "body" || got.Header.Get("X-Last") == "" && !strings.EqualFold(name, "X-Last") {
			t.Fatalf("%q is %d fields and body %q", text, fields, body[:n])
		}
		if words := strings.Join(strings.Fields(value), " "); !strings.Contains(strings.Join(strings.Fields(strings.Join(got.Header[keyOf(got.Header, name)], " ")), " "), words) {
			t.Fatalf("%q became %q", value, got.Header)
		}
	})
}

func keyOf(h mail.Header, name string) string {
	for key := range h {
		if strings.EqualFold(key, name) {
			return key
		}
	}
	return ""
}

// TestReplacedEditsCount holds that the octets of all edits together are bounded, also of those that
// take the place of others, and that an edit that was refused does not count.
func TestReplacedEditsCount(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 70)+" ", 800) // 56,800 octets
	m := message(EditRecipients)
	for range 10 {
		if err := m.AddHeader("X", long); !errors.Is(err, ErrNotAgreed) {
			t.Fatalf("an edit that was not agreed on: %v", err)
		}
	}
	if err := m.AddRecipient("c@in.test"); err != nil {
		t.Errorf("an edit after others were refused: %v", err)
	}
	m = NewMessage(EditHeader)
	for range 20 {
		m.Fields = append(m.Fields, Field{"X", " a"})
	}
	var refused int
	for _, value := range []string{"b", long} {
		for i := range m.Fields {
			if m.ChangeHeader("X", i+1, value) != nil {
				refused++
			}
		}
	}
	total := 0
	for _, e := range m.Proposed() {
		total += len(e.Name) + len(e.Value)
	}
	if total > editsSizeMax || refused == 0 {
		t.Errorf("%d octets of edits were taken, %d edits refused", total, refused)
	}
	if err := m.ChangeHeader("X", 1, "short again"); err != nil {
		t.Errorf("a shorter value in the place of a long one: %v", err)
	}
}
