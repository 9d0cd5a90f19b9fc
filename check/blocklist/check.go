// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"fmt"
	"sync"

	"rcptgate"
	"rcptgate/pattern"
	"rcptgate/view"
)

// stepName is the step's name in traces.
const stepName = "blocklist"

// check asks the lists of one stage. It is safe for concurrent use.
type check struct {
	lists     []*List
	all       *[]*List  // those of the other stages as well: the exchange asks about all at once
	exchange  *exchange // nil: nothing is shared
	delimiter string
	pool      sync.Pool // of *pattern.Address
}

// Check refuses a client that is listed. The error is always nil. A client that is not
// listed costs one look into each list, and no allocation.
func (c *check) Check(ctx context.Context, q *rcptgate.Query) (v rcptgate.Verdict, err error) {
	if !q.Client.IsValid() || q.AuthUser != "" || q.Session != nil && q.Session.Local {
		return v, nil
	}
	now := q.Now()
	c.exchange.look(ctx, *c.all, q.Client, now)
	for _, l := range c.lists {
		e := l.find(q.Client, now)
		if e == nil {
			continue
		}
		if q.Trace.Explain {
			q.Trace.Note(fmt.Sprintf("%s is on blocklist %q for another %s: %s", plain(e.Network), l.name, view.Left(now, e.Until), e.Evidence))
		}
		if q.Stage == rcptgate.StageRcpt && c.exempts(ctx, l, &q.Recipient) {
			q.Trace.Note("listed clients can still write to this recipient")
			continue
		}
		if !q.Inquiry {
			l.refused.Add(1)
		}
		if l.verdict.Action.Refuses() {
			return l.verdict, nil
		}
		if v.Reason == "" { // rehearsed: the first is logged, unless another one refuses
			v = l.verdict
		}
	}
	return v, nil
}

// exempts reports whether a recipient is one that listed clients can write to. Patterns that
// cannot be asked keep nobody out.
func (c *check) exempts(ctx context.Context, l *List, m *rcptgate.Mailbox) bool {
	if l.exempt.Empty() {
		return false
	}
	a, _ := c.pool.Get().(*pattern.Address)
	if a == nil {
		a = new(pattern.Address)
	}
	defer c.pool.Put(a)
	a.Set(m, c.delimiter)
	ok, err := l.exempt.Address(ctx, a)
	return ok || err != nil
}
