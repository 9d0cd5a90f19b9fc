// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/term"
	"rcptgate/table/aliases"
	"rcptgate/table/lists"
)

// lookup follows a mailbox one step if a table holds it, and reports whether one does. Via is
// the table whose target the mailbox is; "" for the recipient itself.
func (w *walk) lookup(m *rcptgate.Mailbox, local bool, via string, depth int) (held bool) {
	if local && via == inAlias && w.onlyPostfix() { // local(8) delivers it, and asks no other table
		return w.viaAlias(m, depth)
	}
	if via != inCanonical && via != inVirtual {
		if held = w.viaCanonical(m, depth); held || w.err != nil {
			return held
		}
	}
	if held = w.viaPostfix(m, depth); held || w.err != nil {
		return held
	}
	if via != "" || !w.rewritten() {
		if held = w.viaSendmail(m, local, via, depth); held || w.err != nil {
			return held
		}
	}
	return local && !(via == "" && w.throughHub()) && w.viaAlias(m, depth)
}

// rewritten reports whether the MTA has named the address that its virtusertable leaves, and the mailer that takes it.
// The table's entries for this address do not count then: Sendmail follows it only in the domains of
// VIRTUSER_DOMAIN and in local ones. Of what it delivers itself it gives a name without its domain.
func (w *walk) rewritten() bool {
	hop := &w.q.NextHop
	return hop.Mailer != "" && hop.Mailer != "local" && hop.Mailer != "error" && strings.Contains(hop.Addr, "@")
}

// throughHub reports whether Sendmail hands the recipient to its MAIL_HUB before it looks at
// aliases (FEATURE stickyhost).
func (w *walk) throughHub() bool { return w.sticky && w.rewritten() }

// viaCanonical maps an address as Postfix's cleanup(8) does before virtual_alias_maps: each
// table again while it gives another address.
func (w *walk) viaCanonical(m *rcptgate.Mailbox, depth int) (held bool) {
	to, changed := *m, false
	for _, maps := range [][]source{w.recipientCanonical, w.canonical} {
		for range maxCanonical {
			if len(maps) == 0 {
				break
			}
			h, detail, found, err := w.findPostfix(w.ctx, maps, &to, "canonical")
			if w.err = err; err != nil {
				return false
			}
			if !found {
				break
			}
			w.found(&h, to.Path)
			targets, err := w.postfixTargets(&to, h, detail)
			if err != nil || len(targets) == 0 {
				w.take("a value that cannot be read")
				return true
			}
			next := w.qualified(mailbox(targets[0].Value))
			if targets[0].Kind != aliases.Address && targets[0].Kind != aliases.Local || address.Same(next, to) {
				break
			}
			to, changed = next, true
		}
	}
	if !changed {
		return false
	}
	w.address(&to, inCanonical, depth)
	return true
}

// maxCanonical is how often Postfix maps one address again (cleanup_map11.c).
const maxCanonical = 10

// qualified gives a bare name Postfix's $myorigin.
func (w *walk) qualified(m rcptgate.Mailbox) rcptgate.Mailbox {
	if m.Domain == "" && w.myOrigin != "" {
		m.Path, m.Domain = m.Path+"@"+w.myOrigin, address.Domain(w.myOrigin)
	}
	return m
}

func (w *walk) viaPostfix(m *rcptgate.Mailbox, depth int) (held bool) {
	if len(w.virtual) == 0 {
		return false
	}
	h, detail, found, err := w.findPostfix(w.ctx, w.virtual, m, "virtual")
	if w.err = err; err != nil || !found {
		return false
	}
	at, again, circle := w.enter(inVirtual + m.Key(true))
	if circle { // "ann@x: ann@x, bob@y": the MTA stops there and delivers to ann@x
		return !w.ownName(at, m)
	}
	if again {
		return true
	}
	defer w.leave(at)
	w.found(&h, m.Path)
	targets, err := w.postfixTargets(m, h, detail)
	w.list(targets, err, inVirtual, depth)
	return true
}

