// SPDX-License-Identifier: BSD-2-Clause

package dns

import (
	"encoding/binary"
	"time"

	mdns "github.com/miekg/dns"

	"rcptgate"
)

const (
	maxUDP  = 512    // octets of an answer in a datagram
	maxTCP  = 65_535 // over TCP; none comes near it
	factor  = 3      // octets of an answer for each of its question, in datagrams
	optSize = 11     // of the record that says that EDNS is understood
	maxText = 120    // octets of a TXT record
)

// kind is how a question was answered.
type kind uint8

const (
	kindListed kind = iota
	kindAbsent
	kindEmpty // the name is there, the type is not; or it is part of the zone itself
	kindRefused
	kindMalformed
	kindDropped
	kindCount
)

// asked is one question and the answer that is being made.
type asked struct {
	*question
	zone *zone
	out  []byte
	most int // octets that the answer may have
}

// respond appends the answer to a message to out, which is empty. Nothing is appended if the
// message must not be answered.
func respond(zones []zone, out, msg []byte, q *question, allowed, datagram bool, now time.Time) ([]byte, kind) {
	rcode := q.parse(msg)
	if rcode < 0 {
		return out, kindDropped
	}
	a := asked{question: q, out: out, most: maxTCP}
	if datagram {
		a.most = min(maxUDP, factor*len(msg))
	}
	a.begin()
	if rcode != mdns.RcodeSuccess {
		return a.finish(rcode), kindMalformed
	}
	if q.badEDNS {
		return a.finish(mdns.RcodeBadVers), kindMalformed
	}
	a.zone = findZone(zones, q)
	if !allowed || a.zone == nil || q.class != mdns.ClassINET || q.qtype == mdns.TypeAXFR || q.qtype == mdns.TypeIXFR {
		return a.finish(mdns.RcodeRefused), kindRefused
	}
	rcode, k := a.answer(now)
	if len(a.out) > a.most-a.optSize() { // asked again over TCP
		a.out = a.out[:q.end]
		clear(a.out[6:headerSize])
		a.setFlag(flagTC)
	}
	return a.finish(rcode), k
}

// begin copies header and question, if there is one that was understood.
func (a *asked) begin() {
	a.out = append(a.out, a.msg[:a.end]...)
	clear(a.out[4:headerSize])
	if a.end > headerSize {
		a.out[5] = 1
	}
	binary.BigEndian.PutUint16(a.out[2:], flagQR|a.flags&(0xf<<11|flagRD|flagCD))
}

func (a *asked) setFlag(flag uint16) {
	binary.BigEndian.PutUint16(a.out[2:], binary.BigEndian.Uint16(a.out[2:])|flag)
}

func (a *asked) optSize() int {
	if a.edns {
		return optSize
	}
	return 0
}

// finish sets the code, and says that EDNS is understood to those who use it.
func (a *asked) finish(rcode int) []byte {
	a.out[3] |= byte(rcode & 0xf)
	if a.edns {
		a.out[11]++
		a.out = append(a.out, 0, 0, byte(mdns.TypeOPT), maxUDP>>8, maxUDP&0xff, byte(rcode>>4), 0, 0, 0, 0, 0)
	}
	return a.out
}

// answer fills in what the zone has to say.
func (a *asked) answer(now time.Time) (rcode int, k kind) {
	a.setFlag(flagAA)
	first := a.count - a.zone.labels
	if first == 0 {
		return a.apex()
	}
	addr, what, both := a.clientOf(first)
	switch what {
	case noName:
		return a.absent(mdns.RcodeNameError), kindAbsent
	case inner:
		return a.absent(mdns.RcodeSuccess), kindEmpty
	}
	l, left, listed := a.zone.find(addr, now)
	switch {
	case !listed && both: // there may be clients below it
		return a.absent(mdns.RcodeSuccess), kindAbsent
	case !listed:
		return a.absent(mdns.RcodeNameError), kindAbsent
	}
	ttl := uint32(min(max(left/time.Second, 0), maxTTL))
	switch a.qtype {
	case mdns.TypeA:
		a.record(mdns.TypeA, ttl)
		a.out = append(a.out, a.zone.value[:]...)
		a.recordEnds(4)
	case mdns.TypeTXT:
		a.text(&l, ttl)
	case mdns.TypeANY:
		a.hinfo()
	default:
		return a.absent(mdns.RcodeSuccess), kindEmpty
	}
	return mdns.RcodeSuccess, kindListed
}

