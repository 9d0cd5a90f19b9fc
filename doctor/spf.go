// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"blitiri.com.ar/go/spf"
	"github.com/miekg/dns"
)

// The limits of RFC 7208 section 4.6.4.
const (
	spfLookups = 10
	spfVoid    = 2
)

// A record that a stranger wrote may include others without end, or servers that never answer:
// so many terms are read, in so much time.
const (
	spfTerms = 300
	spfTime  = time.Minute
)

// mechanism is one term of an SPF record, with those of the record that it includes.
type mechanism struct {
	text   string
	cost   int  // look-ups, its own and those below
	void   int  // look-ups that found nothing, likewise
	broken bool // not a term that RFC 7208 knows
	below  []mechanism
}

// spfRecord is a domain's SPF record taken apart.
type spfRecord struct {
	text  string
	terms []mechanism
	cost  int
	void  int
}

// spfWalk reads a record and those that it includes.
type spfWalk struct {
	*Doctor
	path []string // the domains whose records are being read
	left int      // terms
}

// isSPF reports whether a text record is an SPF record (RFC 7208 section 4.5).
func isSPF(s string) bool {
	return strings.EqualFold(s, "v=spf1") || len(s) > 7 && strings.EqualFold(s[:7], "v=spf1 ")
}

// spfOf gives the SPF records of a domain as they are published.
func (d *Doctor) spfOf(ctx context.Context, domain string) (out []string, err error) {
	texts, err := d.DNS.txt(ctx, domain)
	for _, s := range texts {
		if isSPF(s) {
			out = append(out, s)
		}
	}
	return out, err
}

// tree reads a domain's record and all that it includes, as far as ten levels.
func (d *spfWalk) tree(ctx context.Context, domain, text string) spfRecord {
	d.path = append(d.path, strings.ToLower(domain))
	defer func() { d.path = d.path[:len(d.path)-1] }()
	r := spfRecord{text: text}
	words := strings.Fields(text)
	hasAll := slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(strings.TrimLeft(w, "+-~?"), "all") })
	for i, word := range words {
		if i == 0 || hasAll && strings.HasPrefix(strings.ToLower(word), "redirect=") { // all ends the record (RFC 7208 section 6.1)
			continue
		}
		if d.left--; d.left < 0 {
			break
		}
		t := d.term(ctx, domain, word)
		r.cost += t.cost
		r.void += t.void
		r.terms = append(r.terms, t)
	}
	return r
}

// term reads one term (RFC 7208 section 5).
func (d *spfWalk) term(ctx context.Context, domain, word string) mechanism {
	t := mechanism{text: word}
	name, value, _ := strings.Cut(strings.TrimLeft(strings.ToLower(word), "+-~?"), ":")
	name, bits, _ := strings.Cut(name, "/")
	if modifier, target, ok := strings.Cut(name, "="); ok {
		name, value = modifier+"=", target
		if bits != "" {
			value += "/" + bits
		}
	}
	host, _, _ := strings.Cut(value, "/")
	if host == "" {
		host = domain
	}
	switch name {
	case "include", "redirect=":
		t.cost = 1
		t.include(ctx, d, host)
	case "a":
		t.cost = 1
		if ips, _, err := d.DNS.addresses(ctx, host); err == nil && len(ips) == 0 && !strings.Contains(host, "%") {
			t.void = 1
		}
	case "mx":
		t.cost = 1
		if list, err := d.DNS.mx(ctx, host); err == nil && len(list) == 0 && !strings.Contains(host, "%") {
			t.void = 1
		}
	case "ptr", "exists":
		t.cost = 1
	case "ip4", "ip6":
		_, errIP := netip.ParseAddr(value)
		_, errNet := netip.ParsePrefix(value)
		t.broken = errIP != nil && errNet != nil
	case "all":
	default:
		t.broken = !strings.HasSuffix(name, "=") // modifiers that nobody knows are ignored
	}
	return t
}

// include follows include: and redirect=.
func (t *mechanism) include(ctx context.Context, d *spfWalk, host string) {
	switch {
	case strings.Contains(host, "%") || len(d.path) > 10:
		return
	case slices.Contains(d.path, strings.TrimSuffix(host, ".")):
		t.broken = true // a circle
		return
	}
	records, err := d.spfOf(ctx, host)
	if err != nil {
		return
	}
	if len(records) != 1 {
		t.broken, t.void = true, 1
		return
	}
	r := d.tree(ctx, host, records[0])
	t.cost += r.cost
	t.void += r.void
	t.below = r.terms
	t.broken = t.broken || slices.ContainsFunc(r.terms, func(m mechanism) bool { return m.broken }) // RFC 7208 section 5.2
}

