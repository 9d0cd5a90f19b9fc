// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// hosts are the names below which a provider's MX hosts stand.
var hosts = []struct{ suffix, name, include string }{
	{"google.com", "Google Workspace", "_spf.google.com"}, {"googlemail.com", "Google Workspace", "_spf.google.com"},
	{"mail.protection.outlook.com", "Microsoft 365", "spf.protection.outlook.com"}, {"mx.microsoft", "Microsoft 365", "spf.protection.outlook.com"},
	{"zoho.com", "Zoho Mail", "zoho.com"}, {"zoho.eu", "Zoho Mail", "zoho.eu"}, {"messagingengine.com", "Fastmail", "spf.messagingengine.com"},
	{"protonmail.ch", "Proton Mail", "_spf.protonmail.ch"}, {"mail.icloud.com", "iCloud Mail", "icloud.com"}, {"mailbox.org", "mailbox.org", "mailbox.org"},
	{"pphosted.com", "Proofpoint", ""}, {"mimecast.com", "Mimecast", ""}, {"barracudanetworks.com", "Barracuda", ""}, {"secureserver.net", "GoDaddy", "secureserver.net"},
	{"emailsrvr.com", "Rackspace Email", "emailsrvr.com"}, {"yandex.net", "Yandex", "_spf.yandex.net"}, {"ovh.net", "OVH", "mx.ovh.com"}, {"one.com", "one.com", "_custspf.one.com"},
	{"gandi.net", "Gandi", "_mailcust.gandi.net"}, {"migadu.com", "Migadu", "spf.migadu.com"}, {"amazonaws.com", "Amazon SES", "amazonses.com"}, {"titan.email", "Titan", "spf.titan.email"},
}

// hostedAt says whose an MX host is, or "".
func hostedAt(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, h := range hosts {
		if host == h.suffix || strings.HasSuffix(host, "."+h.suffix) {
			return h.name
		}
	}
	return ""
}

// target is an MX host with its addresses.
type target struct {
	host  string
	ips   []netip.Addr
	alias bool
	err   error
}

// mx looks at a domain's MX records, and at what the MTAs here make of the domain.
func (d *Doctor) mx(ctx context.Context, domain string) {
	list, err := d.DNS.mx(ctx, domain)
	if err != nil {
		d.add(Finding{ID: "mx", Level: Unknown, Domain: domain, What: "the MX records cannot be read: " + err.Error()})
		return
	}
	places := d.places(domain)
	d.localTwice(domain)
	if len(list) == 1 && list[0].Mx == "." {
		d.nullMX(domain, places)
		return
	}
	if len(list) == 0 {
		if ips, _, err := d.DNS.addresses(ctx, domain); err == nil && len(ips) == 0 {
			d.add(Finding{ID: "mx-none", Level: Fail, Domain: domain, What: "DNS has neither an MX record nor an address record for the domain",
				Matters: "senders do not find the server: their mail comes back to them as undeliverable",
				Seen:    placeTexts(places), Do: []string{fmt.Sprintf("publish  %s. MX 10 HOST.  where HOST is the name of the server that takes the mail", domain)}})
			return
		}
		d.add(Finding{ID: "mx-none", Level: Note, Domain: domain, What: "there is no MX record: mail goes to the addresses of the domain itself (RFC 5321 section 5.1)"})
		list = []*dns.MX{{Mx: dns.Fqdn(domain)}}
	}
	var targets []target
	for _, mx := range list[:min(len(list), 20)] {
		t := target{host: strings.TrimSuffix(strings.ToLower(mx.Mx), ".")}
		t.ips, t.alias, t.err = d.DNS.addresses(ctx, mx.Mx)
		targets = append(targets, t)
		d.mxTarget(domain, &t)
	}
	d.whoseMX(domain, targets, places)
	d.mxLoop(domain, list, targets)
	d.promises(ctx, domain, list)
}

// places gives where the MTAs here name a domain as delivered by this machine.
func (d *Doctor) places(domain string) (out []Place) {
	for _, m := range d.MTAs {
		if m.elsewhere(domain) {
			continue
		}
		for _, p := range m.find(domain) {
			if p.local() {
				out = append(out, p)
			}
		}
	}
	return out
}

