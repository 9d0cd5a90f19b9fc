// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"rcptgate"
	"rcptgate/table/aliases"
)

// Bounds of following one recipient.
const (
	maxDepth = 16   // aliases of aliases; Sendmail allows 10
	maxNames = 256  // different names that stand for others
	maxSteps = 4096 // targets looked at, the repeated ones too
	maxNote  = 240  // octets of a table's value in the trace
	maxAsked = 512  // octets of an address that a server is asked about, as in package backend
)

// walk follows one recipient through the tables. It ends as soon as one target is
// taken without anybody to ask about it.
type walk struct {
	*Check
	ctx   context.Context //nolint:containedctx // the walk is one call
	q     *rcptgate.Query
	names []visited
	steps int

	homes   []rcptgate.Mailbox // mailboxes that exist
	targets []rcptgate.Mailbox // to ask about
	taken   bool               // one target takes mail, or nobody can say that it does not
	refusal rcptgate.Verdict   // of the first target that does not; zero: none
	err     error
}

// visited is a name that was looked up. Open ones are on the way from the recipient
// to the name in hand.
type visited struct {
	key  string
	open bool
}

// enter notes a name. Again says that it was met before, circle that it leads to
// itself.
func (w *walk) enter(key string) (at int, again, circle bool) {
	for i := range w.names {
		if w.names[i].key == key {
			return i, true, w.names[i].open
		}
	}
	w.names = append(w.names, visited{key, true})
	return len(w.names) - 1, false, false
}

func (w *walk) leave(at int) { w.names[at].open = false }

// over reports whether the walk has ended, or ends here because it went too far.
func (w *walk) over(depth int) bool {
	w.steps++
	switch {
	case w.taken || w.err != nil:
		return true
	case w.steps > maxSteps:
		w.take("more than 4096 targets")
	case depth > maxDepth:
		w.take("more than 16 levels of aliases")
	case len(w.names) >= maxNames:
		w.take("more than 256 names")
	case len(w.homes)+len(w.targets) > rcptgate.MaxTargets:
		w.take("more than 16 targets")
	}
	return w.taken
}

func (w *walk) take(why string) {
	w.taken = true
	w.note(why + ": counts as taken")
}

func (w *walk) note(text string) {
	if w.q.Trace.Explain {
		if len(text) > maxNote {
			text = strings.ToValidUTF8(text[:maxNote], "") + "..."
		}
		w.q.Trace.Note(SourceName + ": " + text)
	}
}

func (w *walk) found(h *hit, name string) {
	if w.q.Trace.Explain {
		w.note(fmt.Sprintf("%s is in %s, key %q: %s", name, h.file, h.key, h.value))
	}
}

// lookup follows a mailbox one step if a table holds it, and reports whether one does.
func (w *walk) lookup(m *rcptgate.Mailbox, local bool, depth int) (held bool) {
	if held = w.viaPostfix(m, local, depth); held || w.err != nil {
		return held
	}
	if depth > 0 || !w.rewritten() {
		if held = w.viaSendmail(m, depth); held || w.err != nil {
			return held
		}
	}
	return local && w.viaAlias(m.Local, depth)
}

// rewritten reports whether the MTA has told the address that its virtusertable leaves, and the mailer that takes it.
// The table's entries for this address then are not in force there: Sendmail follows it only in the domains of
// VIRTUSER_DOMAIN and in local ones. Of what it delivers itself it tells a name without its domain.
func (w *walk) rewritten() bool {
	hop := &w.q.NextHop
	return hop.Mailer != "" && hop.Mailer != "local" && hop.Mailer != "error" && strings.Contains(hop.Addr, "@")
}