// tree writes the terms with what they cost, indented.
func tree(terms []mechanism, indent string) (out []string) {
	for _, t := range terms {
		if t.cost == 0 && !t.broken {
			continue
		}
		line := fmt.Sprintf("%s%s  %d", indent, t.text, t.cost)
		if t.void > 0 && len(t.below) == 0 {
			line += " (finds nothing)"
		}
		out = append(out, line)
		out = append(out, tree(t.below, indent+"  ")...)
	}
	return out
}

// spf looks at a domain's SPF record, and whether it has this host.
func (d *Doctor) spf(ctx context.Context, domain string) {
	ctx, cancel := context.WithTimeout(ctx, spfTime)
	defer cancel()
	records, err := d.spfOf(ctx, domain)
	switch {
	case err != nil:
		d.add(Finding{ID: "spf", Level: Unknown, Domain: domain, What: "the SPF record cannot be read: " + err.Error()})
		return
	case len(records) == 0:
		d.spfNone(domain)
		return
	case len(records) > 1:
		d.add(Finding{ID: "spf-many", Level: Fail, Domain: domain, What: fmt.Sprintf("there are %d SPF records", len(records)), Seen: records,
			Matters: "receivers treat this as an error (RFC 7208 section 4.5)", Do: []string{"keep one record, with the terms of all"}})
		return
	}
	walk := spfWalk{Doctor: d, left: spfTerms}
	r := walk.tree(ctx, domain, records[0])
	d.spfSyntax(domain, r)
	d.spfLimits(domain, r)
	d.spfMissing(ctx, domain, r)
}

func (d *Doctor) spfNone(domain string) {
	f := Finding{ID: "spf-none", Level: Warn, Domain: domain, What: "there is no SPF record", Matters: "large providers refuse or mark such mail"}
	record := "v=spf1 mx ~all"
	if d.FromIP.IsValid() {
		record = "v=spf1 mx " + spfTermFor(d.FromIP) + " ~all"
	}
	f.Do = []string{fmt.Sprintf("publish  %s. TXT %q", domain, record)}
	d.add(f)
}

// spfSyntax finds what is wrong with the record itself.
func (d *Doctor) spfSyntax(domain string, r spfRecord) {
	var bad []string
	for _, t := range r.terms {
		switch word := strings.ToLower(t.text); {
		case t.broken:
			bad = append(bad, t.text)
		case word == "all" || word == "+all":
			d.add(Finding{ID: "spf-plusall", Level: Fail, Domain: domain, What: "the SPF record allows every host to send", Seen: []string{r.text},
				Matters: "it is worth nothing, and some receivers count it against the domain", Do: []string{fmt.Sprintf("publish  %s. TXT %q", domain, withWord(r.text, t.text, "~all"))}})
		case strings.HasPrefix(strings.TrimLeft(word, "+-~?"), "ptr"):
			d.add(Finding{ID: "spf-ptr", Level: Warn, Domain: domain, What: "the SPF record uses ptr", Seen: []string{r.text},
				Matters: "it is slow, and must not be used (RFC 7208 section 5.5)", Do: []string{"write the addresses as ip4: and ip6: instead"}})
		}
	}
	if len(bad) > 0 {
		d.add(Finding{ID: "spf-syntax", Level: Fail, Domain: domain, What: "the SPF record has terms that mean nothing, or include a record that is missing, broken or a circle: " + strings.Join(bad, " "),
			Seen: []string{r.text}, Matters: "receivers treat this as an error"})
		return
	}
	d.ok("spf-syntax", domain, "the SPF record can be read: "+r.text)
}

// withWord writes a record with another word in place of one.
func withWord(record, old, word string) string {
	words := strings.Fields(record)
	if i := slices.Index(words, old); i >= 0 {
		words[i] = word
	}
	return strings.Join(words, " ")
}

func (d *Doctor) spfLimits(domain string, r spfRecord) {
	f := Finding{ID: "spf-lookups", Domain: domain, What: fmt.Sprintf("the SPF record needs %d of %d look-ups", r.cost, spfLookups), Seen: tree(r.terms, "")}
	switch {
	case r.cost > spfLookups:
		f.Level, f.Matters = Fail, "receivers give up after ten and treat the record as an error (RFC 7208 section 4.6.4)"
		f.Do = []string{"replace includes that are not needed, or that list few addresses, with ip4: and ip6:"}
	case r.cost >= spfLookups-2:
		f.Level, f.Matters = Warn, "one more include, yours or theirs, and receivers give up"
	default:
		f.Level, f.Seen = OK, nil
	}
	d.add(f)
	if r.void > spfVoid {
		d.add(Finding{ID: "spf-void", Level: Fail, Domain: domain, What: fmt.Sprintf("%d look-ups of the SPF record find nothing; %d are allowed", r.void, spfVoid),
			Seen: tree(r.terms, ""), Do: []string{"remove the terms that find nothing"}})
	}
}

