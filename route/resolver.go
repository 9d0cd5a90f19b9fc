// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/kit/flight"
)

// Bounds of what is asked of DNS and kept of it.
const (
	lookupTimeout   = 10 * time.Second // one look-up with all its tries
	exchangeTimeout = 2 * time.Second  // one try at one server
	rounds          = 2                // tries at each server
	maxServers      = 4
	maxMX           = 32              // records used of one answer
	maxLookups      = 1024            // in progress
	minTTL          = 5 * time.Second // a shorter one would have us ask for every probe
	maxTTL          = time.Hour
	failureTTL      = 30 * time.Second
	addrTTL         = 5 * time.Minute        // the system's resolver does not give a TTL
	staleFor        = 24 * time.Hour         // what DNS said last serves while it cannot be asked
	staleWait       = 250 * time.Millisecond // and while it has not answered for so long
)

// mxHost is one MX record: a host in canonical form.
type mxHost struct {
	name string
	pref uint16
}

// mxSet is the mail servers of a domain, most preferred first, those of equal
// preference in random order (RFC 5321 section 5.1).
type mxSet struct{ hosts []mxHost }

// resolver asks DNS and remembers what it said. It is safe for concurrent use.
type resolver struct {
	servers []string
	system  *net.Resolver // for addresses: honours /etc/hosts
	mxs     *cache[mxSet]
	ips     *cache[[]netip.Addr]
	records *cache[[]string] // see Records

	ctx    context.Context //nolint:containedctx // the life of look-ups, which outlast their askers
	cancel context.CancelFunc
	calls  *flight.Group[string, error] // look-ups in progress; the error is that of one that panicked

	mu     sync.Mutex // held while a look-up starts, and to close
	closed bool
	wg     sync.WaitGroup
}

func newResolver(servers []string) (*resolver, error) {
	r := &resolver{mxs: newCache[mxSet](), ips: newCache[[]netip.Addr](), records: newCache[[]string](), calls: flight.New[string, error](maxLookups)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.system = &net.Resolver{PreferGo: true}
	if len(servers) == 0 {
		r.servers = systemServers()
		return r, nil
	}
	for _, s := range servers {
		if _, err := netip.ParseAddrPort(s); err != nil {
			return nil, fmt.Errorf("DNS server %q: expected an address with a port, as in \"192.0.2.1:53\"", s)
		}
	}
	r.servers = slices.Clone(servers)
	r.system.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, servers[rand.IntN(len(servers))]) // #nosec G404 -- spreads load
	}
	return r, nil
}

// systemServers reads /etc/resolv.conf; without it, this machine is asked, as
// resolv.conf(5) says.
func systemServers() []string {
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(conf.Servers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	var list []string
	for _, s := range conf.Servers {
		list = append(list, net.JoinHostPort(s, conf.Port))
	}
	return list[:min(len(list), maxServers)]
}

func (r *resolver) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
}

// patience is until when a look-up is waited for although an older answer is at hand.
type patience time.Time

func newPatience() patience { return patience(time.Now().Add(staleWait)) }

// mx gives the mail servers of a domain, from memory or from DNS. Stale says that DNS
// did not answer in time and that this is its last answer.
func (r *resolver) mx(ctx context.Context, p patience, domain string) (set mxSet, stale bool, err error) {
	return ask(ctx, r, p, r.mxs, "mx of ", domain, r.lookUpMX)
}

// addrs gives the addresses of a host, from memory or from the system's resolver.
func (r *resolver) addrs(ctx context.Context, p patience, host string) (list []netip.Addr, err error) {
	list, _, err = ask(ctx, r, p, r.ips, "addresses of ", host, r.lookUpAddrs)
	return list, err
}

