// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"rcptgate"
)

// refusals keeps the last refusals for the status page: a rcptgate.Observer. When
// several refusals come at the same moment it keeps one of them rather than let
// the others wait.
type refusals struct {
	hide    atomic.Bool
	mu      sync.Mutex
	ring    []refusal
	next    int
	minGap  time.Duration
	lastAdd time.Time
}

// refusal is one decision that kept a recipient out, or would have (rehearsal).
type refusal struct {
	At        time.Time
	Client    string
	Sender    string
	Recipient string
	Action    string
	Rehearsed bool
	Code      int
	Enhanced  string
	Reason    string
	Source    string
	Backend   string
	Text      string
}

// refusalsKept is how many refusals the page shows; under a flood one is kept every
// refusalGap, so that the page spans seconds and copying costs nothing.
const (
	refusalsKept = 50
	refusalGap   = 10 * time.Millisecond
	fieldMax     = 200
)

// newRefusals makes an empty list.
func newRefusals() *refusals {
	return &refusals{ring: make([]refusal, 0, refusalsKept), minGap: refusalGap}
}

// hideAddresses leaves the local parts of senders and recipients out of what is
// kept from here on; what was kept before is dropped.
func (r *refusals) hideAddresses(hide bool) {
	if r.hide.Swap(hide) != hide && hide {
		r.mu.Lock()
		r.ring, r.next = r.ring[:0], 0
		r.mu.Unlock()
	}
}

// Observe keeps a refusal.
func (r *refusals) Observe(q *rcptgate.Query, v *rcptgate.Verdict) {
	if q.Inquiry || !v.Action.Refuses() && !v.Would.Refuses() {
		return
	}
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	now := q.Trace.Started.Add(q.Trace.Elapsed)
	if gap := now.Sub(r.lastAdd); gap >= 0 && gap < r.minGap {
		return
	}
	r.lastAdd = now
	one := r.describe(q, v, now)
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, one)
	} else {
		r.ring[r.next] = one
	}
	r.next = (r.next + 1) % cap(r.ring)
}

func (r *refusals) describe(q *rcptgate.Query, v *rcptgate.Verdict, now time.Time) refusal {
	one := refusal{
		At: now, Sender: r.address(q.Sender), Recipient: r.address(q.Recipient.Path), Action: v.Action.String(), Code: v.Code,
		Enhanced: keep(v.Enhanced), Reason: keep(string(v.Reason)), Source: keep(v.Source), Backend: keep(v.Backend),
	}
	if !r.hide.Load() {
		one.Text = keep(v.Text) // backends repeat the address in it
	}
	if v.Would.Refuses() {
		one.Action, one.Rehearsed = v.Would.String(), true
	}
	if q.Client.IsValid() {
		one.Client = q.Client.String()
	}
	if q.Sender == "" {
		one.Sender = "<>"
	}
	return one
}

func (r *refusals) address(s string) string {
	if at := strings.LastIndexByte(s, '@'); r.hide.Load() && at >= 0 {
		return "…" + keep(s[at:])
	} else if r.hide.Load() && s != "" {
		return "…"
	}
	return keep(s)
}

// keep copies at most fieldMax octets of s: the query's memory is not ours.
func keep(s string) string {
	if len(s) <= fieldMax {
		return strings.Clone(s)
	}
	cut := fieldMax
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// list gives the refusals, the last one first.
func (r *refusals) list() []refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]refusal, 0, len(r.ring))
	for i := range len(r.ring) {
		out = append(out, r.ring[(r.next-1-i+2*cap(r.ring))%cap(r.ring)])
	}
	return out
}