// ownName reports whether the circle that ends at m is m standing for itself; a longer one
// counts as accepted.
func (w *walk) ownName(at int, m *rcptgate.Mailbox) bool {
	if !w.itself(at) {
		w.take("a circle of aliases that ends at " + m.Path)
		return false
	}
	return true
}

// viaSendmail follows an entry of virtusertable. Where it is not known in which domains the table
// applies, a target that it holds may be left as it is: the recipient is accepted if either is.
func (w *walk) viaSendmail(m *rcptgate.Mailbox, local bool, via string, depth int) (held bool) {
	if len(w.virtusers) == 0 || m.Domain == "" {
		return false
	}
	if !local && w.ownOnly {
		in, err := w.virtuserTo.Find(w.ctx, m.Domain)
		if w.err = err; err != nil || !in.Any() {
			return false
		}
	}
	h, found, err := w.findSendmail(w.ctx, m)
	if w.err = err; err != nil || !found {
		return false
	}
	at, again, circle := w.enter(inVirtuser + m.Key(true))
	if circle {
		return !w.ownName(at, m)
	}
	if again {
		return true
	}
	defer w.leave(at)
	w.found(&h, m.Path)
	if via == "" {
		w.virtuserDomain = m.Domain
	}
	if isErrorValue(h.value) {
		w.refuse(readError(h.value))
	} else {
		targets, err := aliases.Parse(h.value)
		w.list(targets, err, inVirtuser, depth)
	}
	if !local && !w.ownOnly && m.Domain != w.virtuserDomain && !w.taken && w.err == nil {
		w.note(m.Path + ": virtuser_domains is not set, so virtusertable may not apply to it")
		w.elsewhere(m, lists.Absent, nil)
	}
	return true
}

func (w *walk) viaAlias(m *rcptgate.Mailbox, depth int) (held bool) {
	h, detail, found, err := w.findAlias(w.ctx, m.Local)
	if h.unasked != nil && w.q.Trace.Explain {
		w.note(fmt.Sprintf("%s: %v: names of other gateways are left out", m.Local, h.unasked))
	}
	if w.err = err; err != nil || !found {
		return false
	}
	at, again, circle := w.enter(inAlias + h.key)
	if circle { // an alias of itself is the mailbox; what becomes of a longer circle cannot be known
		if b := bare(m.Local); w.ownName(at, &b) {
			w.home(&b, "is an alias of itself")
		}
		return true
	}
	if again {
		return true
	}
	defer w.leave(at)
	w.found(&h, m.Local)
	targets, err := aliases.Parse(h.value)
	if err == nil && detail != "" && slices.Contains(w.propagate, "alias") && w.onlyPostfix() {
		extend(targets, detail)
	}
	w.aliases++
	w.list(targets, err, inAlias, depth)
	w.aliases--
	return true
}

// list follows every target of a value.
func (w *walk) list(targets []aliases.Target, err error, via string, depth int) {
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
		if !w.tooDeep() {
			w.target(&targets[i], via, depth+1)
		}
	}
}

// target follows one target.
func (w *walk) target(t *aliases.Target, via string, depth int) {
	switch t.Kind {
	case aliases.Address:
		m := mailbox(t.Value)
		w.address(&m, via, depth)
	case aliases.Local:
		m := bare(t.Value)
		if w.onlyPostfix() && w.myOrigin != "" {
			m = w.qualified(m)
			w.address(&m, via, depth)
		} else if !w.lookup(&m, true, via, depth) && w.err == nil && !w.taken {
			w.user(&m)
		}
	case aliases.Include:
		w.include(t.Value, depth)
	case aliases.Escaped:
		m := bare(t.Value)
		w.user(&m)
	case aliases.File, aliases.Program, aliases.Other:
		w.take(t.Kind.String() + " " + t.Value)
	}
}