// ask gives what is remembered of a name while it is fresh. Otherwise it joins or starts
// the look-up, and waits for its end: until ctx ends, or only until p does when what DNS
// said last can serve.
func ask[V any](ctx context.Context, r *resolver, p patience, memory *cache[V], what, name string, lookUp func(string)) (value V, stale bool, err error) {
	e := memory.get(name)
	if e.fresh() {
		return e.value, false, e.err
	}
	if stale = e.stale(time.Now()); stale {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Time(p))
		defer cancel()
	}
	call, err := r.start(what+name, func() { lookUp(name) })
	if err == nil {
		select {
		case <-call.Done():
			if learnt := memory.get(name); learnt.known() {
				return learnt.value, false, learnt.err
			}
			err = cmp.Or(call.Value, errDropped)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if stale {
		return e.value, true, nil
	}
	return value, false, fmt.Errorf("%s%s: %w", what, name, err)
}

// learnAddrs looks a host's addresses up if they are not remembered, and does not wait.
func (r *resolver) learnAddrs(host string) {
	if e := r.ips.get(host); !e.fresh() {
		_, _ = r.start("addresses of "+host, func() { r.lookUpAddrs(host) })
	}
}

// knownMX is what DNS said last, however old; no I/O.
func (r *resolver) knownMX(domain string) (mxSet, bool) {
	e := r.mxs.get(domain)
	return e.value, len(e.value.hosts) > 0
}

// knownAddrs is what was looked up last, however old; no I/O.
func (r *resolver) knownAddrs(host string) []netip.Addr { return r.ips.get(host).value }

var (
	errBusy    = errors.New("too many look-ups in progress")
	errClosed  = errors.New("this configuration has been replaced")
	errDropped = errors.New("the answer was dropped at once: too many names are being looked up")
)

// start joins or starts the look-up under key. One that panics is an error: replies are
// strangers' octets, and end no process.
func (r *resolver) start(key string, lookUp func()) (*flight.Call[string, error], error) {
	call, isNew := r.calls.Join(key)
	switch {
	case call == nil:
		return nil, errBusy
	case !isNew:
		return call, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		r.calls.End(call)
		return nil, errClosed
	}
	r.wg.Go(func() {
		defer r.calls.End(call)
		defer func() {
			if p := recover(); p != nil {
				call.Value = &rcptgate.PanicError{Value: p, Stack: debug.Stack()}
			}
		}()
		lookUp()
	})
	return call, nil
}

func (r *resolver) lookUpAddrs(host string) {
	ctx, cancel := context.WithTimeout(r.ctx, lookupTimeout)
	defer cancel()
	addrs, err := r.system.LookupNetIP(ctx, "ip", host+".")
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	r.ips.put(host, addrs, err, addrTTL)
}

func (r *resolver) lookUpMX(domain string) {
	ctx, cancel := context.WithTimeout(r.ctx, lookupTimeout)
	defer cancel()
	set, ttl, err := r.askMX(ctx, domain)
	if err != nil {
		err = fmt.Errorf("mx of %s: %w", domain, err)
	}
	r.mxs.put(domain, set, err, ttl)
}

var (
	errNoDomain = errors.New("no such domain")
	errNullMX   = fmt.Errorf("%w: null MX, the domain takes no mail (RFC 7505)", ErrNoBackend)
)

// askMX asks for MX records. A domain without any is its own mail server (the
// implicit MX).
func (r *resolver) askMX(ctx context.Context, domain string) (mxSet, time.Duration, error) {
	if _, ok := dns.IsDomainName(domain); !ok || strings.HasPrefix(domain, "[") {
		return mxSet{}, failureTTL, permanent{errNoDomain}
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(domain), dns.TypeMX)
	m.SetEdns0(1232, false) // the size that never fragments
	reply, err := r.exchange(ctx, m)
	if err != nil {
		return mxSet{}, failureTTL, err
	}
	if reply.Rcode == dns.RcodeNameError {
		return mxSet{}, failureTTL, permanent{errNoDomain}
	}
	return readMX(domain, reply)
}

// permanent is an error that DNS itself stated: what it said before is void.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

func readMX(domain string, reply *dns.Msg) (mxSet, time.Duration, error) {
	var set mxSet
	ttl, records := maxTTL, 0
	for _, rr := range reply.Answer {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		records++
		name := address.Domain(mx.Mx)
		if _, err := netip.ParseAddr(name); err == nil || name == "" || len(set.hosts) == maxMX {
			continue // "." is a null MX; an address is not a host (RFC 5321 section 2.3.5)
		}
		set.hosts = append(set.hosts, mxHost{name, mx.Preference})
	}
	ttl = max(ttl, minTTL)
	switch {
	case records == 0:
		return mxSet{[]mxHost{{domain, 0}}}, failureTTL, nil
	case len(set.hosts) == 0:
		return set, ttl, permanent{errNullMX}
	}
	rand.Shuffle(len(set.hosts), func(i, j int) { set.hosts[i], set.hosts[j] = set.hosts[j], set.hosts[i] })
	slices.SortStableFunc(set.hosts, func(a, b mxHost) int { return cmp.Compare(a.pref, b.pref) })
	return set, ttl, nil
}

// exchange asks one server after the other until one knows.
func (r *resolver) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	var last error
	for range rounds {
		for _, server := range r.servers {
			reply, err := exchangeOnce(ctx, m, server)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				last = err
			case reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError:
				return reply, nil
			default:
				last = fmt.Errorf("%s replied %s", server, dns.RcodeToString[reply.Rcode])
			}
		}
	}
	return nil, last
}

func exchangeOnce(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	reply, err := exchangeOver(ctx, m, "udp", server)
	if err == nil && reply.Truncated {
		return exchangeOver(ctx, m, "tcp", server)
	}
	return reply, err
}

func exchangeOver(ctx context.Context, m *dns.Msg, network, server string) (*dns.Msg, error) {
	client := dns.Client{Net: network, Timeout: exchangeTimeout}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The client does not watch ctx while it waits for a reply.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	reply, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	return reply, err
}
