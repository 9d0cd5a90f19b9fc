// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/kit/term"
)

// An entry is written as one line of fields separated by TAB, on disk and in memcached:
//
//	rgl1  network  first  last  until  life  count  removed  evidence  queue-id
//
// Times are UNIX milliseconds, life is in milliseconds, removed is 0 unless a person has
// ended the listing. Control characters in the last two are spaces.
const (
	entryVersion = "rgl1"
	entryFields  = 10

	evidenceMax = 200 // octets
	queueIDMax  = 64
	lineMax     = 1024
)

// ahead is how far the clock of another gateway may be ahead of ours.
const ahead = 5 * time.Minute

var errEntry = errors.New("not an entry of a blocklist")

// appendEntry writes an entry as a line.
func appendEntry(b []byte, e *entry) []byte {
	b = append(b, entryVersion+"\t"...)
	b = e.Network.AppendTo(b)
	for _, n := range []int64{millis(e.First), millis(e.Last), millis(e.Until), e.life.Milliseconds(), int64(e.Count), millis(e.removed)} {
		b = strconv.AppendInt(append(b, '\t'), n, 10)
	}
	b = append(append(b, '\t'), word(e.Evidence, evidenceMax)...)
	b = append(append(b, '\t'), word(e.QueueID, queueIDMax)...)
	return append(b, '\n')
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// word makes a text one line without TAB, of at most limit octets.
func word(s string, limit int) string {
	s = rcptgate.CleanText(strings.NewReplacer("\n", " ", "\t", " ").Replace(s[:min(len(s), 4*limit)]))
	return strings.ToValidUTF8(s[:min(len(s), limit)], "")
}

// parseEntry reads a line without its LF, and judges whether it can be true at now for a list
// whose entries live for longest: other gateways, older configurations and whoever can write
// to the place have a say in it.
func parseEntry(line string, now time.Time, longest time.Duration) (*entry, error) {
	if len(line) > lineMax {
		return nil, fmt.Errorf("%w: %s", errEntry, term.Count(len(line), "octet"))
	}
	f := strings.Split(line, "\t")
	if len(f) < entryFields || f[0] != entryVersion {
		return nil, errEntry
	}
	network, err := netip.ParsePrefix(f[1])
	if err != nil || network != network.Masked() || network.Addr().Is4In6() {
		return nil, fmt.Errorf("%w: network %q", errEntry, f[1])
	}
	var n [6]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(f[2+i], 10, 64); err != nil || n[i] < 0 || n[i] > maxMillis {
			return nil, fmt.Errorf("%w: number %q", errEntry, f[2+i])
		}
	}
	e := &entry{
		Listing: rcptgate.Listing{
			Network: network, First: fromMillis(n[0]), Last: fromMillis(n[1]), Until: fromMillis(n[2]), Count: int(n[4]),
			Evidence: word(f[8], evidenceMax), QueueID: word(f[9], queueIDMax),
		},
		life: time.Duration(min(n[3], longest.Milliseconds())) * time.Millisecond, removed: fromMillis(n[5]),
	}
	switch latest := now.Add(ahead); {
	case e.Last.After(latest), e.removed.After(latest), e.First.After(e.Last):
		return nil, fmt.Errorf("%w: its times cannot be", errEntry)
	}
	if most := e.Last.Add(longest); e.Until.After(most) {
		e.Until = most
	}
	return e, nil
}

// maxMillis is the last millisecond of the year 9999.
const maxMillis = 253402300799999

// word is when the last thing was said of the entry: evidence, or that it is removed.
func (e *entry) word() time.Time {
	if e.removed.After(e.Last) {
		return e.removed
	}
	return e.Last
}

// merge joins what two places know of one network; either may be nil. Evidence counts for
// both, a removal ends what was known before it.
func merge(a, b *entry) *entry {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	newer, older := a, b
	if b.word().After(a.word()) || b.word().Equal(a.word()) && a.removed.IsZero() && !b.removed.IsZero() {
		newer, older = b, a
	}
	if !newer.removed.IsZero() || !older.removed.IsZero() || older.Until.Before(newer.First) {
		return newer
	}
	both := *newer
	if older.First.Before(both.First) {
		both.First = older.First
	}
	if older.Until.After(both.Until) {
		both.Until = older.Until
	}
	both.Count, both.life = max(a.Count, b.Count), max(a.life, b.life)
	if both == *a {
		return a
	}
	return &both
}
