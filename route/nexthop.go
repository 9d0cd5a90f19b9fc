// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"strings"

	"rcptgate"
	"rcptgate/backend"
)

// maxHops bounds the next hops that the MTA lists for one recipient.
const maxHops = 8

// keeps reports whether a transport (Postfix) or mailer (Sendmail) delivers on the MTA's
// own machine or throws away: "local", "virtual", "discard", "prog", a pipe. No server
// behind knows these recipients. "error" and "retry" say nothing of the sort: Postfix
// names "error" for every address in virtual_alias_domains, before it follows the alias.
// No name means that the MTA did not say. A host in brackets or with a port is on the
// network, whatever the transport is called.
func keeps(mailer, host string) bool {
	if _, hop := backend.ProtocolOf(mailer); hop {
		return false
	}
	return !strings.EqualFold(mailer, "error") && !strings.EqualFold(mailer, "retry") && !bracketed(host) && !hasPort(host)
}

// hasPort reports whether a next hop ends in a port's number.
func hasPort(host string) bool {
	port := host[strings.LastIndexByte(host, ':')+1:]
	if port == "" || len(port) == len(host) {
		return false
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	return true
}

// bracketed is the cheap test before anything else is looked at: brackets mean "no
// MX look-up" in both MTAs, and nothing without them is ever followed.
func bracketed(host string) bool { return len(host) > 2 && host[0] == '[' }

// isLiteral reports whether a domain is an address literal, or was meant to be one:
// "[203.0.113.9]", "[IPv6:2001:db8::1]", but "[127.1]" and "[203.0.113.9.]" too, which
// some resolvers take for addresses. A client wrote it, and following it would call
// whoever the client chose.
func isLiteral(domain string) bool { return domain != "" && domain[0] == '[' }

// cutBracket splits "[host]rest".
func cutBracket(s string) (host, rest string, ok bool) {
	if !bracketed(s) {
		return "", s, false
	}
	end := strings.IndexByte(s, ']')
	if end < 2 {
		return "", s, false
	}
	return s[1:end], s[end+1:], true
}

// readNextHop reads the MTA's next hop: one bracketed host with or without a port, or a
// list of them as Postfix ("[a]:25, [b]") and Sendmail ("[a]:[b]") have it. A list with
// one element that is not bracketed would need MX records and is not a route; nor is a port
// that is a service's name we do not know.
func readNextHop(hop rcptgate.NextHop) (list []backend.Address, ok bool) {
	protocol, ok := backend.ProtocolOf(hop.Mailer)
	if !ok {
		return nil, false
	}
	rest := hop.Host
	for rest != "" {
		host, after, ok := cutBracket(rest)
		if !ok || len(list) == maxHops {
			return nil, false
		}
		port, after := cutPort(after)
		addr, err := backend.ParseAddress(protocol.String() + ":[" + host + "]" + port)
		if err != nil || addr.IsMX {
			return nil, false
		}
		list = append(list, addr)
		if rest = strings.TrimLeft(after, ", \t:"); after != "" && (rest == "" || rest == after) {
			return nil, false // a separator without a host, or a host without one
		}
	}
	return list, len(list) > 0
}

// cutPort splits ":25" or ":smtp" off what follows a bracketed host. A ":" before
// another bracket is Sendmail's separator of hosts.
func cutPort(s string) (port, rest string) {
	if len(s) < 2 || s[0] != ':' || s[1] == '[' {
		return "", s
	}
	end := strings.IndexAny(s[1:], ", \t:")
	if end < 0 {
		end = len(s) - 1
	}
	return s[:1+end], s[1+end:]
}
