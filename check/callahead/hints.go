// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"fmt"
	"runtime/debug"
)

// hintHeld reports that known recipients are kept although the backend calls them unknown.
func (c *Check) hintHeld(qn *question) {
	c.state.board.Error("held "+qn.mailbox.Domain,
		"known recipients are kept although the backend calls them unknown: there are too many in this domain at once. Is its directory complete?",
		"domain", qn.mailbox.Domain, "route", qn.rt.String())
}

// hintCautious reports that a refusal was passed over, and what to write to have it
// count or not be asked.
func (a *asking) hintCautious(at string) {
	if a.q.Inquiry {
		return // no mail was let through
	}
	a.check.state.count.cautious.Add(1)
	a.check.state.board.Warn("cautious "+a.q.Target.Domain,
		"the next hop refused the probe, and the mail was accepted anyway: give the domain a [[domain]] section or, if this is outgoing mail, add the client's network to trusted",
		"domain", a.q.Target.Domain, "network", network(a), "backend", at)
}

// network is the client's, as trusted would name it.
func network(a *asking) string {
	client := a.q.Client.Unmap()
	bits := 24
	if client.Is6() {
		bits = 64
	}
	p, err := client.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// hintUnproven reports that a backend refuses us, certainly or probably.
func (a *asking) hintUnproven(out *outcome) {
	state, answer := a.check.state, &out.answer
	text := "the backend refuses a recipient for a reason that may be about this gateway, and nothing proves otherwise; mail is deferred"
	if out.refusesUs {
		state.count.refusesUs.Add(1)
		text = "the backend refuses recipients that are known to be good: this is about the gateway. Mail to recipients that are not remembered is deferred"
	}
	state.count.unproven.Add(1)
	state.board.Error(fmt.Sprintf("unproven %s %s %d %s", answer.Backend, a.q.Target.Domain, answer.Code, answer.Enhanced), text,
		"domain", a.q.Target.Domain, "backend", answer.Backend, "code", answer.Code, "enhanced", answer.Enhanced, "text", answer.Text)
}

// sawLoop reports that a question came back to us.
func (c *Check) sawLoop(at, domain string) {
	c.state.count.loops.Add(1)
	c.state.board.Error("loop "+at+" "+domain, "call-ahead loop: the backend is this gateway itself, or calls it back", "peer", at, "domain", domain)
}

// panicked reports a fault of the program that was caught.
func (c *Check) panicked(what, domain string, v any) {
	c.state.board.Error("panic "+what, "internal error: "+what+" panicked; please report this", "domain", domain, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}
