// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"rcptgate/kit/term"
)

// CutString takes the first string, without its NUL, off data. ok is false when
// there is no NUL.
func CutString(data []byte) (s, rest []byte, ok bool) {
	end := bytes.IndexByte(data, 0)
	if end < 0 {
		return nil, nil, false
	}
	return data[:end], data[end+1:], true
}

// Strings checks the data of CmdMail, CmdRcpt or CmdHelo, one or more strings each
// with its NUL, and gives the first apart from the others.
func Strings(cmd byte, data []byte) (first, rest []byte, err error) {
	if len(data) == 0 || data[len(data)-1] != 0 {
		return nil, nil, fmt.Errorf("%w: command %q without a final NUL", ErrFrame, cmd)
	}
	first, rest, _ = CutString(data)
	return first, rest, nil
}

// Connect is the data of CmdConnect. Its slices are parts of the frame.
type Connect struct {
	Name    []byte // the client's host name as the MTA has it
	Family  byte
	Port    uint16
	Address []byte // in text; empty for FamilyUnknown
}

// ParseConnect reads the data of CmdConnect.
func ParseConnect(data []byte) (Connect, error) {
	name, rest, ok := CutString(data)
	if !ok || len(rest) == 0 {
		return Connect{}, fmt.Errorf("%w: connect without a host name and an address family", ErrFrame)
	}
	c := Connect{Name: name, Family: rest[0]}
	if rest = rest[1:]; c.Family == FamilyUnknown {
		return c, nil
	}
	if c.Family != FamilyUnix && c.Family != FamilyIPv4 && c.Family != FamilyIPv6 {
		return Connect{}, fmt.Errorf("%w: connect with address family %q", ErrFrame, c.Family)
	}
	if len(rest) < 2 {
		return Connect{}, fmt.Errorf("%w: connect without a port", ErrFrame)
	}
	c.Port = binary.BigEndian.Uint16(rest)
	if c.Address, _, ok = CutString(rest[2:]); !ok {
		return Connect{}, fmt.Errorf("%w: connect with an address that has no final NUL", ErrFrame)
	}
	return c, nil
}

// Addr gives the client's address, zero when it has none or it cannot be read. An
// IPv4-mapped IPv6 address is the IPv4 address, and a zone is left out.
func (c Connect) Addr() netip.Addr {
	if c.Family != FamilyIPv4 && c.Family != FamilyIPv6 {
		return netip.Addr{}
	}
	return ParseAddr(string(c.Address))
}

// ParseAddr reads a client address as MTAs write it: with or without brackets and
// "IPv6:". The zero Addr stands for everything else.
func ParseAddr(s string) netip.Addr {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		s = s[5:]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// MacrosMax is the number of macros that one frame may hold. Sendmail sends at most
// 50 (MAXFILTERMACROS).
const MacrosMax = 256

// Macros is what is left to read of a frame CmdMacro.
type Macros struct {
	rest  []byte
	count int
}

// ParseMacros reads the data of CmdMacro: the command that the macros belong to,
// then names and values.
func ParseMacros(data []byte) (cmd byte, m Macros, err error) {
	if len(data) == 0 {
		return 0, Macros{}, fmt.Errorf("%w: macros without a command", ErrFrame)
	}
	return data[0], Macros{rest: data[1:]}, nil
}

// Empty reports whether Next has given everything.
func (m *Macros) Empty() bool { return len(m.rest) == 0 }

// Next gives the next macro, its name without braces; ok is false at the end.
func (m *Macros) Next() (name, value []byte, ok bool, err error) {
	if len(m.rest) == 0 {
		return nil, nil, false, nil
	}
	if m.count++; m.count > MacrosMax {
		return nil, nil, false, fmt.Errorf("%w: more than %d macros", ErrFrame, MacrosMax)
	}
	name, rest, okName := CutString(m.rest)
	value, rest, okValue := CutString(rest)
	if !okName || !okValue {
		return nil, nil, false, fmt.Errorf("%w: macro without a final NUL", ErrFrame)
	}
	m.rest = rest
	if n := len(name); n > 2 && name[0] == '{' && name[n-1] == '}' {
		name = name[1 : n-1]
	}
	return name, value, true, nil
}

// MacroList names the macros that a filter wants at one stage (Macros*), separated
// by spaces.
type MacroList struct {
	Stage uint32
	Names string
}

// Options is the option negotiation (CmdOptions): what the MTA offers, and what the
// filter takes of it.
type Options struct {
	Version  uint32
	Actions  uint32
	Protocol uint32
	Macros   []MacroList // in the filter's answer, with ActSetMacroList
}

// ParseOptions reads the data of CmdOptions, from either side.
func ParseOptions(data []byte) (Options, error) {
	if len(data) < 12 {
		return Options{}, fmt.Errorf("%w: option negotiation with %s, 12 are needed", ErrFrame, term.Count(len(data), "octet"))
	}
	o := Options{
		Version:  binary.BigEndian.Uint32(data),
		Actions:  binary.BigEndian.Uint32(data[4:]),
		Protocol: binary.BigEndian.Uint32(data[8:]),
	}
	for rest := data[12:]; len(rest) > 4 && len(o.Macros) < 16; {
		names, after, ok := CutString(rest[4:])
		if !ok {
			return Options{}, fmt.Errorf("%w: macro list without a final NUL", ErrFrame)
		}
		o.Macros = append(o.Macros, MacroList{Stage: binary.BigEndian.Uint32(rest), Names: string(names)})
		rest = after
	}
	return o, nil
}
