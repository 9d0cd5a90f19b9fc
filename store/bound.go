// SPDX-License-Identifier: BSD-2-Clause

package store

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// What is kept of one record, in octets. Everything after RCPT TO: is an
// attacker's and everything in a reply is a stranger's: without these bounds a
// bound in entries would bound nothing.
const (
	// MaxKey is the longest key that is kept. A path over 512 octets is refused
	// before anybody is asked; a finding's key adds a backend's name.
	MaxKey = 1024
	// MaxText is the longest text kept of a reply that keeps mail out: the sender
	// is shown it.
	MaxText = 512
	// MaxAcceptText is the longest text kept of any other reply. Only people who
	// look into the cache see it.
	MaxAcceptText = 128
	// MaxEnhanced is the longest enhanced status code: "5.999.999" and some air.
	MaxEnhanced = 16
	// MaxBackend is the longest name of a backend.
	MaxBackend = 320
)

// Bound gives what a store keeps of rec: texts cut at their bounds and made valid
// UTF-8, times cut to the second.
func Bound(rec Record) Record {
	rec.Standing = boundAnswer(rec.Standing)
	rec.Transient = boundAnswer(rec.Transient)
	rec.Doubt.Count = min(max(rec.Doubt.Count, 0), math.MaxInt32)
	rec.Doubt.First = boundTime(rec.Doubt.First)
	rec.Doubt.Last = boundTime(rec.Doubt.Last)
	rec.Tried = boundTime(rec.Tried)
	return rec
}

func boundAnswer(a Answer) Answer {
	if a.Class == None {
		return Answer{}
	}
	limit := MaxAcceptText
	if a.Class.Refuses() {
		limit = MaxText
	}
	a.Text = cut(a.Text, limit)
	a.Enhanced = cut(a.Enhanced, MaxEnhanced)
	a.Backend = cut(a.Backend, MaxBackend)
	a.Code = min(max(a.Code, 0), math.MaxUint16)
	a.Learnt = boundTime(a.Learnt)
	a.Refresh = boundTime(a.Refresh)
	a.Expire = boundTime(a.Expire)
	return a
}

// cut shortens s to at most limit octets without leaving half a character.
func cut(s string, limit int) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "?") // so that stores may use NUL themselves
	}
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

func boundTime(t time.Time) time.Time { return FromSeconds(Seconds(t)) }

// Seconds gives t as whole seconds since 1970, as all stores write it: 0 for the
// zero time, and the nearest that 32 bits hold (until 2106) for what is outside.
func Seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(min(max(t.Unix(), 1), math.MaxUint32)) //nolint:gosec // held by the bounds
}

// FromSeconds is the reverse of Seconds.
func FromSeconds(s uint32) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0)
}

// Learnt is when the newer of the record's answers was learnt.
func (r *Record) Learnt() time.Time {
	if r.Transient.Class != None && r.Transient.Learnt.After(r.Standing.Learnt) {
		return r.Transient.Learnt
	}
	return r.Standing.Learnt
}
