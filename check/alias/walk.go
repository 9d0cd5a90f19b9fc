// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"fmt"
	"strings"

	"rcptgate"
	"rcptgate/address"
)

// Bounds of following one recipient.
const (
	maxDepth = 16   // aliases of aliases, where Sendmail's own limit is not known
	maxNames = 256  // different names that stand for others
	maxSteps = 4096 // targets looked at, the repeated ones too
	maxNote  = 240  // octets of a table's value in the trace
	maxAsked = 512  // octets of an address that a server is asked about, as in package backend
)

// walk follows one recipient through the tables. It ends as soon as one target counts as
// accepted without a server to ask about it.
type walk struct {
	*Check
	ctx   context.Context //nolint:containedctx // the walk is one call
	q     *rcptgate.Query
	names []visited
	steps int
	// virtuserDomain is the domain of the recipient, if virtusertable applies to it.
	virtuserDomain string
	aliases        int // aliases and lists that are open, as MaxAliasRecursion counts them

	homes   []rcptgate.Mailbox // mailboxes that exist
	targets []rcptgate.Mailbox // to ask about
	taken   bool               // one target accepts mail, or it cannot be known that it does not
	refusal rcptgate.Verdict   // of the first target that does not; zero: none
	err     error
}

// visited is a name that was looked up. Open ones are on the way from the recipient
// to the current name.
type visited struct {
	key  string
	open bool
}

// The tables, as they begin the keys of visited names.
const (
	inCanonical = "canonical:"
	inVirtual   = "virtual:"
	inVirtuser  = "virtuser:"
	inAlias     = "alias:"
	inInclude   = "include:"
)

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

// itself reports whether the circle that ends at the name at is that name standing for itself.
// Names of virtusertable do not count between aliases: to Sendmail an address and the local
// user whom that table makes of it are one.
func (w *walk) itself(at int) bool {
	isAlias := strings.HasPrefix(w.names[at].key, inAlias)
	for i := len(w.names) - 1; i > at; i-- {
		if w.names[i].open && !(isAlias && strings.HasPrefix(w.names[i].key, inVirtuser)) {
			return false
		}
	}
	return true
}

// over reports whether the walk has ended, or ends here because it went too far.
func (w *walk) over(depth int) bool {
	w.steps++
	switch {
	case w.taken || w.err != nil:
		return true
	case w.steps > maxSteps:
		w.take("more than 4096 targets")
	case w.maxAliases == 0 && depth > maxDepth, depth > maxDepth+w.maxAliases:
		w.take("more than 16 levels of aliases")
	case len(w.names) >= maxNames:
		w.take("more than 256 names")
	case len(w.homes)+len(w.targets) > rcptgate.MaxTargets:
		w.take("more than 16 targets")
	}
	return w.taken
}

// tooDeep refuses a target that Sendmail refuses for its depth.
func (w *walk) tooDeep() bool {
	if w.maxAliases == 0 || w.aliases <= w.maxAliases {
		return false
	}
	w.note(fmt.Sprintf("aliases of aliases are more than %d deep: Sendmail refuses this target", w.maxAliases))
	w.refuse(rcptgate.Verdict{
		Action: rcptgate.Reject, Code: 554, Enhanced: "5.4.6", Text: rcptgate.TextRefused,
		Reason: rcptgate.ReasonRefused, Source: rcptgate.SourceAlias,
	})
	return true
}

func (w *walk) take(why string) {
	w.taken = true
	w.note(why + ": counts as accepted")
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

// home adds a mailbox that exists, once. The walk goes on: a later step may have something against this one.
func (w *walk) home(m *rcptgate.Mailbox, why string) {
	for i := range w.homes {
		if address.Same(w.homes[i], *m) {
			return
		}
	}
	if w.q.Trace.Explain {
		w.note(m.Path + " " + why + ": exists")
	}
	w.homes = append(w.homes, *m)
}

// ask adds a target that the following steps are asked about, once.
func (w *walk) ask(m *rcptgate.Mailbox) {
	for i := range w.targets {
		if address.Same(w.targets[i], *m) {
			return
		}
	}
	if !askable(m.Path) { // a mistake in the table: the recipient itself is well formed
		w.take("target " + strings.ToValidUTF8(m.Path[:min(len(m.Path), maxNote/2)], "?") + " cannot be written into an SMTP command")
		return
	}
	if w.q.Trace.Explain {
		w.note("target " + m.Path + ": the following steps decide")
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

func (w *walk) refuse(v rcptgate.Verdict) {
	if w.refusal.Action == rcptgate.Continue || (w.refusal.Action == rcptgate.Reject && v.Action == rcptgate.Tempfail) {
		w.refusal = v
	}
}