// spfMissing asks whether the record allows this host to send.
func (d *Doctor) spfMissing(ctx context.Context, domain string, r spfRecord) {
	if !d.FromIP.IsValid() {
		return
	}
	result, err := spf.CheckHostWithSender(net.IP(d.FromIP.AsSlice()), d.Hostname, "postmaster@"+domain,
		spf.WithResolver(spfResolver{d.DNS}), spf.WithContext(ctx), spf.OverrideLookupLimit(100), spf.OverrideVoidLookupLimit(100))
	switch result {
	case spf.Pass:
		d.ok("spf-missing-us", domain, fmt.Sprintf("%s may send for the domain", d.FromIP))
		return
	case spf.TempError:
		d.add(Finding{ID: "spf-missing-us", Level: Unknown, Domain: domain, What: fmt.Sprintf("whether %s may send cannot be found out: %v", d.FromIP, err)})
		return
	case spf.PermError:
		return // said above
	}
	repaired := spfRepair(r.text, d.FromIP)
	f := Finding{ID: "spf-missing-us", Level: Fail, Domain: domain, What: fmt.Sprintf("%s (this host's outgoing address) gets %s from the SPF record", d.FromIP, result), Seen: []string{r.text},
		Matters: "mail that this host sends for the domain is marked or refused",
		Do:      []string{fmt.Sprintf("publish  %s. TXT %s   (%d of %d look-ups)", domain, quoteTXT(repaired), r.cost, spfLookups)}}
	if isPrivate(d.FromIP) {
		f.Level, f.What = Warn, f.What+"; it is a private address: name the one that others see with --from-ip"
		f.Do = nil
	}
	d.add(f)
}

// spfRepair puts an address into a record, before all terms, so that no include is asked for it.
func spfRepair(record string, ip netip.Addr) string {
	words := strings.Fields(record)
	return strings.Join(slices.Insert(words, 1, spfTermFor(ip)), " ")
}

func spfTermFor(ip netip.Addr) string {
	if ip.Is4() {
		return "ip4:" + ip.String()
	}
	return "ip6:" + ip.String()
}

// quoteTXT writes a text record as a zone file has it: strings of at most 255 octets.
func quoteTXT(s string) string {
	var parts []string
	for len(s) > 255 {
		cut := strings.LastIndexByte(s[:255], ' ') + 1
		if cut <= 0 {
			cut = 255
		}
		parts, s = append(parts, fmt.Sprintf("%q", s[:cut])), s[cut:]
	}
	return strings.Join(append(parts, fmt.Sprintf("%q", s)), " ")
}

// spfResolver is the resolver as the SPF library has it.
type spfResolver struct{ r *Resolver }

// notFound is how the library is told that there is nothing.
func notFound(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func temporary(name string, err error) error {
	return &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
}

// LookupTXT gives the text records of a name.
func (s spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	out, err := s.r.txt(ctx, name)
	if err != nil {
		return nil, temporary(name, err)
	}
	if len(out) == 0 {
		return nil, notFound(name)
	}
	return out, nil
}

// LookupMX gives the MX records of a name.
func (s spfResolver) LookupMX(ctx context.Context, name string) (out []*net.MX, err error) {
	list, err := s.r.mx(ctx, name)
	if err != nil {
		return nil, temporary(name, err)
	}
	for _, mx := range list {
		out = append(out, &net.MX{Host: mx.Mx, Pref: mx.Preference})
	}
	if len(out) == 0 {
		return nil, notFound(name)
	}
	return out, nil
}

// LookupIPAddr gives the addresses of a host.
func (s spfResolver) LookupIPAddr(ctx context.Context, host string) (out []net.IPAddr, err error) {
	ips, _, err := s.r.addresses(ctx, host)
	if len(ips) == 0 && err != nil {
		return nil, temporary(host, err)
	}
	for _, ip := range ips {
		out = append(out, net.IPAddr{IP: ip.AsSlice()})
	}
	if len(out) == 0 {
		return nil, notFound(host)
	}
	return out, nil
}

// LookupAddr gives the names of an address.
func (s spfResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	names, err := s.r.ptr(ctx, ip)
	if err != nil {
		return nil, temporary(addr, err)
	}
	if len(names) == 0 {
		return nil, notFound(addr)
	}
	for i := range names {
		names[i] = dns.Fqdn(names[i])
	}
	return names, nil
}
