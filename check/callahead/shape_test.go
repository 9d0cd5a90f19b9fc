// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"strings"
	"testing"

	"rcptgate/address"
	"rcptgate/backend"
)

func shapeIn(recipient string, code int, enhanced, text string) shape {
	return shapeOf(&backend.Reply{Code: code, Enhanced: enhanced, Text: text}, address.Parse(recipient), "", "gw7")
}

// What belongs to one question leaves no trace in a shape.
func TestEqualShapes(t *testing.T) {
	const made, real = "rcptgateq2xk5mwh7yrcjvbn3tflzd4goa@example.com", "Anna.Schmidt@Example.COM"
	for name, text := range map[string]string{
		"address":            "<{R}>: Recipient address rejected: User unknown",
		"bare address":       "{R} unknown",
		"local part":         "5.1.1 user {L} not found here",
		"local part twice":   "{L}: {L} unknown",
		"sendmail":           "<{R}>... User unknown",
		"domain":             "no such user at {D}",
		"quotes":             "mailbox '{L}' of \"{D}\" does not exist",
		"queue id":           "no such user (id {I})",
		"time":               "no such user {T}",
		"our address":        "gw7 [{A}] asked for an unknown user",
		"url":                "unknown, see https://help.example.net/?r={R}&id={I} please",
		"backend host":       "{H} says: unknown",
		"microsoft":          "Recipient not found by SMTP address lookup [{H} {Z} {I}]",
		"greek":              "Ο χρήστης {R} δεν υπάρχει ({I})",
		"german":             "Empfänger „{R}“ ungültig, {T}",
		"japanese":           "宛先「{R}」は存在しません。番号{I}",
		"japanese local":     "{L}は存在しません",
		"two lines":          "unknown user {L}\nasked at {T} by {A}",
		"long id":            "rejected [session={X}]",
		"hexadecimal letter": "rejected {F}",
	} {
		t.Run(name, func(t *testing.T) {
			first := strings.NewReplacer("{R}", made, "{L}", strings.Split(made, "@")[0], "{D}", "example.com", "{I}", "4bXyTg1Kqz", "{T}", "Sat, 28 Nov 2026 11:22:10 +0100",
				"{A}", "192.0.2.1", "{H}", "mailstore3.corp.internal", "{Z}", "2026-11-28T11:22:10.123Z", "{X}", "A1B2-C3D4-E5F6", "{F}", "deadbeef").Replace(text)
			second := strings.NewReplacer("{R}", real, "{L}", "Anna.Schmidt", "{D}", "Example.COM", "{I}", "9FQ", "{T}", "Mon, 1 Jun 2026 03:02:01 GMT",
				"{A}", "2001:db8::7", "{H}", "store11.corp.internal", "{Z}", "2027-01-02T01:02:03.4Z", "{X}", "00000000-ffff", "{F}", "fadedcafe").Replace(text)
			a, b := shapeIn(made, 550, "5.1.1", first), shapeIn(real, 550, "5.1.1", second)
			if !b.is(a.id) {
				t.Errorf("%q and %q", a.text, b.text)
			}
			if strings.Contains(a.text, "rcptgate") || strings.Contains(b.text, "schmidt") {
				t.Errorf("names are left: %q, %q", a.text, b.text)
			}
		})
	}
}

// A name that is an ordinary word does not make another shape of the usual reply.
func TestWordsAsNames(t *testing.T) {
	for _, name := range []string{"user", "no", "such", "unknown", "mailbox", "here"} {
		for _, text := range []string{"no such user here", "{L}: no such user here", "no such user here: {L}", "unknown mailbox {L} here"} {
			made := shapeIn("rcptgateabc@example.com", 550, "", strings.ReplaceAll(text, "{L}", "rcptgateabc"))
			real := shapeIn(name+"@example.com", 550, "", strings.ReplaceAll(text, "{L}", name))
			if !real.is(made.id) {
				t.Errorf("%s: %q is not %q", name, real.text, made.text)
			}
		}
	}
}

func TestDifferentShapes(t *testing.T) {
	const to = "u17@example.com"
	seen := make(map[shapeID]string)
	for _, s := range []struct {
		code           int
		enhanced, text string
	}{
		{550, "5.1.1", "<u17@example.com>: User unknown"},
		{550, "5.7.1", "<u17@example.com>: User unknown"},
		{553, "5.1.1", "<u17@example.com>: User unknown"},
		{550, "5.1.1", "<u17@example.com>: Mailbox disabled"},
		{550, "", "Too many invalid recipients"},
		{550, "", "sorry, no mailbox here by that name (#5.1.1)"},
		{550, "", "sorry, no mailbox here by that name (#5.7.1)"},
		{550, "", "u17は存在しません"},
		{550, "", "u17は容量を超えています"},
		{550, "", "Ο χρήστης δεν υπάρχει"},
		{550, "", "Πολλοί άγνωστοι παραλήπτες"},
		{550, "", "Empfänger unbekannt"},
		{550, "", "Zu viele unbekannte Empfänger"},
		{550, "", ""},
	} {
		shape := shapeIn(to, s.code, s.enhanced, s.text)
		if other, twice := seen[shape.id]; twice {
			t.Errorf("%q has the shape of %q", s.text, other)
		}
		seen[shape.id] = s.text
	}
	null := shapeOf(&backend.Reply{Code: 550, Text: "no"}, address.Parse(to), "", "")
	other := shapeOf(&backend.Reply{Code: 550, Text: "no"}, address.Parse(to), "postmaster@mx1.example.org", "")
	if null.id == other.id {
		t.Error("the sender is not part of the shape")
	}
}

// FuzzShape holds that masking ends, is bounded, and never shows a long name.
func FuzzShape(f *testing.F) {
	f.Add("u@example.com", 550, "5.1.1", "<u@example.com>: unknown", "<>")
	f.Add("\"a b\"@x.example", 550, "", "宛先「a b」は https://x/?y", "p@x")
	f.Fuzz(func(t *testing.T, recipient string, code int, enhanced, text, sender string) {
		m := address.Parse(recipient)
		s := shapeOf(&backend.Reply{Code: code, Enhanced: enhanced, Text: text}, m, sender, "gw7")
		if len(s.text) > 8*maxShape || len(s.others) > 3 || !s.is(s.id) {
			t.Errorf("shape %+v", s)
		}
		if again := shapeOf(&backend.Reply{Code: code, Enhanced: enhanced, Text: text}, m, sender, "gw7"); again.id != s.id {
			t.Error("a reply has two shapes")
		}
	})
}
