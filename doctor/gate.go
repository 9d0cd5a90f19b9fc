// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/pelletier/go-toml/v2"

	"rcptgate/backend"
	"rcptgate/route"
	"rcptgate/unit"
)

// Gate is what the gate's configuration says.
type Gate struct {
	File     string
	Deadline time.Duration
	Enforce  bool
	Domains  []route.DomainConfig
	Sockets  []string // of the milter
	Warnings []string // what "config check" warns of
	Fallback string   // sender where the null sender is refused; "" is postmaster at hostname
	// FollowMTA has the gate ask the MTA's bracketed next hop for domains without a section.
	FollowMTA bool
}

// gateOf reads a configuration.
func gateOf(c *unit.Config, warnings []string) (*Gate, error) {
	g := &Gate{File: c.Source(), Deadline: c.Core().Deadline.Std(), Enforce: c.Core().Enforce, Domains: unit.Domains[route.DomainConfig](c), Warnings: warnings}
	var shown struct {
		Listen struct {
			Milter []string `toml:"milter"`
		} `toml:"listen"`
		Callahead struct {
			Fallback string `toml:"fallback_sender"`
		} `toml:"callahead"`
		FollowMTA bool `toml:"follow_mta"`
	}
	err := toml.Unmarshal([]byte(c.Show()), &shown) // a front's settings are its own: they are read as people see them
	g.Sockets, g.Fallback, g.FollowMTA = shown.Listen.Milter, strings.Trim(shown.Callahead.Fallback, "<>"), shown.FollowMTA
	return g, err
}

// hasSection reports whether the gate has a section with servers for a domain.
func (d *Doctor) hasSection(domain string) bool {
	return d.sectionOf(domain) != nil
}

func (d *Doctor) sectionOf(domain string) *route.DomainConfig {
	if d.Gate == nil {
		return nil
	}
	for i := range d.Gate.Domains {
		s := &d.Gate.Domains[i]
		if len(s.Backend) > 0 && (s.Name == domain || strings.HasPrefix(s.Name, ".") && strings.HasSuffix(domain, s.Name)) {
			return s
		}
	}
	return nil
}

// gate looks at the gate's configuration beside the MTA's.
func (d *Doctor) gate(context.Context) {
	if d.Gate == nil {
		return
	}
	for _, w := range d.Gate.Warnings {
		d.add(Finding{ID: "gate-config", Level: Warn, What: w, Seen: []string{d.Gate.File}})
	}
	if len(d.Gate.Warnings) == 0 {
		d.ok("gate-config", "", d.Gate.File+" is in order")
	}
	if !d.Gate.Enforce {
		d.add(Finding{ID: "gate-rehearses", Level: Note, What: "the gate rehearses: it refuses nobody", Seen: []string{d.Gate.File}, Do: []string{"enforce = true"}})
	}
	for _, m := range d.MTAs {
		if m.Name != "Exim" { // which has no milters
			d.gateDeadline(m)
			d.gateMilter(m)
		}
	}
}

// gateDeadline compares how long the gate takes at most with how long the MTA waits.
func (d *Doctor) gateDeadline(m *MTA) {
	wait := time.Duration(m.Timeout) * time.Second
	if f, _ := d.asks(m); f != nil {
		wait = time.Duration(f.wait) * time.Second
	}
	if d.Gate.Deadline < wait {
		d.ok("gate-deadline", "", fmt.Sprintf("the gate answers within %s, %s waits %s", d.Gate.Deadline, m.Name, wait))
		return
	}
	d.add(Finding{ID: "gate-deadline", Level: Fail, What: fmt.Sprintf("the gate may take %s for an answer, but %s waits %s only", d.Gate.Deadline, m.Name, wait), Seen: []string{d.Gate.File, m.File},
		Matters: "the MTA gives the gate up, and does without it or defers everything", Do: []string{fmt.Sprintf("deadline = %q in %s", (wait * 4 / 5).String(), filepath.Base(d.Gate.File))}})
}

// postfixQueue is Postfix's usual queue_directory: its smtpd looks for relative paths there, and
// for all paths when it runs in a chroot.
const postfixQueue = "/var/spool/postfix/"

// socket is a milter socket as the gate, Postfix (inet:HOST:PORT) or Sendmail (inet:PORT@HOST)
// write it.
type socket struct {
	path, host, port string
}

