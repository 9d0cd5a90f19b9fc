// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// The policy file of MTA-STS is small, and is asked for once.
const (
	maxSTS  = 64 << 10
	stsTime = 10 * time.Second
)

// promises looks at what the domain promises about TLS: MTA-STS (RFC 8461), DANE (RFC 7672)
// and where reports about it go (RFC 8460).
func (d *Doctor) promises(ctx context.Context, domain string, list []*dns.MX) {
	sts := d.mtaSTS(ctx, domain, list)
	if d.dane(ctx, domain, list) || sts {
		d.tlsrpt(ctx, domain)
	}
}

// starting gives the text records of a name that begin with a version.
func (d *Doctor) starting(ctx context.Context, name, version string) (out []string, err error) {
	texts, err := d.DNS.txt(ctx, name)
	for _, s := range texts {
		if strings.HasPrefix(strings.ReplaceAll(s, " ", ""), version+";") {
			out = append(out, s)
		}
	}
	return out, err
}

// mtaSTS looks whether the policy lists every MX. It reports whether there is one.
func (d *Doctor) mtaSTS(ctx context.Context, domain string, list []*dns.MX) bool {
	records, err := d.starting(ctx, "_mta-sts."+domain, "v=STSv1")
	switch {
	case err != nil:
		d.add(Finding{ID: "mta-sts", Level: Unknown, Domain: domain, What: "the MTA-STS record cannot be read: " + err.Error()})
		return false
	case len(records) == 0:
		d.ok("mta-sts", domain, "there is no MTA-STS record")
		return false
	case len(records) > 1:
		d.add(Finding{ID: "mta-sts", Level: Warn, Domain: domain, What: fmt.Sprintf("there are %d MTA-STS records; senders ignore all (RFC 8461 section 3.1)", len(records)), Seen: records, Do: []string{"keep one of the records of _mta-sts." + domain}})
		return true
	case d.Fetch == nil:
		d.ok("mta-sts", domain, "there is an MTA-STS record; --https compares its policy with the MX records")
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, stsTime)
	defer cancel()
	url := "https://mta-sts." + domain + "/.well-known/mta-sts.txt"
	text, err := d.Fetch(ctx, url)
	if err != nil {
		d.add(Finding{ID: "mta-sts", Level: Warn, Domain: domain, What: fmt.Sprintf("the MTA-STS policy cannot be read: %v", err), Seen: []string{url, records[0]}, Matters: "senders that do not remember the policy deliver without it",
			Do: []string{"serve the policy at " + url + ", or remove the record of _mta-sts." + domain}})
		return true
	}
	d.comparePolicy(domain, url, text, list)
	return true
}

// comparePolicy looks for MX hosts that a policy does not list (RFC 8461 sections 3.2 and 4.1).
func (d *Doctor) comparePolicy(domain, url, text string, list []*dns.MX) {
	mode, patterns := "", []string(nil)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.ToLower(strings.TrimSpace(value)); strings.TrimSpace(name) {
		case "mode":
			mode = value
		case "mx":
			patterns = append(patterns, value)
		}
	}
	var missing, lines []string
	for _, mx := range list {
		host := strings.TrimSuffix(strings.ToLower(mx.Mx), ".")
		if !listed(host, patterns) {
			missing, lines = append(missing, host), append(lines, "mx: "+host)
		}
	}
	f := Finding{ID: "mta-sts", Domain: domain, Seen: []string{url}, What: fmt.Sprintf("the MTA-STS policy does not list %s", strings.Join(missing, ", ")), Do: append([]string{"add to the policy, and publish a new id in the record of _mta-sts." + domain + ":"}, lines...)}
	switch {
	case mode != "enforce" && mode != "testing" && mode != "none":
		f.Level, f.What, f.Do = Warn, fmt.Sprintf("the MTA-STS policy has the mode %q", mode), []string{"mode: enforce, testing or none"}
	case mode == "none" || len(missing) == 0:
		d.ok("mta-sts", domain, fmt.Sprintf("the MTA-STS policy (mode %s) fits the MX records", mode))
		return
	case mode == "testing":
		f.Level, f.Matters = Warn, "once the mode is enforce, senders do not deliver there"
	default:
		f.Level, f.Matters = Fail, "senders that follow the policy do not deliver there: mail stops"
	}
	d.add(f)
}

// listed reports whether a policy's patterns have a host; "*.example.com" is one label more.
func listed(host string, patterns []string) bool {
	for _, p := range patterns {
		if host == p {
			return true
		}
		if below, ok := strings.CutPrefix(p, "*"); ok {
			if label, ok := strings.CutSuffix(host, below); ok && label != "" && !strings.Contains(label, ".") {
				return true
			}
		}
	}
	return false
}

// dane looks whether TLSA records can be believed. It reports whether there are any.
func (d *Doctor) dane(ctx context.Context, domain string, list []*dns.MX) (found bool) {
	for _, mx := range list[:min(len(list), 5)] {
		name := "_25._tcp." + mx.Mx
		a := d.DNS.ask(ctx, name, dns.TypeTLSA)
		if len(records[*dns.TLSA](a)) == 0 {
			continue
		}
		found = true
		if a.signed {
			d.ok("dane", domain, strings.TrimSuffix(mx.Mx, ".")+" has TLSA records, signed with DNSSEC")
			continue
		}
		d.add(Finding{ID: "dane", Level: Note, Domain: domain, What: fmt.Sprintf("%s has TLSA records, but no resolver here says that DNSSEC holds for them", strings.TrimSuffix(mx.Mx, ".")), Seen: []string{name + " TLSA"},
			Matters: "without DNSSEC senders ignore them", Do: []string{"sign the zone, or ask a resolver that checks DNSSEC (--resolver)"}})
	}
	return found
}

// tlsrpt looks whether somebody hears of failures where TLS is promised.
func (d *Doctor) tlsrpt(ctx context.Context, domain string) {
	texts, err := d.starting(ctx, "_smtp._tls."+domain, "v=TLSRPTv1")
	switch {
	case err != nil:
		d.add(Finding{ID: "tlsrpt", Level: Unknown, Domain: domain, What: "the TLSRPT record cannot be read: " + err.Error()})
	case len(texts) == 0:
		d.add(Finding{ID: "tlsrpt", Level: Note, Domain: domain, What: "TLS is promised, but there is no TLSRPT record", Matters: "nobody hears of mail that is not delivered because of it",
			Do: []string{fmt.Sprintf(`publish  _smtp._tls.%s. TXT "v=TLSRPTv1; rua=mailto:postmaster@%s"`, domain, domain)}})
	default:
		d.ok("tlsrpt", domain, "there is a TLSRPT record")
	}
}

// fetchPolicy reads a policy over HTTPS. Redirects are not followed (RFC 8461 section 3.3).
func fetchPolicy(ctx context.Context, url string) (string, error) {
	return get(ctx, &http.Client{CheckRedirect: notFollowed}, url)
}

func notFollowed(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read-only
	if resp.StatusCode != http.StatusOK {
		return "", errors.New("the server says " + resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSTS))
	return string(text), err
}
