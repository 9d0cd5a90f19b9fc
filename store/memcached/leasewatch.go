// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"strconv"
	"strings"
	"time"

	"rcptgate/kit/recent"
)

// A lease is one line, "rgl1 TAB TOKEN TAB ENDS": TOKEN is its holder's, ENDS
// (UNIX milliseconds) moves on with each renewal.
const leaseVersion = "rgl1"

const (
	// longestWait bounds the time for which the leases on one key are honoured in a row,
	// whoever holds them: a caller that waits has time left to ask the mail server. It is
	// less than the default deadline of an answer.
	longestWait = 5 * time.Second
	// renewedLate is how much longer than its life a lease may stay as it is.
	renewedLate = time.Second
	// leaseSkew is how far apart the clocks of two gateways may be. A lease that ended
	// longer ago is a copy of an old one.
	leaseSkew = time.Minute
	// notSeen ends a row: no lease was seen on the key for so long.
	notSeen = 2 * time.Second
	// maxWatched bounds the keys that are watched.
	maxWatched = 8192
	// maxLease bounds what is kept of each, in octets.
	maxLease = 128
)

func leaseValue(token string, ends time.Time) []byte {
	return []byte(leaseVersion + "\t" + token + "\t" + strconv.FormatInt(ends.UnixMilli(), 10) + "\n")
}

func parseLease(value []byte) (token string, ends time.Time, ok bool) {
	line, ended := strings.CutSuffix(string(value), "\n")
	fields := strings.Split(line, "\t")
	if !ended || len(fields) != 3 || fields[0] != leaseVersion || fields[1] == "" {
		return "", time.Time{}, false
	}
	ms, err := strconv.ParseInt(fields[2], 10, 64)
	return fields[1], time.UnixMilli(ms), err == nil
}

// leaseWatch decides which leases of other gateways are honoured. memcached ends a lease
// that its holder does not renew, but any client that reaches it can put a lease there that
// does not end: a forged one, or with a key file a copy of an old one. Such a lease must
// not keep a recipient from being asked about.
type leaseWatch struct {
	life    time.Duration // of a lease after its last renewal
	longest time.Duration
	seen    *recent.Map[string, watched]
}

// watched is what was seen of the leases on one key, by the monotonic clock.
type watched struct {
	since   time.Time // a lease has been there at every look since
	last    time.Time
	value   string
	changed time.Time // when value was first seen
}

func newLeaseWatch(life time.Duration) leaseWatch {
	return leaseWatch{life: life, longest: longestWait, seen: recent.New[string, watched](maxWatched)}
}

// honours reports whether the value under key, without its seal, is a lease to wait for.
// Now is the wall clock.
func (w *leaseWatch) honours(key string, value []byte, now time.Time) bool {
	_, ends, ok := parseLease(value)
	if !ok || len(value) > maxLease || ends.Before(now.Add(-leaseSkew)) || ends.After(now.Add(w.life+leaseSkew)) {
		return false
	}
	honoured, at := false, time.Now()
	w.seen.Update(key, func(s watched) watched {
		if at.Sub(s.last) > notSeen {
			s = watched{since: at}
		}
		if s.last = at; s.value != string(value) {
			s.value, s.changed = string(value), at
		}
		honoured = at.Sub(s.since) <= w.longest && at.Sub(s.changed) <= w.life+renewedLate
		return s
	})
	return honoured
}
