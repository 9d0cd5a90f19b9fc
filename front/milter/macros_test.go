// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"math/rand/v2"
	"testing"

	"rcptgate/front/milter/wire"
)

// TestRepeatedMacros holds that a frame is read as if there had been none before it: the
// next hop of one recipient must never be taken for another's.
func TestRepeatedMacros(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	var s session
	repeated := 0
	for range 20_000 {
		if rng.IntN(8) == 0 { // MAIL has a queue identifier of its own
			mail := wire.AppendMacros(nil, wire.CmdMail, []wire.Macro{{Name: "i", Value: pick("", "Q1", "Q2")}})
			if err := s.macros(mail[5:]); err != nil {
				t.Fatal(err)
			}
		}
		var list []wire.Macro
		for range rng.IntN(5) {
			list = append(list, wire.Macro{Name: pick("i", "{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}", "{x}"), Value: pick("", "Q1", "smtp", "[192.0.2.1]")})
		}
		if rng.IntN(2) == 0 {
			list = []wire.Macro{{Name: "i", Value: pick("Q1", "Q2")}, {Name: "{rcpt_host}", Value: pick("", "[192.0.2.1]")}}
		}
		list = append(list, wire.Macro{Name: pick("{rcpt_addr}", "{rcpt_addr}", "{rcpt_addr}", "i"), Value: pick("", "a@x", "b@x", "longer@example.com")})
		data := wire.AppendMacros(nil, wire.CmdRcpt, list)[5:]
		if s.rcpt.repeats(data[:len(data):len(data)]) {
			repeated++
		}
		var fresh session
		if err := s.macros(data); err != nil {
			t.Fatal(err)
		}
		if err := fresh.macros(data); err != nil {
			t.Fatal(err)
		}
		got, want := s.rcpt, fresh.rcpt
		if got.id != want.id || got.mailer != want.mailer || got.host != want.host || string(got.addr) != string(want.addr) {
			t.Fatalf("%q: got %q %q %q %q, want %q %q %q %q", data, got.id, got.mailer, got.host, got.addr, want.id, want.mailer, want.host, want.addr)
		}
	}
	if repeated < 100 {
		t.Errorf("%d frames repeated the one before: the test shows nothing", repeated)
	}
}

// A frame that begins as the last one and has more than one value behind it is read anew.
func TestMacrosBehindARepeatedHead(t *testing.T) {
	var s session
	for _, data := range []string{"Ri\x00Q\x00{rcpt_addr}\x00a@x\x00", "Ri\x00Q\x00{rcpt_addr}\x00b@x\x00{rcpt_host}\x00[h]\x00"} {
		if err := s.macros([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if s.rcpt.host != "[h]" || string(s.rcpt.addr) != "b@x" {
		t.Errorf("host %q, addr %q", s.rcpt.host, s.rcpt.addr)
	}
	if err := s.macros([]byte("Ri\x00Q\x00{rcpt_addr}\x00b@x")); err == nil {
		t.Error("a value without its NUL was taken")
	}
}

// rspamd 1740, 1708, 2005: a macro without a value, or a frame without macros, ended the connection
// or let the mail pass unscanned.
func TestMacrosWithoutNamesOrValues(t *testing.T) {
	for _, data := range []string{"C", "H", "M", "R", "T", "E", "C{client_addr}\x00\x00v\x00\x00", "Mi\x00\x00{auth_authen}\x00\x00", "Ri\x00\x00{rcpt_addr}\x00\x00{rcpt_host}\x00\x00", "Ei\x00\x00"} {
		var s session
		for _, before := range []string{"Mi\x00Q1\x00{auth_authen}\x00bob\x00", "Ri\x00Q1\x00{rcpt_addr}\x00a@x\x00"} {
			if err := s.macros([]byte(before)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.macros([]byte(data)); err != nil {
			t.Errorf("%q: %v", data, err)
		}
		switch data[0] {
		case 'M':
			if s.mailID != "" || s.authUser != "" {
				t.Errorf("%q: of the frame before: %q %q", data, s.mailID, s.authUser)
			}
		case 'R':
			if s.rcpt.id != "" || len(s.rcpt.addr) > 0 {
				t.Errorf("%q: of the frame before: %q %q", data, s.rcpt.id, s.rcpt.addr)
			}
		}
	}
}
