// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

// Guard decides what a client may learn about which mailboxes exist. A step puts it into a
// query; see [Query.Guard]. It is safe for concurrent use.
type Guard interface {
	// Unknown is called when the client would hear that a mailbox does not exist. It gives
	// what the client hears instead; instead is false if it may hear that.
	Unknown(q *Query) (v Verdict, instead bool)
}

// guard puts what a guard says in the place of a refusal that tells the client that a mailbox
// does not exist.
func (q *Query) guard(v *Verdict) {
	if q.Guard == nil || v.Reason != ReasonUnknownUser || !v.Action.Refuses() {
		return
	}
	if instead, ok := q.Guard.Unknown(q); ok {
		*v = instead
		q.Trace.addNote("the client does not hear that this mailbox does not exist")
	}
}
