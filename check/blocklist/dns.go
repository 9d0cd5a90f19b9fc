// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate/address"
	"rcptgate/kit/notice"
	"rcptgate/kit/recent"
)

// Bounds of questions to DNS, which only the background asks.
const (
	dnsWorkers = 4
	dnsQueue   = 1000             // accusations that wait
	dnsTime    = 5 * time.Second  // for one name
	caseTime   = 20 * time.Second // for all about one client
	mxEvery    = time.Hour        // MX hosts of own domains are looked up anew
	mxRetry    = time.Minute      // the same after DNS has not answered
	mxDomains  = 10_000
	silentFor  = 10 * time.Minute // about one client, and its own name servers are to blame
	silentMax  = 10_000           // clients about whose names DNS did not answer
)

// resolver is what DNS is asked through: *net.Resolver.
type resolver interface {
	LookupAddr(ctx context.Context, addr string) ([]string, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
}

// dns finds out who must not be listed.
type dns struct {
	resolver resolver
	notices  *notice.Board
	waiting  chan accusation
	dropped  atomic.Uint64
	excused  atomic.Uint64                      // who was not listed for what DNS said
	silent   *recent.Map[netip.Addr, time.Time] // since when DNS does not answer about a client's name
	answered atomic.Int64                       // when it last did about any, UNIX nanoseconds

	mx      atomic.Pointer[map[netip.Addr]struct{}]
	edition atomic.Uint64 // counts the changes of mx
	domains chan []string // own ones, as a configuration has them
}

func newDNS(r resolver, notices *notice.Board) *dns {
	return &dns{resolver: r, notices: notices, waiting: make(chan accusation, dnsQueue), domains: make(chan []string, 1), silent: recent.New[netip.Addr, time.Time](silentMax)}
}

// accuse has a client listed unless DNS excuses it.
func (d *dns) accuse(a accusation) {
	select {
	case d.waiting <- a:
	default:
		d.dropped.Add(1) // the next virus is evidence as well
	}
}

// isMX reports whether an address was an MX host of an own domain when DNS was last asked.
func (d *dns) isMX(a netip.Addr) bool {
	set := d.mx.Load()
	if set == nil {
		return false
	}
	_, ok := (*set)[a]
	return ok
}

// mxHosts are the addresses for which isMX holds.
func (d *dns) mxHosts() []netip.Addr {
	set := d.mx.Load()
	if set == nil {
		return nil
	}
	return slices.Collect(maps.Keys(*set))
}

// run asks until ctx ends.
func (d *dns) run(ctx context.Context) {
	var all sync.WaitGroup
	for range dnsWorkers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case a := <-d.waiting:
					d.judge(ctx, &a)
				}
			}
		})
	}
	all.Go(func() { d.followMX(ctx) })
	all.Wait()
}

// judge lists a client, or finds out why not. Where DNS does not say, nobody is listed: to
// refuse an innocent relay costs more than to look at one more message.
func (d *dns) judge(ctx context.Context, a *accusation) {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	l := a.list
	why, err := d.excuse(ctx, a)
	switch {
	case err != nil:
		d.notices.Warn("blocklist dns "+l.name, "DNS does not answer whether a client is exempt; the client is not listed", "blocklist", l.name, "client", a.client, "error", err)
	case why != "":
		d.excused.Add(1)
		l.log.Info("blocklist="+l.name+" client="+a.client.String()+" excused: "+why, "evidence", a.evidence)
	default:
		_, _ = l.list(a.client, a.evidence, a.queueID, a.life)
	}
}

// excuse says why a client is not listed: its verified name, or a list in DNS.
func (d *dns) excuse(ctx context.Context, a *accusation) (why string, err error) {
	l := a.list
	if !l.names.Empty() {
		names := []string{a.name}
		if a.name == "" {
			names, err = d.verified(ctx, a.client)
			if d.heard(a.client, l.now(), err == nil); err != nil && !d.hides(a.client, l.now()) {
				return "", err
			}
		}
		for _, name := range names {
			name = address.Domain(strings.TrimSuffix(name, "."))
			if ok, err := l.names.Host(ctx, name); ok || err != nil {
				return "its name is " + name, err
			}
		}
	}
	for _, zone := range l.cfg.NeverDNS {
		found, err := d.inZone(ctx, a.client, zone)
		if found || err != nil {
			return "it is in " + zone, err
		}
	}
	return "", nil
}

// heard notes whether DNS answered about a client's name.
func (d *dns) heard(client netip.Addr, now time.Time, answered bool) {
	if answered {
		d.answered.Store(now.UnixNano())
	}
	d.silent.Update(client, func(since time.Time) time.Time {
		switch {
		case answered:
			return time.Time{}
		case since.IsZero(), since.After(now):
			return now
		}
		return since
	})
}

