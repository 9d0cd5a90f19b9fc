// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/kit/recent"
)

// few is how many messages of a client say nothing about the share of them that is infected.
const few = 10

// traffic counts the messages of clients within a window, in two halves of it: what is
// counted is what came within the last half window at least, the whole one at most.
type traffic struct {
	half   time.Duration
	counts *recent.Map[netip.Addr, tally]
}

// tally is the messages of one client.
type tally struct {
	half     int64 // number of the half window that now is about
	now, old sums
}

type sums struct{ messages, infected uint32 }

func newTraffic(window time.Duration, limit int) *traffic {
	return &traffic{half: max(window/2, time.Millisecond), counts: recent.New[netip.Addr, tally](limit)}
}

// add counts a message and gives what the window has.
func (t *traffic) add(network netip.Addr, infected bool, now time.Time) (sum sums) {
	half := now.UnixNano() / int64(t.half)
	t.counts.Update(network, func(c tally) tally {
		switch {
		case half == c.half+1:
			c.old, c.now = c.now, sums{}
		case half > c.half+1, half < c.half-1: // long ago, or the clock was set back far
			c.old, c.now = sums{}, sums{}
			c.half = half
		}
		c.half = max(c.half, half) // a clock that was set back a little counts on
		c.now.messages++
		if infected {
			c.now.infected++
		}
		sum = sums{c.now.messages + c.old.messages, c.now.infected + c.old.infected}
		return c
	})
	return sum
}

// Observe counts messages at their end, and takes those with a virus as evidence against
// their clients.
func (u *live) Observe(q *rcptgate.Query, _ *rcptgate.Verdict) {
	if q.Inquiry || q.Stage != rcptgate.StageMessage || q.Message == nil || !q.Client.IsValid() || q.AuthUser != "" || q.Session != nil && q.Session.Local {
		return
	}
	for _, l := range u.lists() {
		l.sawMessage(q)
	}
}

// sawMessage counts a message of a client, and accuses the client if there is enough
// against it.
func (l *List) sawMessage(q *rcptgate.Query) {
	network, ok := l.table.Load().network(q.Client)
	if !ok || len(l.cfg.Evidence) == 0 || l.never.has(q.Client) != "" {
		return
	}
	infected := false
	if q.Message.Virus != "" {
		match, err := l.evidence.Name(context.Background(), q.Message.Virus)
		infected = match && err == nil
	}
	sum := l.traffic.Load().add(network.Addr(), infected, l.now())
	switch {
	case !infected || int(sum.infected) < l.cfg.After:
	case sum.messages > few && float64(sum.infected) < float64(l.cfg.Share)*float64(sum.messages):
		l.spared.Add(1)
		l.log.Info("blocklist="+l.name+" client="+plain(network)+" spared: most of its mail is clean",
			"evidence", rcptgate.CleanText(q.Message.Virus), "messages", sum.messages, "infected", sum.infected)
	default:
		l.accuse(accusation{list: l, client: q.Client, name: found(q.ClientName), evidence: q.Message.Virus, queueID: q.QueueID})
	}
}

// found is a client's name as the MTA has it, "" if it did not find one: Postfix then says
// "unknown", Sendmail the address in brackets.
func found(name string) string {
	if name == "unknown" || strings.HasPrefix(name, "[") {
		return ""
	}
	return name
}

// accusation is evidence against a client, of which DNS may still say that it is never
// listed.
type accusation struct {
	list              *List
	client            netip.Addr
	name              string // in DNS, verified by the MTA; "" if it did not say
	evidence, queueID string
	life              time.Duration
}

// clone gives a copy in memory of its own: a query's is used again.
func (a accusation) clone() accusation {
	a.name, a.evidence, a.queueID = strings.Clone(a.name), strings.Clone(a.evidence), strings.Clone(a.queueID)
	return a
}

// accuse lists a client, at once or after DNS was asked.
func (l *List) accuse(a accusation) {
	a = a.clone()
	if l.names.Empty() && len(l.cfg.NeverDNS) == 0 {
		_, _ = l.list(a.client, a.evidence, a.queueID, a.life)
		return
	}
	if e := l.table.Load().get(a.client); e != nil && e.active(l.now()) { // DNS has been asked
		_, _ = l.list(a.client, a.evidence, a.queueID, a.life)
		return
	}
	l.dns.accuse(a)
}
