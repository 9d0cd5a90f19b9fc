// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"rcptgate/kit/term"
)

// isSelf reports whether an address is this machine's.
func (d *Doctor) isSelf(ip netip.Addr) bool {
	return ip.IsLoopback() || ip == d.FromIP || slices.Contains(d.Self, ip)
}

// interfaceAddresses are the addresses of this machine.
func interfaceAddresses() (out []netip.Addr) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// outgoing finds the address that this machine sends from: the kernel's choice, without a
// packet (connect(2) on a datagram socket).
func outgoing() netip.Addr {
	conn, err := net.Dial("udp4", "192.0.2.1:25") // TEST-NET-1, RFC 5737
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// names looks at the name that this machine says in EHLO, and at that of its address.
func (d *Doctor) names(ctx context.Context) {
	if !strings.Contains(d.Hostname, ".") {
		d.add(Finding{ID: "helo", Level: Fail, What: fmt.Sprintf("this machine calls itself %q, which is not a full name", d.Hostname),
			Matters: "other servers refuse such an EHLO", Do: []string{"set the full name: hostnamectl set-hostname mx1.example.org, and hostname in rcptgate.toml"}})
		return
	}
	ips, _, err := d.DNS.addresses(ctx, d.Hostname)
	switch {
	case err != nil && len(ips) == 0:
		d.add(Finding{ID: "helo", Level: Unknown, What: fmt.Sprintf("the address of %s cannot be read: %v", d.Hostname, err)})
	case len(ips) == 0:
		d.add(Finding{ID: "helo", Level: Warn, What: fmt.Sprintf("%s, the name in EHLO, has no address", d.Hostname), Matters: "some servers refuse such an EHLO",
			Do: []string{fmt.Sprintf("publish  %s. A %s", d.Hostname, d.FromIP)}})
	case !slices.ContainsFunc(ips, d.isSelf):
		d.add(Finding{ID: "helo", Level: Warn, What: fmt.Sprintf("%s, the name in EHLO, is the address of another machine: %v", d.Hostname, ips)})
	default:
		d.ok("helo", "", d.Hostname+" is this machine's")
	}
	if d.FromIP.IsValid() && !isPrivate(d.FromIP) {
		d.reverse(ctx)
	}
}

// reverse looks whether the address has a name that leads back to it.
func (d *Doctor) reverse(ctx context.Context) {
	names, err := d.DNS.ptr(ctx, d.FromIP)
	f := Finding{ID: "ptr", Level: Fail, Matters: "large providers refuse mail from such an address"}
	switch {
	case err != nil:
		f.Level, f.What, f.Matters = Unknown, fmt.Sprintf("the name of %s cannot be read: %v", d.FromIP, err), ""
	case len(names) == 0:
		reverse, _ := dns.ReverseAddr(d.FromIP.String())
		f.What, f.Do = fmt.Sprintf("%s, the outgoing address, has no name", d.FromIP), []string{fmt.Sprintf("have the owner of the network publish  %s PTR %s.", reverse, d.Hostname)}
	default:
		for _, name := range names[:min(len(names), 10)] {
			if ips, _, _ := d.DNS.addresses(ctx, name); slices.Contains(ips, d.FromIP) {
				d.ok("ptr", "", fmt.Sprintf("%s is %s, and back", d.FromIP, name))
				return
			}
		}
		f.What, f.Do = fmt.Sprintf("the name of %s, %s, does not lead back to it", d.FromIP, names[0]), []string{fmt.Sprintf("publish  %s. A %s", names[0], d.FromIP)}
	}
	d.add(f)
}

// slowDNS measures the resolver with what an MTA asks for at RCPT, three names that are not
// remembered among them.
func (d *Doctor) slowDNS(ctx context.Context, domains []string) {
	domain := "example.com"
	if len(domains) > 0 {
		domain = domains[0]
	}
	start := time.Now()
	for range 3 {
		d.DNS.ask(ctx, strings.ToLower(rand.Text()[:12])+"."+domain, dns.TypeA)
	}
	took := time.Since(start) / 3
	worst := d.DNS.worst()
	for _, server := range d.DNS.Servers {
		d.slowServer(server, worst)
	}
	if limit := d.patience(); took > limit {
		d.add(Finding{ID: "dns-slow", Level: Fail, What: fmt.Sprintf("a name takes %.1f s on average, longer than the %s that is waited for an answer", took.Seconds(), limit), Matters: d.slowMatters()})
	}
}

// patience is the shortest time that somebody waits for an answer at RCPT.
func (d *Doctor) patience() time.Duration {
	limit := 30 * time.Second
	for _, m := range d.MTAs {
		limit = min(limit, time.Duration(m.Timeout)*time.Second)
	}
	if d.Deadline > 0 {
		limit = min(limit, d.Deadline)
	}
	return limit
}

func (d *Doctor) slowServer(server string, worst time.Duration) {
	d.DNS.mu.Lock()
	t := timing{}
	if p := d.DNS.timings[server]; p != nil {
		t = *p
	}
	d.DNS.mu.Unlock()
	host, _, _ := net.SplitHostPort(server)
	f := Finding{ID: "dns-slow", Level: Warn, Matters: d.slowMatters(),
		Do: []string{"run a caching resolver on this machine and name it first in resolv.conf; options timeout:1 attempts:2"}}
	switch {
	case t.asked == 0:
		return
	case t.lost > 0:
		f.What = fmt.Sprintf("%s did not answer %d of %d questions; with this resolv.conf a name can take %s", host, t.lost, t.asked, worst)
		if t.lost == t.asked {
			f.Level = Fail
		}
	case t.failed > 0:
		f.What = fmt.Sprintf("%s said SERVFAIL or REFUSED to %d of %d questions", host, t.failed, t.asked)
	case t.slowest > time.Second:
		f.What = fmt.Sprintf("%s took %.1f s for an answer", host, t.slowest.Seconds())
	default:
		d.ok("dns-slow", "", fmt.Sprintf("%s answers within %d ms", host, t.slowest.Milliseconds()))
		return
	}
	d.add(f)
}

// slowMatters ties a slow resolver to what the log says.
func (d *Doctor) slowMatters() string {
	if d.lost.total == 0 {
		return "senders give up: mail clients after 60 to 100 s, some servers sooner"
	}
	return fmt.Sprintf("the log has %s that gave up after RCPT", term.Count(d.lost.total, "client"))
}
