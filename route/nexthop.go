// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"net/netip"
	"strconv"
	"strings"

	"rcptgate"
	"rcptgate/backend"
)

// maxHops bounds the next hops that the MTA lists for one recipient.
const maxHops = 8

// protocolOf says how a transport (Postfix) or mailer (Sendmail) talks to its next
// hop. Only those that are known to speak SMTP or LMTP over a network are followed:
// "local", "virtual", "error", "discard", "pipe", "prog" and the like never are,
// whatever their host looks like. Sites clone transports under names of their own
// ("smtp-slow", "relay_inside", "esmtps", "dovecot-lmtp"), so the word may stand
// anywhere in the name. An MTA that did not send the macro is taken to mean SMTP,
// since a next hop in brackets is written for nothing else.
func protocolOf(mailer string) (p backend.Protocol, ok bool) {
	switch {
	case mailer == "":
		return backend.SMTP, true
	case containsFold(mailer, "lmtp"):
		return backend.LMTP, true
	case containsFold(mailer, "smtp"), containsFold(mailer, "relay"):
		return backend.SMTP, true
	}
	return backend.SMTP, false
}

// containsFold reports whether s contains word, a lower-case ASCII word, without
// allocating.
func containsFold(s, word string) bool {
	for i := 0; i+len(word) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// bracketed is the cheap test before anything else is looked at: brackets mean "no
// MX look-up" in both MTAs, and nothing without them is ever followed.
func bracketed(host string) bool { return len(host) > 2 && host[0] == '[' }

// repeatsLiteral reports whether the next hop merely repeats the recipient's
// address literal: a client wrote u@[203.0.113.9], and following it would call
// whoever the client chose.
func repeatsLiteral(domain, host string) bool {
	if domain == "" || domain[0] != '[' {
		return false
	}
	hop, _, ok := cutBracket(host)
	if !ok {
		return true
	}
	literal := strings.TrimSuffix(domain[1:], "]")
	if strings.EqualFold(hop, literal) {
		return true
	}
	a, errA := parseLiteral(hop)
	b, errB := parseLiteral(literal)
	return errA == nil && errB == nil && a == b
}

// parseLiteral reads what stands between an address literal's brackets (RFC 5321
// section 4.1.3).
func parseLiteral(s string) (netip.Addr, error) {
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		s = s[5:]
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), err
}

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

// readNextHop reads the MTA's next hop: one bracketed host with or without a port,
// or a list of them as Postfix ("[a]:25, [b]") and Sendmail ("[a]:[b]") have it. A
// list with one element that is not bracketed would need MX records and is no
// route; nor is a port that is a service's name we do not know.
func readNextHop(hop rcptgate.NextHop) (list []backend.Address, ok bool) {
	protocol, ok := protocolOf(hop.Mailer)
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
		scheme := "smtp:["
		if protocol == backend.LMTP {
			scheme = "lmtp:["
		}
		if len(host) > 5 && strings.EqualFold(host[:5], "IPv6:") {
			host = host[5:]
		}
		text := scheme + host + "]"
		if port != "" {
			text += ":" + port
		}
		addr, err := backend.ParseAddress(text)
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

// services are the port names that transport tables use.
var services = map[string]string{"smtp": "25", "mail": "25", "lmtp": "24", "submission": "587"}

// cutPort reads ":25" or ":smtp" after a bracketed host. A ":" before another
// bracket is Sendmail's separator of hosts.
func cutPort(s string) (port, rest string) {
	if len(s) < 2 || s[0] != ':' || s[1] == '[' {
		return "", s
	}
	end := strings.IndexAny(s[1:], ", \t:")
	if end < 0 {
		end = len(s) - 1
	}
	port, rest = s[1:1+end], s[1+end:]
	if number, known := services[strings.ToLower(port)]; known {
		port = number
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", s // left over: no route
	}
	return port, rest
}