// parseSocket reads a socket; without a type it is a path, as in Sendmail.
func parseSocket(text string) (s socket) {
	kind, rest, ok := strings.Cut(text, ":")
	if !ok || strings.HasPrefix(text, "/") {
		return socket{path: text}
	}
	if kind != "inet" && kind != "inet6" {
		return socket{path: rest}
	}
	if port, host, at := strings.Cut(rest, "@"); at {
		s.port, s.host = port, host
	} else if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		s.host, s.port = rest[:i], rest[i+1:]
	} else {
		s.port = rest
	}
	s.host = strings.Trim(s.host, "[]")
	return s
}

// isAskedAt reports whether an MTA that asks at other asks at s.
func (s socket) isAskedAt(other socket) bool {
	if s.path != "" {
		return other.path == s.path || other.path != "" && postfixQueue+strings.TrimPrefix(other.path, "/") == s.path
	}
	return s.port == other.port && other.path == "" && (isEverywhere(s.host) || strings.EqualFold(s.host, other.host) || isLoopback(s.host) && isLoopback(other.host))
}

// isEverywhere reports whether a host stands for all addresses of this machine.
func isEverywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || host == "*" || err == nil && ip.IsUnspecified()
}

// isLoopback reports whether a host is this machine for itself. Another name may be, too.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err != nil || ip.IsLoopback()
}

// postfixSocket writes a socket as Postfix has it.
func postfixSocket(socket string) string {
	kind, rest, _ := strings.Cut(socket, ":")
	if port, host, ok := strings.Cut(rest, "@"); ok {
		return kind + ":" + host + ":" + port
	}
	return socket
}

// sendmailSocket writes a socket as Sendmail has it.
func sendmailSocket(socket string) string {
	kind, rest, _ := strings.Cut(socket, ":")
	if host, port, err := net.SplitHostPort(rest); err == nil {
		return kind + ":" + port + "@" + host
	}
	return socket
}

// route says which servers the gate asks about a domain, and why those.
func (d *Doctor) route(domain string) {
	section := d.sectionOf(domain)
	switch {
	case d.Gate == nil:
	case section != nil:
		d.ok("gate-route", domain, fmt.Sprintf("the gate asks %s: [[domain]] %q in %s", strings.Join(section.Backend, ", "), section.Name, d.Gate.File))
	case d.Gate.FollowMTA:
		d.ok("gate-route", domain, "no [[domain]] section has servers for the domain: the gate asks where the MTA's own next hop is in brackets, and nowhere else")
	default:
		d.ok("gate-route", domain, "no [[domain]] section has servers for the domain: the gate does not ask about it")
	}
}

// mxLoop looks whether backend = ["mx"] leaves a server: this machine and every MX that is not
// preferred to it are left out (RFC 5321 section 5.1).
func (d *Doctor) mxLoop(domain string, list []*dns.MX, targets []target) {
	section := d.sectionOf(domain)
	if section == nil || !slices.ContainsFunc(section.Backend, func(text string) bool { a, err := backend.ParseAddress(text); return err == nil && a.IsMX }) {
		return
	}
	for i, t := range targets {
		if t.host != d.Hostname && !slices.ContainsFunc(t.ips, d.isSelf) {
			continue
		}
		if list[i].Preference > list[0].Preference {
			return
		}
		d.add(Finding{ID: "mx-loop", Level: Fail, Domain: domain, What: fmt.Sprintf("backend = [\"mx\"] leaves no server: no MX is preferred to this machine (%s)", t.host), Seen: []string{d.Gate.File, fmt.Sprintf("%s. MX %d %s.", domain, list[i].Preference, t.host)},
			Matters: "no recipient can be asked about; those that are not remembered are deferred", Do: []string{fmt.Sprintf("backend = [\"smtp:[ADDRESS]:25\"] in the [[domain]] section %q, with the address of the server behind", section.Name)}})
		return
	}
}

// backends has a dialogue with each server of a domain's section.
func (d *Doctor) backends(ctx context.Context, domain string) {
	section := d.sectionOf(domain)
	if section == nil {
		return
	}
	for _, text := range section.Backend {
		a, err := backend.ParseAddress(text)
		if err != nil {
			continue // config check says it
		}
		d.backend(ctx, domain, a)
	}
}