// localTwice finds a domain in two address classes of Postfix (ADDRESS_CLASS_README).
func (d *Doctor) localTwice(domain string) {
	for _, m := range d.MTAs {
		if m.Name != "Postfix" {
			continue
		}
		classes := map[string]bool{}
		var seen []string
		for _, p := range m.find(domain) {
			classes[p.Class] = true
			seen = append(seen, p.String())
		}
		if classes["mydestination"] {
			delete(classes, "relay_domains") // $mydestination was its default before Postfix 3.0, and does no harm
		}
		if len(classes) > 1 {
			d.add(Finding{ID: "local-twice", Level: Fail, Domain: domain, What: "Postfix has the domain in more than one class", Seen: seen,
				Matters: "which one counts depends on the order of Postfix's own look-ups", Do: []string{"keep one of the lines"}})
		}
	}
}

func (d *Doctor) nullMX(domain string, places []Place) {
	f := Finding{ID: "mx-null", Level: Note, Domain: domain, What: "the domain takes no mail (null MX, RFC 7505)"}
	if len(places) > 0 || d.hasSection(domain) {
		f.Level, f.What = Fail, "DNS says that the domain takes no mail (null MX, RFC 7505), but this machine does"
		f.Seen, f.Do = placeTexts(places), []string{"publish an MX record, or remove the domain here"}
	}
	d.add(f)
}

func placeTexts(places []Place) (out []string) {
	for _, p := range places {
		out = append(out, p.String())
	}
	return out
}

// mxTarget looks at one MX host.
func (d *Doctor) mxTarget(domain string, t *target) {
	f := Finding{ID: "mx-target", Level: Fail, Domain: domain, Seen: []string{fmt.Sprintf("%s. MX %s.", domain, t.host)}}
	_, literal := netip.ParseAddr(t.host)
	switch {
	case literal == nil:
		f.What, f.Do = "the MX is an address; it must be a name", []string{"publish a name with an address record, and that as MX"}
	case t.err != nil && len(t.ips) == 0:
		f.Level, f.What = Unknown, fmt.Sprintf("the addresses of MX %s cannot be read: %v", t.host, t.err)
	case len(t.ips) == 0:
		f.What, f.Matters = fmt.Sprintf("MX %s has no address", t.host), "mail waits at the senders until it is returned"
		f.Do = []string{fmt.Sprintf("publish  %s. A or AAAA, or remove the MX", t.host)}
	case t.alias:
		f.What, f.Matters = fmt.Sprintf("MX %s is an alias (CNAME)", t.host), "RFC 5321 section 5.1 forbids it; some senders do not follow it"
		f.Do = []string{"publish the name that the alias stands for as MX"}
	case slices.ContainsFunc(t.ips, isPrivate):
		f.What, f.Matters = fmt.Sprintf("MX %s has a private address: %v", t.host, t.ips), "nobody outside reaches it"
	default:
		f.Level, f.What, f.Seen = OK, fmt.Sprintf("MX %s has %v", t.host, t.ips), nil
	}
	d.add(f)
}

// isPrivate reports whether an address means nothing to other sites.
func isPrivate(ip netip.Addr) bool {
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
}

// whoseMX joins the MX hosts with what this machine thinks of the domain.
func (d *Doctor) whoseMX(domain string, targets []target, places []Place) {
	provider, ours := "", false
	var names []string
	for _, t := range targets {
		names = append(names, t.host)
		if provider == "" {
			provider = hostedAt(t.host)
		}
		ours = ours || t.host == d.Hostname || slices.ContainsFunc(t.ips, d.isSelf)
	}
	switch {
	case len(places) > 0 && !ours:
		d.mxElsewhere(domain, names, provider, places)
	case d.hasSection(domain) && !ours && provider == "":
		d.add(Finding{ID: "mx-not-us", Level: Warn, Domain: domain, What: "the gate has a section for the domain, but no MX points at this machine", Seen: []string{"MX " + strings.Join(names, ", ")},
			Matters: "mail for it does not pass here (another gateway may stand in front)"})
	case d.hasSection(domain) && !ours:
		d.add(Finding{ID: "mx-not-us", Level: Fail, Domain: domain, What: fmt.Sprintf("the gate has a section for the domain, but its mail goes to %s", provider), Seen: []string{"MX " + strings.Join(names, ", ")},
			Do: []string{fmt.Sprintf("remove the [[domain]] section %q, or publish this machine as MX", domain)}})
	case ours:
		d.ok("mx-elsewhere", domain, "an MX points at this machine")
	default:
		d.ok("mx-elsewhere", domain, "mail goes to "+strings.Join(names, ", ")+", and nothing here takes it")
	}
}

