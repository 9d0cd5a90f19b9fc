// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"strings"

	"rcptgate/check/quota/wire"
)

// mailbox is what was asked about, in the spelling of one store.
type mailbox struct {
	user   string // "ann" or "ann@example.org"
	local  string
	domain string // "" for a bare user
}

// newMailbox takes a name apart at the last "@". Names that have no mailbox anywhere are
// refused here: what follows may put the rest into lines and arguments.
func newMailbox(user string, fold bool) (mailbox, bool) {
	if wire.CheckUser(user) != nil {
		return mailbox{}, false
	}
	if fold {
		user = strings.ToLower(user)
	}
	m := mailbox{user: user, local: user}
	if i := strings.LastIndexByte(user, '@'); i >= 0 {
		m.local, m.domain = user[:i], user[i+1:]
		if m.local == "" || m.domain == "" {
			return mailbox{}, false
		}
	}
	return m, true
}

// expand replaces the words in braces.
func (m *mailbox) expand(s string) string {
	if strings.IndexByte(s, '{') < 0 {
		return s
	}
	return strings.NewReplacer("{user}", m.user, "{local}", m.local, "{domain}", m.domain).Replace(s)
}

// maxElement is the longest name that a file system has, in octets.
const maxElement = 255

// isElement reports whether a part of a name may be an element of a path or an argument: it
// cannot leave its folder, be a hidden file, or be taken for an option.
func isElement(s string) bool {
	return s != "" && len(s) <= maxElement && s[0] != '.' && s[0] != '-' && !strings.ContainsAny(s, "/\x00")
}

// path expands a path below root; false means that there cannot be such a mailbox.
func (m *mailbox) path(pattern string) (string, bool) {
	for _, part := range []struct{ word, value string }{{"{user}", m.user}, {"{local}", m.local}, {"{domain}", m.domain}} {
		if strings.Contains(pattern, part.word) && !isElement(part.value) {
			return "", false
		}
	}
	full := m.expand(pattern)
	for element := range strings.SplitSeq(full, "/") {
		if len(element) > maxElement {
			return "", false
		}
	}
	return full, true
}
