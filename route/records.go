// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"rcptgate/address"
)

// recordTypes are the records that can be asked for by a word.
var recordTypes = map[string]uint16{"a": dns.TypeA, "aaaa": dns.TypeAAAA, "mx": dns.TypeMX, "txt": dns.TypeTXT, "ptr": dns.TypePTR} //nolint:gochecknoglobals // a table

// maxRecords bounds the records used of one answer, and maxText a text, in octets.
const (
	maxRecords = 64
	maxText    = 4096
)

// Records asks DNS for the records of a name: "a", "aaaa", "mx" (hosts, the preferred
// first), "txt" or "ptr". Answers are remembered for their TTL, within 5 s and an hour. A
// name without such records, or that does not exist, is an empty list; an error means that
// it could not be found out.
func (r *Router) Records(ctx context.Context, kind, name string) ([]string, error) {
	qtype, ok := recordTypes[kind]
	if !ok {
		return nil, fmt.Errorf("%q is not a type of record", kind)
	}
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, nil
	}
	d := r.dns
	list, _, err := ask(ctx, d, newPatience(), d.records, kind+" of ", kind+" "+name, func(string) { d.lookUpRecords(kind, name, qtype) })
	return list, err
}

func (r *resolver) lookUpRecords(kind, name string, qtype uint16) {
	ctx, cancel := context.WithTimeout(r.ctx, lookupTimeout)
	defer cancel()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	m.SetEdns0(1232, false)
	reply, err := r.exchange(ctx, m)
	if err != nil {
		r.records.put(kind+" "+name, nil, fmt.Errorf("%s of %s: %w", kind, name, err), failureTTL)
		return
	}
	list, ttl := readRecords(reply, qtype)
	r.records.put(kind+" "+name, list, nil, ttl)
}

// readRecords gives the records of a reply and how long they may be remembered.
func readRecords(reply *dns.Msg, qtype uint16) ([]string, time.Duration) {
	list, ttl := []string{}, maxTTL
	rrs := slices.Clone(reply.Answer)
	slices.SortStableFunc(rrs, func(a, b dns.RR) int {
		x, isX := a.(*dns.MX)
		y, isY := b.(*dns.MX)
		if !isX || !isY {
			return 0
		}
		return int(x.Preference) - int(y.Preference)
	})
	for _, rr := range rrs {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		if rr.Header().Rrtype != qtype || len(list) == maxRecords {
			continue
		}
		if s := recordText(rr); s != "" {
			list = append(list, s[:min(len(s), maxText)])
		}
	}
	if len(list) == 0 {
		return list, failureTTL
	}
	return list, max(ttl, minTTL)
}

func recordText(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.AAAA:
		return rr.AAAA.String()
	case *dns.MX:
		return address.Domain(rr.Mx)
	case *dns.TXT:
		return strings.Join(rr.Txt, "") // RFC 7208 section 3.3
	case *dns.PTR:
		return address.Domain(rr.Ptr)
	}
	return ""
}
