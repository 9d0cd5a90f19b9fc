// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"testing"

	"rcptgate/front/milter/wire"
)

// TestProgramsHaveNoAddress: a client on a unix socket or of "sendmail -bs" is this machine's own, and
// one that the MTA knows nothing of may be anybody.
func TestProgramsHaveNoAddress(t *testing.T) {
	for _, tt := range []struct {
		name    string
		family  byte
		address string
		macro   string // {client_addr}
		own     bool
	}{
		{"localhost", wire.FamilyUnknown, "", "", true},
		{"localhost", wire.FamilyUnix, "/run/x", "", true},
		{"unknown", wire.FamilyUnknown, "", "", false},
		{"mx.example.net", wire.FamilyUnknown, "", "192.0.2.1", false},
		{"mx.example.net", wire.FamilyIPv4, "192.0.2.1", "", false},
		{"mx.example.net", wire.FamilyIPv4, "unreadable", "", false},
	} {
		var s session
		if tt.macro != "" {
			if err := s.macros(wire.AppendMacros(nil, wire.CmdConnect, []wire.Macro{{Name: "client_addr", Value: tt.macro}})[5:]); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.connect(wire.AppendConnect(nil, tt.name, tt.family, 25, tt.address)[5:]); err != nil {
			t.Fatal(err)
		}
		if s.state.NoAddress != tt.own {
			t.Errorf("%+v: %v", tt, s.state.NoAddress)
		}
	}
}
