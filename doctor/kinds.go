// SPDX-License-Identifier: BSD-2-Clause

package doctor

// kind is what is right for an id of a finding, and where that is written.
type kind struct {
	expected string
	refs     []string
}

// kinds are the ids of findings.
func kinds() map[string]kind {
	return map[string]kind{
		"mx":                 {"the name servers answer", []string{"RFC 5321 section 5.1"}},
		"mx-none":            {"an MX record, or an address of the domain itself", []string{"RFC 5321 section 5.1"}},
		"mx-null":            {"a null MX only where no mail is taken", []string{"RFC 7505"}},
		"mx-elsewhere":       {"a domain is local only where its MX points", []string{"docs/recipes.md"}},
		"mx-not-us":          {"an MX of each [[domain]] section points at this machine", []string{"RFC 5321 section 5.1"}},
		"mx-target":          {"each MX is a name with a public address, not an alias", []string{"RFC 5321 section 5.1", "RFC 2181 section 10.3"}},
		"mx-loop":            {"backend = [\"mx\"] leaves a server other than this machine", []string{"RFC 5321 section 5.1"}},
		"local-twice":        {"a domain is in one address class", []string{"ADDRESS_CLASS_README"}},
		"mta-files":          {"every file that the MTA names can be read", nil},
		"spf":                {"the name servers answer", []string{"RFC 7208 section 4.4"}},
		"spf-none":           {"one SPF record", []string{"RFC 7208 section 3"}},
		"spf-many":           {"one SPF record", []string{"RFC 7208 section 4.5"}},
		"spf-syntax":         {"terms that RFC 7208 knows", []string{"RFC 7208 section 4.6.1"}},
		"spf-plusall":        {"~all or -all at the end", []string{"RFC 7208 section 5.1"}},
		"spf-ptr":            {"no ptr", []string{"RFC 7208 section 5.5"}},
		"spf-missing-us":     {"pass for this host's outgoing address", []string{"RFC 7208 section 2.6"}},
		"spf-lookups":        {"at most 10 look-ups", []string{"RFC 7208 section 4.6.4"}},
		"spf-void":           {"at most 2 look-ups that find nothing", []string{"RFC 7208 section 4.6.4"}},
		"dmarc":              {"one DMARC record", []string{"RFC 7489 section 6.1"}},
		"mta-sts":            {"the policy lists every MX", []string{"RFC 8461 section 4.1"}},
		"tlsrpt":             {"an address for reports where TLS is promised", []string{"RFC 8460 section 3"}},
		"dane":               {"TLSA records in a zone that is signed with DNSSEC", []string{"RFC 7672 section 2.2"}},
		"helo":               {"the name in EHLO is this machine's", []string{"RFC 5321 section 4.1.1.1"}},
		"ptr":                {"the name of the outgoing address leads back to it", []string{"RFC 1912 section 2.1"}},
		"dns-slow":           {"answers within 1 s", []string{"resolv.conf(5)"}},
		"lost-channel":       {"no client gives up after RCPT", []string{"docs/recipes.md"}},
		"backend-down":       {"the server takes connections", nil},
		"backend-smtp":       {"the server keeps up the dialogue", []string{"RFC 5321 section 3.8"}},
		"backend-greeting":   {"220", []string{"RFC 5321 section 4.2"}},
		"backend-ehlo":       {"250", []string{"RFC 5321 section 4.1.1.1"}},
		"backend-slow":       {"each step within 5 s", nil},
		"backend-loop":       {"a server other than this machine", []string{"RFC 5321 section 6.3"}},
		"backend-unknown":    {"a refusal of made-up names", []string{"RFC 5321 section 4.2.3"}},
		"backend-accept-all": {"a refusal of made-up names", []string{"RFC 5321 section 4.2.3"}},
		"backend-defers":     {"a refusal for good (5xx) of made-up names", []string{"RFC 5321 section 4.2.1"}},
		"backend-relay":      {"the server takes mail for the domain", nil},
		"backend-null":       {"MAIL FROM:<> is taken", []string{"RFC 5321 section 4.5.5"}},
		"backend-fallback":   {"the fallback sender is taken where MAIL FROM:<> is not", []string{"RFC 5321 section 4.5.1"}},
		"backend-reset":      {"a second transaction on the connection", []string{"RFC 5321 section 4.1.1.5"}},
		"backend-tls":        {"STARTTLS begins TLS", []string{"RFC 3207"}},
		"backend-cert":       {"a certificate that is valid for 14 days or more", []string{"RFC 5280"}},
		"backend-pipelining": {"PIPELINING", []string{"RFC 2920"}},
		"gate-config":        {"no warning of rcptgate config check", nil},
		"gate-rehearses":     {"enforce = true", nil},
		"gate-route":         {"a server to ask for each section", []string{"docs/operations.md"}},
		"gate-deadline":      {"the gate answers before the MTA stops waiting", []string{"docs/operations.md"}},
		"gate-milter":        {"the MTA asks the gate", nil},
		"gate-default":       {"mail waits while the gate is down", nil},
		"gate-chroot":        {"a socket where the MTA looks for it", nil},
		"policy-chroot":      {"a socket where the MTA looks for it", []string{"SMTPD_POLICY_README"}},
	}
}
