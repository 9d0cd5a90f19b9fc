// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"encoding/binary"

	mdns "github.com/miekg/dns"
)

const (
	headerSize = 12
	maxName    = 255 // octets of a name, RFC 1035 section 2.3.4
	maxLabels  = 127
)

// question is one message, read as far as an answer needs it.
type question struct {
	msg     []byte // the whole of it
	id      uint16
	flags   uint16 // as they came
	name    []byte // the question's name as it stands in msg, with the empty label at its end
	labels  [maxLabels + 1]uint8
	count   int // of labels, without the empty one; labels[i] is where in name label i begins
	qtype   uint16
	class   uint16
	end     int // of the question section in msg
	edns    bool
	badEDNS bool // of another version than 0
}

// The bits of a header's second word (RFC 1035 section 4.1.1, RFC 4035 section 3.2).
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagCD = 1 << 4
)

func (q *question) opcode() int { return int(q.flags >> 11 & 0xf) }

// parse reads a message. The result is the code of the answer: NOERROR if the message is a
// question; -1 if it must not be answered.
func (q *question) parse(msg []byte) (rcode int) {
	*q = question{}
	if len(msg) < headerSize {
		return -1
	}
	word := func(at int) uint16 { return binary.BigEndian.Uint16(msg[at:]) }
	q.msg, q.id, q.flags, q.end = msg, word(0), word(2), headerSize
	if q.flags&flagQR != 0 {
		return -1 // an answer: two servers would go on for ever
	}
	if q.opcode() != mdns.OpcodeQuery {
		return mdns.RcodeNotImplemented
	}
	if word(4) != 1 {
		return mdns.RcodeFormatError
	}
	at := q.readName(msg)
	if at < 0 || at+4 > len(msg) {
		return mdns.RcodeFormatError
	}
	q.qtype, q.class, q.end = word(at), word(at+2), at+4
	if !q.readRest(int(word(6))+int(word(8)), int(word(10))) {
		return mdns.RcodeFormatError
	}
	return mdns.RcodeSuccess
}

// readName reads the question's name and gives where it ends, -1 for one that is not allowed. There
// is nothing before it to which a compressed one could point.
func (q *question) readName(msg []byte) int {
	at := headerSize
	for {
		if at >= len(msg) || at-headerSize >= maxName {
			return -1
		}
		size := int(msg[at])
		if size == 0 {
			q.name = msg[headerSize : at+1]
			return at + 1
		}
		if size > 63 || q.count >= maxLabels {
			return -1
		}
		q.labels[q.count] = uint8(at - headerSize)
		q.count++
		at += 1 + size
	}
}

// readRest looks for EDNS among the records that follow the question; records before the
// additional ones are only skipped. It is false when they are not as they should be.
func (q *question) readRest(before, additional int) bool {
	at := q.end
	for i := range before + additional {
		start := at
		if at = skipName(q.msg, at); at < 0 || at+10 > len(q.msg) {
			return false
		}
		rtype := binary.BigEndian.Uint16(q.msg[at:])
		version := q.msg[at+5]
		at += 10 + int(binary.BigEndian.Uint16(q.msg[at+8:]))
		if at > len(q.msg) {
			return false
		}
		if rtype != mdns.TypeOPT {
			continue
		}
		if i < before || q.edns || q.msg[start] != 0 { // once, additional, and of the root
			return false
		}
		q.edns, q.badEDNS = true, version != 0
	}
	return true
}

// skipName gives where a record's data begin behind its name, -1 if there is none.
func skipName(msg []byte, at int) int {
	for steps := 0; at < len(msg) && steps <= maxLabels; steps++ {
		switch size := int(msg[at]); {
		case size == 0:
			return at + 1
		case size >= 0xc0: // the rest stands elsewhere; what it is does not matter
			return at + 2
		case size > 63:
			return -1
		default:
			at += 1 + size
		}
	}
	return -1
}

// label gives a label as it stands in the name, without its length.
func (q *question) label(i int) []byte {
	at := int(q.labels[i])
	return q.name[at+1 : at+1+int(q.name[at])]
}
