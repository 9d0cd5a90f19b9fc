// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"strings"

	"rcptgate/mail"
)

// providers are the domains that reports are sent from, and whose they are.
var providers = []struct{ domain, name string }{
	{"aol.net", "AOL"}, {"aol.com", "AOL"}, {"arf.mail.yahoo.com", "Yahoo"}, {"cc.yahoo-inc.com", "Yahoo"}, {"yahoo-inc.com", "Yahoo"}, {"yahooinc.com", "Yahoo"}, {"yahoo.com", "Yahoo"},
	{"hotmail.com", "Microsoft"}, {"outlook.com", "Microsoft"}, {"microsoft.com", "Microsoft"}, {"live.com", "Microsoft"},
	{"abusix.com", "Abusix"}, {"abusix.org", "Abusix"}, {"spamcop.net", "SpamCop"}, {"validity.com", "Validity"}, {"returnpath.net", "Validity"}, {"senderscore.net", "Validity"}, {"fbl.returnpath.net", "Validity"},
	{"comcast.net", "Comcast"}, {"cox.net", "Cox"}, {"rackspace.com", "Rackspace"}, {"emailsrvr.com", "Rackspace"}, {"terra.com", "Terra"}, {"bluetie.com", "BlueTie"}, {"fastmail.com", "Fastmail"},
	{"linkedin.com", "LinkedIn"}, {"163.com", "Netease"}, {"126.com", "Netease"}, {"yeah.net", "Netease"}, {"mail.ru", "Mail.Ru"}, {"corp.mail.ru", "Mail.Ru"}, {"yandex.ru", "Yandex"},
	{"laposte.net", "La Poste"}, {"orange.fr", "Orange"}, {"signal-spam.fr", "Signal Spam"}, {"swisscom.com", "Swisscom"}, {"libero.it", "Libero"}, {"telstra.com", "Telstra"}, {"usa.net", "USA.NET"},
	{"amazonses.com", "Amazon SES"}, {"complaints.email-abuse.amazonses.com", "Amazon SES"}, {"zoho.com", "Zoho"}, {"icloud.com", "Apple"}, {"apple.com", "Apple"},
}

// provider says who sent a report, by the domain of its From field.
func provider(h mail.Header) string {
	from := strings.ToLower(unbracket(h.Value("From")))
	_, domain, _ := strings.Cut(from, "@")
	best, length := "", 0
	for _, p := range providers {
		if (domain == p.domain || strings.HasSuffix(domain, "."+p.domain)) && len(p.domain) > length {
			best, length = p.name, len(p.domain)
		}
	}
	return best
}
