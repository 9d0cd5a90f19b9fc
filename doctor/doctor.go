// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Doctor is what is known before the first question: this machine, its MTAs, the gate.
type Doctor struct {
	DNS      *Resolver
	MTAs     []*MTA
	Gate     *Gate // nil: there is no configuration
	Logs     []string
	Hostname string // what this machine says in EHLO
	FromIP   netip.Addr
	Self     []netip.Addr
	Deadline time.Duration // of the gate; 0 without one
	Now      func() time.Time
	// Fetch reads a page over HTTPS; nil is not to.
	Fetch func(ctx context.Context, url string) (string, error)

	slow   time.Duration // of one step of a dialogue; 0: slowStep
	report Report
	kinds  map[string]kind
	last   time.Time // when the last finding was added
	lost   lost
}

// maxDomains bounds the domains of one run without arguments.
const maxDomains = 100

func (d *Doctor) add(f Finding) {
	if d.kinds == nil {
		d.kinds = kinds()
	}
	f.Expected, f.Refs = d.kinds[f.ID].expected, d.kinds[f.ID].refs
	now := time.Now()
	if !d.last.IsZero() {
		f.MS = now.Sub(d.last).Milliseconds()
	}
	d.last = now
	d.report.Checks++
	d.report.Findings = append(d.report.Findings, f)
}

func (d *Doctor) ok(id, domain, what string) {
	d.add(Finding{ID: id, Level: OK, Domain: domain, What: what})
}

// Run looks at domains, and at this machine. Without domains it looks at all that the gate's
// sections and the MTAs name.
func (d *Doctor) Run(ctx context.Context, domains []string) *Report {
	if len(domains) == 0 {
		domains = d.all()
	}
	d.last = time.Now()
	d.readLogs()
	for _, m := range d.MTAs {
		for _, bad := range m.Bad {
			f := Finding{ID: "mta-files", Level: Fail, What: fmt.Sprintf("%s names a file that cannot be read: %s", m.Name, bad.What), Seen: []string{bad.Where}, Matters: "mail for what it lists is deferred or refused"}
			if bad.Do != "" {
				f.Do = []string{bad.Do}
			}
			d.add(f)
		}
		d.policyChroot(m)
	}
	d.gate(ctx)
	d.names(ctx)
	for _, domain := range domains {
		if ctx.Err() != nil {
			break
		}
		d.mx(ctx, domain)
		d.spf(ctx, domain)
		d.dmarc(ctx, domain)
		d.route(domain)
		d.backends(ctx, domain)
	}
	d.slowDNS(ctx, domains)
	d.lostChannel()
	return &d.report
}

// all gives the domains of the gate's sections and of the MTAs' files.
func (d *Doctor) all() (out []string) {
	add := func(domain string) {
		if strings.Contains(domain, ".") && !strings.HasPrefix(domain, ".") && !strings.ContainsAny(domain, "*[/:") && !strings.HasPrefix(domain, "localhost.") &&
			domain != d.Hostname && !slices.Contains(out, domain) && len(out) < maxDomains {
			out = append(out, domain)
		}
	}
	if d.Gate != nil {
		for i := range d.Gate.Domains {
			add(d.Gate.Domains[i].Name)
		}
	}
	for _, m := range d.MTAs {
		for _, p := range m.Places {
			add(p.Domain)
		}
	}
	return out
}

// dmarc looks whether the domain says what to do with forged mail (RFC 7489 section 6.1).
func (d *Doctor) dmarc(ctx context.Context, domain string) {
	texts, err := d.DNS.txt(ctx, "_dmarc."+domain)
	n := 0
	for _, s := range texts {
		if strings.HasPrefix(strings.ToLower(s), "v=dmarc1") {
			n++
		}
	}
	switch {
	case err != nil:
		d.add(Finding{ID: "dmarc", Level: Unknown, Domain: domain, What: "the DMARC record cannot be read: " + err.Error()})
	case n == 0:
		d.add(Finding{ID: "dmarc", Level: Note, Domain: domain, What: "there is no DMARC record", Do: []string{fmt.Sprintf(`publish  _dmarc.%s. TXT "v=DMARC1; p=none; rua=mailto:postmaster@%s"`, domain, domain)}})
	case n > 1:
		d.add(Finding{ID: "dmarc", Level: Warn, Domain: domain, What: fmt.Sprintf("there are %d DMARC records; receivers ignore all (RFC 7489 section 6.6.3)", n), Seen: texts})
	default:
		d.ok("dmarc", domain, "there is a DMARC record")
	}
}
