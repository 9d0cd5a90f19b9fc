// SPDX-License-Identifier: BSD-2-Clause

package setting

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Socket is an address to listen on or to connect to, as package net takes it.
// The zero Socket is "off".
type Socket struct {
	Network string // "unix", "tcp"
	Address string // path, or host:port
}

const socketForms = `"unix:/path", "inet:PORT@HOST", "inet6:PORT@HOST", "inet:HOST:PORT" or "HOST:PORT"`

// ParseSocket reads Sendmail's spelling (inet:8890@127.0.0.1, local:/path,
// unix:/path; sendmail's Operations Guide, section 5.11), Postfix's
// (inet:127.0.0.1:8890, unix:/path; postconf(5) smtpd_milters) and a bare
// HOST:PORT. "" is the zero Socket. An address names its host, since nothing
// listens on every network unless told to: "0.0.0.0" and "[::]" must be written out.
func ParseSocket(s string) (Socket, error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch {
	case s == "":
		return Socket{}, nil
	case ok && (kind == "unix" || kind == "local"):
		return parseUnix(s, rest)
	case strings.HasPrefix(s, "/"):
		return parseUnix(s, s)
	case ok && (kind == "inet" || kind == "inet6"):
		if port, host, at := strings.Cut(rest, "@"); at {
			return parseInet(s, strings.Trim(host, "[]"), port)
		}
	default:
		rest = s
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return Socket{}, fmt.Errorf("%q is not a socket address; expected %s", s, socketForms)
	}
	return parseInet(s, host, port)
}

func parseUnix(s, path string) (Socket, error) {
	if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
		return Socket{}, fmt.Errorf("%q: a unix socket needs an absolute path", s)
	}
	if len(path) > 107 { // sun_path, unix(7)
		return Socket{}, fmt.Errorf("%q: the path of a unix socket is at most 107 octets long", s)
	}
	return Socket{Network: "unix", Address: path}, nil
}

func parseInet(s, host, port string) (Socket, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Socket{}, fmt.Errorf("%q: port %q is not a number from 0 to 65535", s, port)
	}
	if host == "" {
		return Socket{}, fmt.Errorf("%q: no host; name the address to use, as in \"inet:%d@127.0.0.1\"", s, n)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	} else if strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return Socket{}, fmt.Errorf("%q: %q is not a host name or address", s, host)
	}
	return Socket{Network: "tcp", Address: net.JoinHostPort(host, strconv.FormatUint(n, 10))}, nil
}

// IsZero reports whether the socket is off.
func (s Socket) IsZero() bool { return s == Socket{} }

// String writes the socket so that ParseSocket reads it again.
func (s Socket) String() string {
	switch s.Network {
	case "":
		return ""
	case "unix":
		return "unix:" + s.Address
	}
	return "inet:" + s.Address
}

// MarshalText writes s as String does.
func (s Socket) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a socket address.
func (s *Socket) UnmarshalText(text []byte) error {
	parsed, err := ParseSocket(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