func (w *walk) viaPostfix(m *rcptgate.Mailbox, local bool, depth int) (held bool) {
	if len(w.virtual) == 0 {
		return false
	}
	h, detail, found, err := w.findPostfix(w.ctx, m, local)
	if w.err = err; err != nil || !found {
		return false
	}
	at, again, circle := w.enter("virtual:" + m.Key(true))
	if circle { // "ann@x: ann@x, bob@y": the MTA stops there and delivers to ann@x
		return !w.itself(at, "virtual:", m)
	}
	if again {
		return true
	}
	defer w.leave(at)
	w.found(&h, m.Path)
	targets, err := postfixTargets(m, h, detail)
	w.list(targets, err, depth)
	return true
}

// itself reports whether the circle that ends at m is m standing for itself; a longer
// one counts as taken.
func (w *walk) itself(at int, kind string, m *rcptgate.Mailbox) bool {
	for i := len(w.names) - 1; i > at; i-- {
		if w.names[i].open && strings.HasPrefix(w.names[i].key, kind) {
			w.take("a circle of aliases that ends at " + m.Path)
			return false
		}
	}
	return true
}

func (w *walk) viaSendmail(m *rcptgate.Mailbox, depth int) (held bool) {
	if len(w.virtusers) == 0 {
		return false
	}
	h, found, err := w.findSendmail(w.ctx, m)
	if w.err = err; err != nil || !found {
		return false
	}
	at, again, circle := w.enter("virtuser:" + m.Key(true))
	if circle {
		return !w.itself(at, "virtuser:", m)
	}
	if again {
		return true
	}
	defer w.leave(at)
	w.found(&h, m.Path)
	if isErrorValue(h.value) {
		w.refuse(readError(h.value))
		return true
	}
	targets, err := aliases.Parse(h.value)
	w.list(targets, err, depth)
	return true
}

func (w *walk) viaAlias(local string, depth int) (held bool) {
	h, found, err := w.findAlias(w.ctx, local)
	if h.unasked != nil && w.q.Trace.Explain {
		w.note(fmt.Sprintf("%s: %v: they are passed over", local, h.unasked))
	}
	if w.err = err; err != nil || !found {
		return false
	}
	at, again, circle := w.enter("alias:" + h.key)
	if circle { // an alias of itself is the mailbox; a longer circle, nobody can say
		if m := bare(local); w.itself(at, "alias:", &m) {
			w.home(&m, "is an alias of itself")
		}
		return true
	}
	if again {
		return true
	}
	defer w.leave(at)
	w.found(&h, local)
	targets, err := aliases.Parse(h.value)
	w.list(targets, err, depth)
	return true
}

// list follows every target of a value.
func (w *walk) list(targets []aliases.Target, err error, depth int) {
	if err != nil {
		if w.q.Trace.Explain {
			w.note("the value cannot be read: " + err.Error())
		}
		w.take("a value that cannot be read")
		return
	}
	for i := range targets {
		if w.over(depth + 1) {
			return
		}
		w.target(&targets[i], depth+1)
	}
}

// target follows one target.
func (w *walk) target(t *aliases.Target, depth int) {
	switch t.Kind {
	case aliases.Address:
		m := mailbox(t.Value)
		w.address(&m, depth)
	case aliases.Local:
		m := bare(t.Value)
		if !w.lookup(&m, true, depth) && w.err == nil && !w.taken {
			w.home(&m, "is a local mailbox")
		}
	case aliases.Include:
		w.include(t.Value, depth)
	case aliases.Escaped:
		m := bare(t.Value)
		w.home(&m, "is a local mailbox")
	case aliases.File, aliases.Program, aliases.Other:
		w.take(t.Kind.String() + " " + t.Value)
	}
}

func (w *walk) include(path string, depth int) {
	if !filepath.IsAbs(path) { // neither MTA reads such
		w.take("include " + path)
		return
	}
	at, again, _ := w.enter("include:" + path)
	if again {
		return
	}
	defer w.leave(at)
	targets, err := w.includes.get(w.ctx, path)
	if err != nil {
		if w.q.Trace.Explain {
			w.note("include " + path + ": " + err.Error())
		}
		w.take("an include that cannot be read")
		return
	}
	if w.q.Trace.Explain {
		w.note(fmt.Sprintf("include %s: %d targets", path, len(targets)))
	}
	w.list(targets, nil, depth)
}

