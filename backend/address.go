// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"rcptgate/address"
)

// Protocol is what is spoken to a backend.
type Protocol uint8

// The protocols; SMTP is the zero value.
const (
	SMTP Protocol = iota
	LMTP
)

// String gives the protocol's word as transport tables have it.
func (p Protocol) String() string {
	if p == LMTP {
		return "lmtp"
	}
	return "smtp"
}

// port is the default port: RFC 5321 section 4.5.4.2, and 24 for LMTP as in Postfix.
func (p Protocol) port() uint16 {
	if p == LMTP {
		return 24
	}
	return 25
}

// Address says where a backend is. It is comparable; equal backends have equal
// addresses. The zero Address names no backend.
type Address struct {
	Protocol Protocol
	// Host is a name in lower case or an IP address without brackets; empty for a
	// unix socket and for the MX of the recipient's own domain.
	Host string
	Port uint16 // 0 for a unix socket
	Path string // of a unix socket
	// IsMX: the servers are those that DNS names for Host (or for the recipient's
	// domain, when Host is empty). Such an address must be resolved before asking.
	IsMX bool
}

// ProtocolOf says how a transport (Postfix) or mailer (Sendmail) talks to its next hop.
// Sites clone transports under names of their own ("smtp-slow", "relay_inside", "esmtps",
// "dovecot-lmtp"), so the word may stand anywhere in the name: "lmtp" means LMTP, "smtp"
// and "relay" mean SMTP. No name is SMTP too: Postfix writes ":[host]" for its default
// transport. Other names ("local", "virtual", "error", "discard", a pipe) are not ok.
func ProtocolOf(mailer string) (p Protocol, ok bool) {
	switch mailer {
	case "", "smtp", "esmtp", "relay": // nearly every recipient passes here
		return SMTP, true
	}
	switch {
	case containsFold(mailer, "lmtp"):
		return LMTP, true
	case containsFold(mailer, "smtp"), containsFold(mailer, "relay"):
		return SMTP, true
	}
	return SMTP, false
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

const addressForms = `"smtp:[10.0.0.5]:25", "smtp:[2001:db8::5]:25", "relay:[mail.example]", "lmtp:[127.0.0.1]:24", "lmtp:unix:/path", "mx" or "smtp:example.com" (its MX)`

// ParseAddress reads a backend as a transport table writes it: transport:nexthop
// (Postfix, transport(5)) or mailer:host (Sendmail, mailertable), with any transport of
// [ProtocolOf]. Brackets mean "no MX look-up"; LMTP never has one and needs no brackets.
// The port may be missing, or be the name of a service.
func ParseAddress(s string) (Address, error) {
	if s == "mx" {
		return Address{Port: SMTP.port(), IsMX: true}, nil
	}
	mailer, rest, ok := strings.Cut(s, ":")
	if !ok {
		return Address{}, badAddress(s, `the transport is missing before a ":"`)
	}
	a := Address{}
	if a.Protocol, ok = ProtocolOf(mailer); !ok {
		return Address{}, badAddress(s, fmt.Sprintf("the transport %q speaks neither SMTP nor LMTP", mailer))
	}
	if path, ok := strings.CutPrefix(rest, "unix:"); ok {
		return parsePath(a, s, path)
	}
	if a.Protocol == LMTP {
		rest = strings.TrimPrefix(rest, "inet:")
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return Address{}, badAddress(s, err.Error())
	}
	if a.Port = a.Protocol.port(); port != "" {
		if a.Port, ok = parsePort(port); !ok {
			return Address{}, badAddress(s, "the port is not a number from 1 to 65535, nor smtp, submission or lmtp")
		}
	}
	return parseHost(a, s, host)
}

// parsePort reads a port's number or one of the service names (/etc/services) that
// transport tables use.
func parsePort(s string) (port uint16, ok bool) {
	switch strings.ToLower(s) {
	case "smtp", "mail":
		return 25, true
	case "lmtp":
		return 24, true
	case "submission":
		return 587, true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}

func badAddress(s, why string) error {
	return fmt.Errorf("%q is not a backend: %s; expected %s", s, why, addressForms)
}

func parsePath(a Address, s, path string) (Address, error) {
	switch {
	case strings.HasPrefix(path, "private/") || strings.HasPrefix(path, "public/"):
		return Address{}, badAddress(s, fmt.Sprintf("the socket's path is relative to Postfix's queue directory; write it in full, for instance \"%s:unix:/var/spool/postfix/%s\"", a.Protocol, path))
	case !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) || len(path) > 107: // sun_path, unix(7)
		return Address{}, badAddress(s, "a unix socket needs an absolute path of at most 107 octets")
	}
	a.Path = path
	return a, nil
}

// splitHostPort keeps the brackets: they decide about MX.
func splitHostPort(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", fmt.Errorf("the closing bracket is missing")
		}
		host, rest := s[:end+1], s[end+1:]
		if rest == "" {
			return host, "", nil
		}
		if !strings.HasPrefix(rest, ":") || rest == ":" {
			return "", "", fmt.Errorf("only :PORT may follow the bracket")
		}
		return host, rest[1:], nil
	}
	if strings.Count(s, ":") > 1 {
		return "", "", fmt.Errorf("an IPv6 address needs brackets")
	}
	host, port, found := strings.Cut(s, ":")
	if found && port == "" {
		return "", "", fmt.Errorf("the port after the colon is missing")
	}
	return host, port, nil
}

func parseHost(a Address, s, host string) (Address, error) {
	bare, bracketed := strings.CutPrefix(host, "[")
	bare = strings.TrimSuffix(bare, "]")
	if tagged, ok := cutPrefixFold(bare, "ipv6:"); ok && bracketed {
		bare = tagged
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		if !bracketed && a.Protocol != LMTP {
			return Address{}, badAddress(s, "an IP address needs brackets")
		}
		a.Host = ip.Unmap().String()
		return a, nil
	}
	a.Host, a.IsMX = address.Domain(bare), !bracketed && a.Protocol != LMTP
	if !isHostName(a.Host) {
		return Address{}, badAddress(s, fmt.Sprintf("%q is not a host name", bare))
	}
	return a, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// IsZero reports whether a is the zero Address, which names no backend.
func (a Address) IsZero() bool { return a == Address{} }

// IP gives the address literal that Host is; ok is false for names and sockets.
func (a Address) IP() (ip netip.Addr, ok bool) {
	ip, err := netip.ParseAddr(a.Host)
	return ip, err == nil
}

// String writes a in its one canonical form, which ParseAddress reads again.
func (a Address) String() string {
	switch {
	case a.Path != "":
		return a.Protocol.String() + ":unix:" + a.Path
	case a.IsMX && a.Host == "":
		return "mx"
	case a.IsMX:
		return a.Protocol.String() + ":" + a.Host + ":" + strconv.Itoa(int(a.Port))
	}
	return a.Protocol.String() + ":[" + a.Host + "]:" + strconv.Itoa(int(a.Port))
}

// dialName is host and port as package net takes them.
func (a Address) dialName(ip netip.Addr) string {
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(a.Port)))
}
