// SPDX-License-Identifier: BSD-2-Clause

package wire

import "encoding/binary"

// Begin appends the head of a frame to dst; the caller appends the data and calls
// End with the length that dst had before.
func Begin(dst []byte, cmd byte) []byte { return append(dst, 0, 0, 0, 0, cmd) }

// End writes the length of the frame that begins at start, and gives dst back.
func End(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// AppendFrame appends a whole frame.
func AppendFrame(dst []byte, cmd byte, data ...byte) []byte {
	start := len(dst)
	return End(append(Begin(dst, cmd), data...), start)
}

// AppendString appends s and its NUL. A NUL inside s would end it there.
func AppendString(dst []byte, s string) []byte { return append(append(dst, s...), 0) }

// AppendStrings appends a frame of strings (CmdMail, CmdRcpt, CmdHelo, ...).
func AppendStrings(dst []byte, cmd byte, first string, more ...string) []byte {
	start := len(dst)
	dst = AppendString(Begin(dst, cmd), first)
	for _, s := range more {
		dst = AppendString(dst, s)
	}
	return End(dst, start)
}

// Macro is one macro and its value. Names of more than one letter are in braces, as
// in "{rcpt_addr}".
type Macro struct{ Name, Value string }

// AppendMacros appends the macros for the command that follows.
func AppendMacros(dst []byte, cmd byte, macros []Macro) []byte {
	start := len(dst)
	dst = append(Begin(dst, CmdMacro), cmd)
	for _, m := range macros {
		dst = AppendString(AppendString(dst, m.Name), m.Value)
	}
	return End(dst, start)
}

// AppendConnect appends CmdConnect.
func AppendConnect(dst []byte, name string, family byte, port uint16, address string) []byte {
	start := len(dst)
	dst = append(AppendString(Begin(dst, CmdConnect), name), family)
	if family != FamilyUnknown {
		dst = AppendString(binary.BigEndian.AppendUint16(dst, port), address)
	}
	return End(dst, start)
}

// AppendOptions appends CmdOptions.
func AppendOptions(dst []byte, o Options) []byte {
	start := len(dst)
	dst = Begin(dst, CmdOptions)
	dst = binary.BigEndian.AppendUint32(dst, o.Version)
	dst = binary.BigEndian.AppendUint32(dst, o.Actions)
	dst = binary.BigEndian.AppendUint32(dst, o.Protocol)
	for _, list := range o.Macros {
		dst = AppendString(binary.BigEndian.AppendUint32(dst, list.Stage), list.Names)
	}
	return End(dst, start)
}