// address follows an address, and where it ends says what becomes of it.
func (w *walk) address(m *rcptgate.Mailbox, depth int) {
	local, err := w.isLocal(w.ctx, m.Domain)
	if w.err = err; err != nil || w.lookup(m, local.any(), depth) || w.err != nil || w.taken {
		return
	}
	listing, err := w.relayed(w.ctx, m)
	if w.err = err; err != nil {
		return
	}
	if listing != relaySilent && (listing != relayUnknown || !never(m.Local)) {
		w.listed(m, listing)
		return
	}
	to := rcptgate.Query{Target: *m}
	if same(m, &w.q.Target) {
		to.NextHop = w.q.NextHop // it belongs to this very address
	}
	rt := w.router.Route(&to)
	switch {
	case rt != nil && rt.Unchecked:
		w.take(m.Path + ": " + rt.Why)
	case rt != nil:
		w.ask(m)
	case local != writtenOut || never(m.Local):
		w.take(m.Path + " is elsewhere")
	case w.reads:
		w.take(m.Path + " may be a name of another gateway")
	case strings.ContainsAny(m.Local, "%!"): // user%elsewhere, elsewhere!user: both MTAs rewrite these by default
		w.take(m.Path + " may be a route to elsewhere")
	default:
		user, err := w.isUser(w.ctx, m.Local)
		if w.err = err; user {
			w.home(m, "is a local user ("+w.users[0].text+")")
		} else if err == nil {
			w.note(m.Path + ": no table holds it")
			w.refuse(unknownUser())
		}
	}
}

// listed says what relay_recipient_maps mean for a target.
func (w *walk) listed(m *rcptgate.Mailbox, listing relayListing) {
	if listing == relayKnown {
		w.home(m, "is in relay_recipient_maps")
		return
	}
	w.note(m.Path + " is not in relay_recipient_maps, and its domain is in relay_domains")
	w.refuse(unknownUser())
}

// home adds a mailbox that exists, once. The walk goes on: a later step may have something against this one.
func (w *walk) home(m *rcptgate.Mailbox, why string) {
	for i := range w.homes {
		if same(&w.homes[i], m) {
			return
		}
	}
	if w.q.Trace.Explain {
		w.note(m.Path + " " + why + ": exists")
	}
	w.homes = append(w.homes, *m)
}

// bare is the mailbox of a name without a domain.
func bare(name string) rcptgate.Mailbox { return rcptgate.Mailbox{Path: name, Local: name} }

// ask adds a target that the following steps are asked about, once.
func (w *walk) ask(m *rcptgate.Mailbox) {
	for i := range w.targets {
		if same(&w.targets[i], m) {
			return
		}
	}
	if !askable(m.Path) { // a mistake in the table: the recipient itself is none
		w.take("target " + strings.ToValidUTF8(m.Path[:min(len(m.Path), maxNote/2)], "?") + " cannot be written into an SMTP command")
		return
	}
	if w.q.Trace.Explain {
		w.note("target " + m.Path + ": asked about in the following steps")
	}
	w.targets = append(w.targets, *m)
}

// askable reports whether a server can be asked about an address of a table.
func askable(path string) bool {
	for i := range len(path) {
		if path[i] < ' ' || path[i] == 0x7f {
			return false
		}
	}
	return len(path) <= maxAsked
}

func same(a, b *rcptgate.Mailbox) bool {
	return a.Domain == b.Domain && strings.EqualFold(a.Local, b.Local)
}

func (w *walk) refuse(v rcptgate.Verdict) {
	if w.refusal.Action == rcptgate.Continue || (w.refusal.Action == rcptgate.Reject && v.Action == rcptgate.Tempfail) {
		w.refusal = v
	}
}
