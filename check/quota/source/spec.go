// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// Spec is a source as it is configured: "udp:10.0.0.5:8049". Its host may be "{backend}" or
// "{mailhost}", which differ from mailbox to mailbox.
type Spec struct {
	text   string
	scheme string
}

// Placeholders in a source.
const (
	backendHost = "{backend}"
	mailHost    = "{mailhost}"
	userName    = "{user}"
)

// forms are the spellings of sources, by scheme.
var forms = []struct{ scheme, form string }{
	{"udp", "udp:HOST:PORT"}, {"tcp", "tcp:HOST:PORT"},
	{"http", "http://HOST/path?u={user}"}, {"https", "https://HOST/v1/quota"},
	{"policy", "policy:HOST:PORT"}, {"socketmap", "socketmap:HOST:PORT:MAP"},
	{"doveadm", "doveadm:https://HOST:PORT"}, {"file", "file:/path"},
}

// ParseSpec reads a source. The error names what is allowed.
func ParseSpec(text string) (Spec, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	s := Spec{text: text, scheme: scheme}
	plain := strings.NewReplacer(backendHost, "host.invalid", mailHost, "host.invalid", userName, "user").Replace(text)
	_, rest, _ = strings.Cut(plain, ":")
	var err error
	switch scheme {
	case "udp", "tcp":
		err = checkHostPort(rest)
	case "policy":
		err = checkSocket(rest)
	case "socketmap":
		at := strings.LastIndexByte(rest, ':')
		if at < 0 || at == len(rest)-1 {
			err = fmt.Errorf("the name of the map is missing")
		} else {
			err = checkSocket(rest[:at])
		}
	case "http", "https":
		err = checkURL(plain)
	case "doveadm":
		err = checkURL(rest)
	case "file":
		if !filepath.IsAbs(rest) {
			err = fmt.Errorf("%q is not an absolute path", rest)
		}
	default:
		var known []string
		for _, f := range forms {
			known = append(known, fmt.Sprintf("%q", f.form))
		}
		return Spec{}, fmt.Errorf("source %q: no such kind of source; there are %s", text, strings.Join(known, ", "))
	}
	if err != nil {
		return Spec{}, fmt.Errorf("source %q: %w; expected something like %q", text, err, s.form())
	}
	return s, nil
}

func (s Spec) form() string {
	for _, f := range forms {
		if f.scheme == s.scheme {
			return f.form
		}
	}
	return ""
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if host == "" || strings.ContainsAny(host, " /@{}") {
		return fmt.Errorf("%q is not a host", host)
	}
	return nil
}

func checkSocket(s string) error {
	if path, unix := strings.CutPrefix(s, "unix:"); unix {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%q is not an absolute path", path)
		}
		return nil
	}
	return checkHostPort(s)
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%q is not a URL of http or https", s)
	}
	return nil
}

// String is the source as it is written.
func (s Spec) String() string { return s.text }

// Form says what a value looks like, for the configuration's reference.
func (Spec) Form() string {
	return `a source such as "udp:HOST:PORT", "tcp:HOST:PORT", "http://HOST/path?u={user}", "policy:HOST:PORT", "socketmap:HOST:PORT:MAP", "doveadm:https://HOST:PORT" or "file:/path"`
}

// UnmarshalText reads a source.
func (s *Spec) UnmarshalText(text []byte) error {
	parsed, err := ParseSpec(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// MarshalText writes the source as it was read.
func (s Spec) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// NeedsDirectory reports whether the source's host is what a directory finds.
func (s Spec) NeedsDirectory() bool { return strings.Contains(s.text, mailHost) }

// Nominal reports whether the source shows the limit without the grace that the store gives
// to the last message.
func (s Spec) Nominal() bool { return s.scheme == "doveadm" }

// At gives the source for a mailbox, its placeholders of hosts filled in. It is "" when the
// host is not known. It allocates nothing for a source without placeholders.
func (s Spec) At(m *Mailbox) string {
	text := s.text
	for _, p := range [2][2]string{{backendHost, m.Backend}, {mailHost, m.Host}} {
		if !strings.Contains(text, p[0]) {
			continue
		}
		host := p[1]
		if host == "" {
			return ""
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		text = strings.ReplaceAll(text, p[0], host)
	}
	return text
}
