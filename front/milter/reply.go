// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"strings"

	"rcptgate"
	"rcptgate/front/milter/wire"
)

// continueFrame is the reply to nearly everything.
var continueFrame = []byte{0, 0, 0, 1, wire.ReplyContinue}

// skipFrame asks for no more of the body.
var skipFrame = []byte{0, 0, 0, 1, wire.ReplySkip}

var discardFrame = []byte{0, 0, 0, 1, wire.ReplyDiscard}

// passes reports whether the MTA hears "continue". That goes for Accept too: as a reply it
// would hide the following recipients. A message is held at its end.
func passes(v *rcptgate.Verdict) bool {
	return v.Action == rcptgate.Continue || v.Action == rcptgate.Accept || v.Action == rcptgate.Hold
}

// quarantineReason is a reason for both MTAs: Sendmail writes it into a line of its queue
// file.
func quarantineReason(s string) string {
	s = strings.ReplaceAll(rcptgate.CleanText(s), "\n", " ")
	return strings.ToValidUTF8(s[:min(len(s), 200)], "")
}

// appendRefusal forms the reply for a verdict that refuses. What a check gave that does
// not fit together would make the MTA take the filter for broken.
func appendRefusal(dst []byte, v *rcptgate.Verdict, utf8ok bool) []byte {
	fitted := *v
	fitted.Fit(0, "", "")
	return wire.AppendReply(dst, fitted.Code, fitted.Enhanced, fitted.Text, utf8ok)
}
