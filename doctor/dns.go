// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Resolver asks name servers, and remembers what they said and how long it took.
type Resolver struct {
	Servers  []string // "192.0.2.53:53"
	Timeout  time.Duration
	Attempts int
	Search   int // domains in the search list

	mu      sync.Mutex
	answers map[question]*answer
	timings map[string]*timing
}

type question struct {
	name  string
	qtype uint16
}

// answer is what came of a question.
type answer struct {
	rrs   []dns.RR
	rcode int
	// signed: the server says that DNSSEC holds for the answer (RFC 6840 section 5.8).
	signed bool
	err    error // no server answered in time
}

// timing is how one server has answered.
type timing struct {
	asked, lost, failed int // failed: SERVFAIL or REFUSED
	slowest             time.Duration
	truncated           int
}

// maxQuestions bounds the questions of one run.
const maxQuestions = 2_000

var errTooMany = errors.New("too many DNS questions")

// SystemResolver asks the servers of resolv.conf(5).
func SystemResolver(path string) *Resolver {
	r := &Resolver{Servers: []string{"127.0.0.1:53"}, Timeout: 5 * time.Second, Attempts: 2}
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return r
	}
	r.Timeout, r.Attempts, r.Search = time.Duration(conf.Timeout)*time.Second, conf.Attempts, len(conf.Search)
	if len(conf.Servers) > 0 {
		r.Servers = nil
		for _, s := range conf.Servers {
			r.Servers = append(r.Servers, net.JoinHostPort(s, conf.Port))
		}
	}
	return r
}

// worst is how long one name can take when no server answers.
func (r *Resolver) worst() time.Duration {
	return r.Timeout * time.Duration(r.Attempts*len(r.Servers)*(1+r.Search))
}

// ask puts a question to the servers as a stub resolver does.
func (r *Resolver) ask(ctx context.Context, name string, qtype uint16) *answer {
	q := question{dns.Fqdn(strings.ToLower(name)), qtype}
	r.mu.Lock()
	if r.answers == nil {
		r.answers, r.timings = map[question]*answer{}, map[string]*timing{}
	}
	a, full := r.answers[q], len(r.answers) >= maxQuestions
	r.mu.Unlock()
	switch {
	case a != nil:
		return a
	case full:
		return &answer{err: errTooMany}
	}
	if a = r.exchange(ctx, q); a.err != nil && ctx.Err() != nil {
		return a // the caller's time was up, which says nothing about the name
	}
	r.mu.Lock()
	r.answers[q] = a
	r.mu.Unlock()
	return a
}

// exchange asks one server after the other, as often as there are attempts.
func (r *Resolver) exchange(ctx context.Context, q question) *answer {
	var err error
	for range r.Attempts {
		for _, server := range r.Servers {
			var a *answer
			if a, err = r.one(ctx, server, q); err == nil {
				return a
			}
			if ctx.Err() != nil {
				return &answer{err: ctx.Err()}
			}
		}
	}
	return &answer{err: err}
}

// one asks one server once, over TCP too if the reply does not fit a datagram.
func (r *Resolver) one(ctx context.Context, server string, q question) (*answer, error) {
	msg := new(dns.Msg).SetQuestion(q.name, q.qtype)
	msg.SetEdns0(1232, false)
	msg.AuthenticatedData = true // say whether DNSSEC holds
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	start := time.Now()
	client := dns.Client{Timeout: r.Timeout, UDPSize: 1232}
	in, _, err := client.ExchangeContext(ctx, msg, server)
	truncated := err == nil && in.Truncated
	if truncated {
		client.Net = "tcp"
		in, _, err = client.ExchangeContext(ctx, msg, server)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.timings[server]
	if t == nil {
		t = &timing{}
		r.timings[server] = t
	}
	t.asked++
	t.slowest = max(t.slowest, time.Since(start))
	if truncated {
		t.truncated++
	}
	switch {
	case err != nil:
		t.lost++
		return nil, fmt.Errorf("%s does not answer: %w", server, err)
	case in.Rcode == dns.RcodeServerFailure || in.Rcode == dns.RcodeRefused:
		t.failed++
		return nil, fmt.Errorf("%s says %s", server, dns.RcodeToString[in.Rcode])
	}
	return &answer{rrs: in.Answer, rcode: in.Rcode, signed: in.AuthenticatedData}, nil
}

// records gives the records of one type, aliases followed by the server.
func records[T dns.RR](a *answer) (out []T) {
	for _, rr := range a.rrs {
		if r, ok := rr.(T); ok {
			out = append(out, r)
		}
	}
	return out
}

// txt gives the text records of a name, their strings joined (RFC 7208 section 3.3).
func (r *Resolver) txt(ctx context.Context, name string) ([]string, error) {
	a := r.ask(ctx, name, dns.TypeTXT)
	var out []string
	for _, rr := range records[*dns.TXT](a) {
		out = append(out, strings.Join(rr.Txt, ""))
	}
	return out, a.err
}

// mx gives the MX records of a domain, most preferred first.
func (r *Resolver) mx(ctx context.Context, domain string) ([]*dns.MX, error) {
	a := r.ask(ctx, domain, dns.TypeMX)
	out := records[*dns.MX](a)
	slices.SortStableFunc(out, func(a, b *dns.MX) int { return int(a.Preference) - int(b.Preference) })
	return out, a.err
}

// addresses gives the IPv4 and IPv6 addresses of a host, and whether its name is an alias.
func (r *Resolver) addresses(ctx context.Context, host string) (ips []netip.Addr, alias bool, err error) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		a := r.ask(ctx, host, qtype)
		err = errors.Join(err, a.err)
		alias = alias || len(records[*dns.CNAME](a)) > 0
		for _, rr := range records[*dns.A](a) {
			if ip, ok := netip.AddrFromSlice(rr.A); ok {
				ips = append(ips, ip.Unmap())
			}
		}
		for _, rr := range records[*dns.AAAA](a) {
			if ip, ok := netip.AddrFromSlice(rr.AAAA); ok {
				ips = append(ips, ip)
			}
		}
	}
	return ips, alias, err
}

// ptr gives the names of an address.
func (r *Resolver) ptr(ctx context.Context, ip netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(ip.String())
	if err != nil {
		return nil, err
	}
	a := r.ask(ctx, name, dns.TypePTR)
	var out []string
	for _, rr := range records[*dns.PTR](a) {
		out = append(out, strings.TrimSuffix(strings.ToLower(rr.Ptr), "."))
	}
	return out, a.err
}