// user says what becomes of a local name that no table holds: it is a user of this machine,
// or, where passwd(5) and the tables have all users, unknown.
func (w *walk) user(m *rcptgate.Mailbox) {
	switch isOne, err := w.isUser(w.ctx, m.Local); {
	case isOne:
		w.home(m, "is a local user ("+w.users[0].text+")")
	case !w.knowsUsers() || reserved(m.Local) || err != nil:
		w.home(m, "is a local mailbox")
	case w.discards(m.Local):
		w.take(m.Local + " is thrown away by Postfix")
	case w.routed(m):
		w.home(m, "is a local mailbox of a domain that has a route")
	default:
		w.note(m.Local + ": no table holds it, and it is not a local user")
		w.refuse(unknownUser())
	}
}

// routed reports whether the domain of a local name has a route: some of its users may be
// elsewhere.
func (w *walk) routed(m *rcptgate.Mailbox) bool {
	to := rcptgate.Query{Target: rcptgate.Mailbox{Path: m.Path, Local: m.Local, Domain: m.Domain}}
	if m.Domain == "" {
		to.Target.Domain = w.myOrigin
		if w.myOrigin == "" {
			to.Target.Domain = w.q.Target.Domain
			if local, err := w.isLocal(w.ctx, to.Target.Domain); err != nil || !local.Any() {
				return false
			}
		}
		to.Target.Path = m.Path + "@" + to.Target.Domain
	}
	return w.router.Route(&to) != nil
}

func (w *walk) include(path string, depth int) {
	if !filepath.IsAbs(path) { // neither MTA reads such
		w.take("include " + path)
		return
	}
	at, again, _ := w.enter(inInclude + path)
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
		w.note(fmt.Sprintf("include %s: %s", path, term.Count(len(targets), "target")))
	}
	w.aliases++
	w.list(targets, nil, inAlias, depth)
	w.aliases--
}

// address follows an address, and where it ends says what becomes of it.
func (w *walk) address(m *rcptgate.Mailbox, via string, depth int) {
	local, err := w.isLocal(w.ctx, m.Domain)
	if w.err = err; err != nil || w.lookup(m, local.Any(), via, depth) || w.err != nil || w.taken {
		return
	}
	listing, err := w.relayed(w.ctx, m)
	if w.err = err; err != nil {
		return
	}
	if listing == relayKnown { // that it is not listed says nothing: smtpd(8) asks the list about recipients alone
		w.home(m, "is in relay_recipient_maps")
		return
	}
	var unread error
	if local.Any() { // some users may be here although the domain has a route
		user, err := w.isUser(w.ctx, m.Local)
		if user {
			w.home(m, "is a local user ("+w.users[0].text+")")
			return
		}
		unread = err
	}
	w.elsewhere(m, local, unread)
}

// elsewhere says what becomes of an address that no table holds, and that is not a user of this
// machine. Unread is why passwd(5) could not be asked.
func (w *walk) elsewhere(m *rcptgate.Mailbox, local lists.Standing, unread error) {
	to := rcptgate.Query{Target: *m}
	if address.Same(*m, w.q.Target) {
		to.NextHop = w.q.NextHop // it belongs to this very address
	}
	virtual, err := w.isVirtual(w.ctx, m.Domain, local.Any())
	if w.err = err; err != nil {
		return
	}
	rt := w.router.Route(&to)
	switch {
	case rt != nil && rt.Unchecked:
		w.take(m.Path + ": its domain has check = false")
	case rt != nil:
		w.ask(m)
	case local.Any() && w.discards(m.Local):
		w.take(m.Local + " is thrown away by Postfix")
	case local != lists.WrittenOut && !virtual, reserved(m.Local):
		w.take(m.Path + " is elsewhere")
	case w.partial:
		w.take(m.Path + " may be in a table that is not read here")
	case local.Any() && w.hub:
		w.take(m.Path + " may be a user of the mail hub")
	case strings.ContainsAny(m.Local, "%!"): // user%elsewhere, elsewhere!user: both MTAs rewrite these by default
		w.take(m.Path + " may be a route to elsewhere")
	case unread != nil:
		w.err = unread
	default:
		w.note(m.Path + ": no table holds it")
		w.refuse(unknownUser())
	}
}

// bare is the mailbox of a name without a domain.
func bare(name string) rcptgate.Mailbox { return rcptgate.Mailbox{Path: name, Local: name} }