// mxElsewhere is the story of the web server: the domain's mail is hosted elsewhere, and this
// machine delivers its own forms' mail to itself.
func (d *Doctor) mxElsewhere(domain string, names []string, provider string, places []Place) {
	what := fmt.Sprintf("MX is %s, but this machine delivers %s itself", strings.Join(names, ", "), domain)
	if provider != "" {
		what = fmt.Sprintf("MX is %s (%s), but this machine delivers %s itself", names[0], provider, domain)
	}
	f := Finding{ID: "mx-elsewhere", Level: Fail, Domain: domain, What: what, Seen: placeTexts(places), Matters: "mail from this machine to the domain never reaches its mailboxes"}
	if provider == "" && d.FromIP.IsValid() && isPrivate(d.FromIP) {
		f.Level = Warn
		f.What += ", unless the MX is this machine's own address outside"
		f.Do = append(f.Do, fmt.Sprintf("this machine's address, %s, is private: name the one that others see with --from-ip", d.FromIP))
	}
	for _, p := range places {
		f.Do = append(f.Do, removal(p, domain))
	}
	f.Do = append(f.Do, strings.Replace(otherWay(places[0], domain), "[MX]", "["+names[0]+"]", 1))
	d.add(f)
}

// removal is the line to change for a place.
func removal(p Place, domain string) string {
	switch {
	case strings.HasPrefix(p.Class, "class ") && strings.HasSuffix(p.File, ".cf"):
		macro := map[bool]string{true: "LOCAL_DOMAIN", false: "VIRTUSER_DOMAIN"}[p.Class == "class w"]
		return fmt.Sprintf("Sendmail: take %s out of %s (%s, or %s in the .mc file), make sendmail.cf anew, restart", domain, p.Class, at(p), macro)
	case strings.HasPrefix(p.Class, "class "):
		return fmt.Sprintf("Sendmail: remove line %d of %s and restart", p.Line, p.File)
	case p.Class == "dc_other_hostnames":
		return fmt.Sprintf("Exim: take %s out of dc_other_hostnames (%s), run update-exim4.conf, restart exim4", domain, at(p))
	case p.Class == "local_domains":
		return fmt.Sprintf("Exim: take %s out of the domain list local_domains (%s), then restart Exim", domain, at(p))
	case p.Line > 0:
		return fmt.Sprintf("Postfix: take %s out of %s (%s), then postfix reload", domain, p.Class, at(p))
	}
	return fmt.Sprintf("Postfix: take %s out of %s (%s), run postmap, then postfix reload", domain, p.Class, p.File)
}

// at says where a place is, for a sentence.
func at(p Place) string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s, line %d", p.File, p.Line)
}

// otherWay is what to write instead, if the domain is to stay local.
func otherWay(p Place, domain string) string {
	recipe := " (docs/recipes.md, \"Mail hosted elsewhere\")"
	switch {
	case strings.HasPrefix(p.Class, "class "):
		return fmt.Sprintf("or keep it and add the bestmx rule for %s in LOCAL_RULE_0 of the .mc file%s", domain, recipe)
	case p.Class == "dc_other_hostnames", p.Class == "local_domains":
		return fmt.Sprintf("or keep it and add a dnslookup router for %s before the local ones%s", domain, recipe)
	}
	return fmt.Sprintf("or keep it and add to transport_maps: %s smtp:[MX]%s", domain, recipe)
}
