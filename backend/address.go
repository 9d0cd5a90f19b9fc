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
// addresses. The zero Address is no backend.
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

const addressForms = `"smtp:[10.0.0.5]:25", "smtp:[2001:db8::5]:25", "smtp:[mail.example]:25", "lmtp:[127.0.0.1]:24", "lmtp:unix:/path", "mx" or "smtp:example.com" (its MX)`

// ParseAddress reads a backend as a transport table writes it (transport(5),
// mailertable): brackets mean "no MX look-up", the port may be missing.
func ParseAddress(s string) (Address, error) {
	if s == "mx" {
		return Address{Port: SMTP.port(), IsMX: true}, nil
	}
	kind, rest, ok := strings.Cut(s, ":")
	a := Address{}
	switch {
	case ok && kind == "smtp":
	case ok && kind == "lmtp":
		a.Protocol = LMTP
	default:
		return Address{}, badAddress(s, "no protocol smtp or lmtp")
	}
	if path, ok := strings.CutPrefix(rest, "unix:"); ok {
		return parsePath(a, s, path)
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return Address{}, badAddress(s, err.Error())
	}
	if a.Port = a.Protocol.port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Address{}, badAddress(s, "port is no number from 1 to 65535")
		}
		a.Port = uint16(n)
	}
	return parseHost(a, s, host)
}

func badAddress(s, why string) error {
	return fmt.Errorf("%q is no backend (%s): %s is allowed", s, why, addressForms)
}

func parsePath(a Address, s, path string) (Address, error) {
	if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) || len(path) > 107 { // sun_path, unix(7)
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
			return "", "", fmt.Errorf("no closing bracket")
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
		return "", "", fmt.Errorf("no port after the colon")
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
		if !bracketed {
			return Address{}, badAddress(s, "an IP address needs brackets")
		}
		a.Host = ip.Unmap().String()
		return a, nil
	}
	a.Host, a.IsMX = address.Domain(bare), !bracketed
	if !isHostName(a.Host) {
		return Address{}, badAddress(s, "not a host name")
	}
	if a.IsMX && a.Protocol == LMTP {
		return Address{}, badAddress(s, "LMTP has no MX; put brackets around the host")
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

// IsZero reports whether a is no backend at all.
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
