// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

// Reason is a stable word for why a verdict is what it is, for logs and metrics.
type Reason string

// The reasons that more than one package speaks of. Reasons says what they mean.
const (
	ReasonValid         Reason = "valid"
	ReasonUnknownUser   Reason = "unknown-user"
	ReasonLocal         Reason = "local"
	ReasonMailboxFull   Reason = "mailbox-full"
	ReasonTooLarge      Reason = "too-large"
	ReasonRefused       Reason = "refused"
	ReasonDeferred      Reason = "deferred"
	ReasonUnreachable   Reason = "unreachable"
	ReasonAcceptAll     Reason = "accept-all"
	ReasonLoop          Reason = "loop"
	ReasonBadAddress    Reason = "bad-address"
	ReasonNotRouted     Reason = "not-routed"
	ReasonUnchecked     Reason = "unchecked"
	ReasonTrusted       Reason = "trusted"
	ReasonAuthenticated Reason = "authenticated"
	ReasonBackendClient Reason = "backend-client"
	ReasonExempt        Reason = "exempt"
	ReasonError         Reason = "error"
)

// ReasonDoc says for people what a reason means.
type ReasonDoc struct {
	Reason Reason
	Doc    string // a phrase without a full stop
}

// Reasons lists the reasons above with their meaning, in the order in which manuals show
// them. Reasons that one unit alone has stand in its description.
func Reasons() []ReasonDoc {
	return []ReasonDoc{
		{ReasonValid, "the server behind accepts this mailbox"},
		{ReasonUnknownUser, "it has no such mailbox, or no table holds the name"},
		{ReasonLocal, "the MTA's own tables accept the name"},
		{ReasonMailboxFull, "the mailbox has no room"},
		{ReasonTooLarge, "the message is larger than the mailbox may ever hold"},
		{ReasonRefused, "refused, but not because the mailbox is missing"},
		{ReasonDeferred, "the server replied 4xx to the recipient"},
		{ReasonUnreachable, "no server could be asked"},
		{ReasonAcceptAll, "the server accepts every name, so its answers prove nothing"},
		{ReasonLoop, "the question came back to this gateway"},
		{ReasonBadAddress, "the address is malformed and cannot be asked about"},
		{ReasonNotRouted, "no server is responsible for the domain"},
		{ReasonUnchecked, "the domain has check = false"},
		{ReasonTrusted, "the client is in a trusted network"},
		{ReasonAuthenticated, "the client has authenticated"},
		{ReasonBackendClient, "the client is the domain's own server"},
		{ReasonExempt, "a name that every domain must have (" + reservedWords + ") is never refused on a guess"},
		{ReasonError, "a check failed"},
	}
}