// apex answers about the zone itself.
func (a *asked) apex() (rcode int, k kind) {
	switch a.qtype {
	case mdns.TypeSOA:
		a.record(mdns.TypeSOA, absentTTL)
		a.data(&a.zone.soa)
	case mdns.TypeNS:
		for i := range a.zone.ns {
			a.record(mdns.TypeNS, zoneTTL)
			a.data(&a.zone.ns[i])
		}
	case mdns.TypeANY:
		a.hinfo()
	default:
		return a.absent(mdns.RcodeSuccess), kindEmpty
	}
	return mdns.RcodeSuccess, kindEmpty
}

// pointer is what a compressed name says of where it is (RFC 1035 section 4.1.4).
const pointer = 0xc0 << 8

// zoneAt is where the zone's name stands in the question.
func (a *asked) zoneAt() int { return headerSize + len(a.name) - len(a.zone.name) }

// record begins an answer about the question's name. Its data follow.
func (a *asked) record(rtype uint16, ttl uint32) {
	a.out[7]++
	a.head(headerSize, rtype, ttl)
}

func (a *asked) head(name int, rtype uint16, ttl uint32) {
	a.out = binary.BigEndian.AppendUint16(a.out, pointer|uint16(name))
	a.out = binary.BigEndian.AppendUint16(a.out, rtype)
	a.out = binary.BigEndian.AppendUint16(a.out, mdns.ClassINET)
	a.out = binary.BigEndian.AppendUint32(a.out, ttl)
	a.out = append(a.out, 0, 0)
}

// recordEnds writes the length of a record's data, which are the last octets.
func (a *asked) recordEnds(size int) {
	binary.BigEndian.PutUint16(a.out[len(a.out)-size-2:], uint16(size))
}

// data appends a record's data.
func (a *asked) data(r *record) {
	start := len(a.out)
	for _, p := range r.parts {
		a.out = append(a.out, p.octets...)
		if p.zone {
			a.out = binary.BigEndian.AppendUint16(a.out, pointer|uint16(a.zoneAt()))
		}
	}
	a.recordEnds(len(a.out) - start)
}

// absent says that there is nothing, and how long that may be believed (RFC 2308).
func (a *asked) absent(rcode int) int {
	a.out[9]++
	a.head(a.zoneAt(), mdns.TypeSOA, absentTTL)
	a.data(&a.zone.soa)
	return rcode
}

// text says why a client is listed and until when, in as many octets as there is room for.
func (a *asked) text(l *rcptgate.Listing, ttl uint32) {
	a.record(mdns.TypeTXT, ttl)
	start := len(a.out)
	a.out = append(a.out, 0)
	a.out = append(a.out, a.zone.list.Name()...)
	if l.Evidence != "" {
		a.out = append(append(a.out, ": "...), l.Evidence...)
	}
	if room := max(min(maxText, a.most-a.optSize()-start-1), 0); len(a.out)-start-1 > room-len(untilForm) {
		a.out = a.out[:start+1+max(room-len(untilForm), 0)] // evidence is the longer part
	}
	if !l.Until.IsZero() {
		a.out = l.Until.UTC().AppendFormat(a.out, untilForm)
	}
	for i := start + 1; i < len(a.out); i++ {
		if c := a.out[i]; c < ' ' || c >= 0x7f { // cut within a letter, or not of ASCII
			a.out[i] = '?'
		}
	}
	a.out[start] = byte(len(a.out) - start - 1)
	a.recordEnds(len(a.out) - start)
}

// untilForm is when a listing ends, for caches keep it: "for 41 minutes" would not do.
const untilForm = ", until 2006-01-02 15:04 UTC"

// hinfo is the answer to ANY (RFC 8482).
func (a *asked) hinfo() {
	a.record(mdns.TypeHINFO, zoneTTL)
	a.out = append(a.out, "\x07RFC8482\x00"...)
	a.recordEnds(9)
}
