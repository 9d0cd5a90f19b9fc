// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"strconv"
	"time"
)

// form is how lines are written: what the target and the settings ask for.
type form struct {
	json bool
	// stamped lines begin with time and level: standard error adds neither.
	stamped bool
	// prefixed lines begin with "<6>", their priority: standard error is the journal's,
	// which reads it (sd-daemon(3)) and has the time already.
	prefixed bool
	// fielded lines are journald datagrams.
	fielded bool
}

// begin starts a line: what every line has. For a fielded one, the fields that go before
// MESSAGE have been written.
func (f *form) begin(b []byte, st *stamp, at time.Time, priority byte, msg string) []byte {
	switch {
	case f.fielded:
		b = append(b, "MESSAGE="...)
	case f.prefixed:
		b = append(b, '<', '0'+priority, '>')
	}
	if f.json {
		b = append(b, '{')
		if f.stamped {
			b = append(st.append(append(b, `"time":"`...), at), `",`...)
		}
		b = append(append(append(b, `"level":"`...), priorityWords[priority]...), `","msg":`...)
		return appendJSON(b, msg, textMax)
	}
	if f.stamped {
		b = append(st.append(append(b, "time="...), at), " level="...)
		b = append(append(b, priorityWords[priority]...), ' ')
	}
	return appendValue(append(b, "msg="...), msg, textMax)
}

// pair adds a key of ours, which needs no quoting, and a value from anywhere.
func (f *form) pair(b []byte, key, value string, limit int) []byte {
	if f.json {
		b = append(append(append(b, `,"`...), key...), `":`...)
		return appendJSON(b, value, limit)
	}
	b = append(append(append(b, ' '), key...), '=')
	return appendValue(b, value, limit)
}

// some is pair for a value that is left out when it is empty.
func (f *form) some(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return f.pair(b, key, value, valueMax)
}

// attr is pair for a key from anywhere.
func (f *form) attr(b []byte, key, value string, limit int) []byte {
	if f.json {
		b = appendJSON(append(b, ','), key, valueMax)
		return appendJSON(append(b, ':'), value, limit)
	}
	b = appendValue(append(b, ' '), key, valueMax)
	return appendValue(append(b, '='), value, limit)
}

func (f *form) number(b []byte, key string, n int) []byte {
	if f.json {
		b = append(append(append(b, `,"`...), key...), `":`...)
	} else {
		b = append(append(append(b, ' '), key...), '=')
	}
	return strconv.AppendInt(b, int64(n), 10)
}

func (f *form) end(b []byte) []byte {
	if f.json {
		b = append(b, '}')
	}
	return append(b, '\n')
}

// appendFieldHead writes the fields that every journald datagram has.
func appendFieldHead(b []byte, priority byte) []byte {
	b = append(b, "SYSLOG_IDENTIFIER=rcptgate\nSYSLOG_FACILITY=2\nPRIORITY="...)
	return append(b, '0'+priority, '\n')
}