// hides reports whether DNS has been silent about a client's name for some time while it
// answered about others': whoever runs the name servers of an address could else keep it off
// the list.
func (d *dns) hides(client netip.Addr, now time.Time) bool {
	since := d.silent.Get(client)
	return !since.IsZero() && now.Sub(since) >= silentFor && d.answered.Load() > since.UnixNano()
}

// verified gives the names of an address that lead back to it (RFC 1912 section 2.1).
func (d *dns) verified(ctx context.Context, client netip.Addr) (good []string, err error) {
	names, err := d.lookUp(ctx, func(ctx context.Context) ([]string, error) {
		return d.resolver.LookupAddr(ctx, client.Unmap().String())
	})
	for _, name := range names[:min(len(names), 10)] {
		addrs, err := d.addresses(ctx, name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(addrs, client.Unmap()) {
			good = append(good, name)
		}
	}
	return good, err
}

// lookUp asks one question. A name that does not exist has no answers.
func (d *dns) lookUp(ctx context.Context, ask func(context.Context) ([]string, error)) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTime)
	defer cancel()
	list, err := ask(ctx)
	if absent(err) {
		return nil, nil
	}
	return list, err
}

func absent(err error) bool {
	var dnsErr *net.DNSError
	return errors.As(err, &dnsErr) && dnsErr.IsNotFound
}

// addresses gives the addresses of a host name.
func (d *dns) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTime)
	defer cancel()
	addrs, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if absent(err) {
		return nil, nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// inZone reports whether a list in DNS has an address (RFC 5782 section 2.1). Answers by
// which such lists say that they do not answer us are errors.
func (d *dns) inZone(ctx context.Context, client netip.Addr, zone string) (bool, error) {
	addrs, err := d.addresses(ctx, reversed(client)+"."+strings.TrimSuffix(zone, ".")+".")
	for _, a := range addrs {
		octets := a.As16()
		switch {
		case !a.Is4() || !a.IsLoopback():
			return false, fmt.Errorf("%s answers %s, which is not in 127.0.0.0/8", zone, a)
		case octets[13] == 255 || octets[15] == 255:
			return false, fmt.Errorf("%s answers %s: it refuses our questions", zone, a)
		}
	}
	return len(addrs) > 0, err
}

// reversed is an address as names in such zones begin: "7.100.51.198", nibbles of IPv6.
func reversed(a netip.Addr) string {
	a = a.Unmap()
	var labels []string
	for _, octet := range slices.Backward(a.AsSlice()) {
		if a.Is4() {
			labels = append(labels, fmt.Sprint(octet))
		} else {
			labels = append(labels, fmt.Sprintf("%x.%x", octet&15, octet>>4))
		}
	}
	return strings.Join(labels, ".")
}

// own has the MX hosts of domains looked up. The last configuration counts.
func (d *dns) own(domains []string) {
	for {
		select {
		case d.domains <- domains:
			return
		default:
		}
		select {
		case <-d.domains:
		default:
		}
	}
}

// followMX keeps the addresses of MX hosts of own domains.
func (d *dns) followMX(ctx context.Context) {
	var domains []string
	known := map[string][]netip.Addr{}
	again := time.NewTimer(mxEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case domains = <-d.domains:
		case <-again.C:
		}
		next, pause := d.findMX(ctx, domains, known)
		if ctx.Err() == nil {
			known = next
			d.setMX(next)
		}
		again.Reset(pause)
	}
}

// findMX looks up the MX hosts of domains. Where DNS does not answer, what it said before holds
// until it says something else, and pause is short.
func (d *dns) findMX(ctx context.Context, domains []string, known map[string][]netip.Addr) (next map[string][]netip.Addr, pause time.Duration) {
	next, pause = map[string][]netip.Addr{}, mxEvery
	for _, domain := range domains[:min(len(domains), mxDomains)] {
		addrs, err := d.mxOf(ctx, domain)
		if err != nil {
			pause = mxRetry
			addrs = append(addrs, known[domain]...)
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		next[domain] = slices.Compact(addrs)
	}
	return next, pause
}

// setMX makes the addresses of MX hosts known.
func (d *dns) setMX(found map[string][]netip.Addr) {
	set := map[netip.Addr]struct{}{}
	for _, addrs := range found {
		for _, a := range addrs {
			set[a] = struct{}{}
		}
	}
	if old := d.mx.Swap(&set); old == nil || !maps.Equal(*old, set) {
		d.edition.Add(1)
	}
}

// mxOf gives the addresses of a domain's MX hosts, those that were found before an error.
func (d *dns) mxOf(ctx context.Context, domain string) (all []netip.Addr, err error) {
	hosts, err := d.lookUp(ctx, func(ctx context.Context) (hosts []string, err error) {
		list, err := d.resolver.LookupMX(ctx, domain+".")
		for _, mx := range list {
			hosts = append(hosts, mx.Host)
		}
		return hosts, err
	})
	for _, host := range hosts {
		addrs, errOne := d.addresses(ctx, host)
		all = append(all, addrs...)
		err = errors.Join(err, errOne)
	}
	return all, err
}
