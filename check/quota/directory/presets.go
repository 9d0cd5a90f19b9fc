// SPDX-License-Identifier: BSD-2-Clause

package directory

// zero says what a limit of 0 means.
type zero string

const (
	zeroUnlimited zero = "unlimited"
	zeroFull      zero = "full"    // nothing may be stored
	zeroUnknown   zero = "unknown" // the schema does not say: the store decides
)

// syntax says how a schema writes limits.
type syntax uint8

const (
	plainNumber syntax = iota
	suffixed           // Sun: octets, or a number with K, M or G; -1 is unlimited, -2 the server's default
)

// condition is an attribute with one of two meanings.
type condition struct {
	attribute string
	value     string // in lower case; the attribute has it among its values
	negate    bool   // the attribute does not have it
}

// preset is how one schema describes mailboxes.
type preset struct {
	filter                      string
	limit, messages, host, user string
	unit                        string
	zero                        zero
	syntax                      syntax
	hostIsDN                    bool      // Exchange: /o=.../cn=Servers/cn=EX1
	full                        condition // the mailbox takes no more
	noLocal                     condition // there is no mailbox
	inherited                   condition // the limit is not the entry's own: not known here
}

// presets are the schemas whose attributes, units and zeros are documented: the products'
// own schema files and manuals, and what Dovecot is told by them. Where a schema does not
// say what 0 means, it means "unknown". Kolab is missing because nothing says in which unit
// its mailQuota is. The function gives a fresh table: nothing here changes at run time.
func presets() map[string]preset {
	return map[string]preset{
		// qmail-ldap's qmail.schema (1.3.6.1.4.1.7914), since 20030901.
		"qmail": {
			filter: "(|(mail={address})(mailAlternateAddress={address}))",
			limit:  "mailQuotaSize", messages: "mailQuotaCount", host: "mailHost", user: "uid", unit: "1B", zero: zeroUnlimited,
			noLocal: condition{attribute: "deliveryMode", value: "nolocal"},
		},
		// iRedMail tells Dovecot "*:bytes=" with its mailQuota, where 0 is unlimited.
		"iredmail": {
			filter: "(&(objectClass=mailUser)(|(mail={address})(shadowAddress={address})))",
			limit:  "mailQuota", messages: "mailQuotaMessageLimit", host: "mailHost", user: "mail", unit: "1B", zero: zeroUnlimited,
		},
		// Sun and Oracle, Messaging Server's Schema Reference: mailQuota, mailMsgQuota.
		"sun": {
			filter: "(|(mail={address})(mailAlternateAddress={address})(mailEquivalentAddress={address}))",
			limit:  "mailQuota", messages: "mailMsgQuota", host: "mailHost", user: "uid", unit: "1B", zero: zeroFull, syntax: suffixed,
			full: condition{attribute: "mailUserStatus", value: "overquota"},
		},
		// Netscape Messaging Server: the same attribute, and 0 means the opposite.
		"netscape": {
			filter: "(|(mail={address})(mailAlternateAddress={address}))",
			limit:  "mailQuota", host: "mailHost", user: "uid", unit: "1B", zero: zeroUnlimited,
		},
		// Zimbra: absent when it is inherited from the class of service.
		"zimbra": {
			filter: "(|(mail={address})(zimbraMailDeliveryAddress={address})(zimbraMailAlias={address}))",
			limit:  "zimbraMailQuota", host: "zimbraMailHost", user: "zimbraMailDeliveryAddress", unit: "1B", zero: zeroUnlimited,
		},
		// postfix-book.schema (1.3.6.1.4.1.29426): "Mail quota limit in kilobytes", as a text.
		"postfix-book": {
			filter: "(|(mail={address})(mailAlias={address}))",
			limit:  "mailQuota", user: "mail", unit: "1KiB", zero: zeroUnknown,
		},
		// Univention Corporate Server.
		"univention": {
			filter: "(|(mailPrimaryAddress={address})(mailAlternativeAddress={address}))",
			limit:  "univentionMailUserQuota", host: "univentionMailHomeServer", user: "mailPrimaryAddress", unit: "1MiB", zero: zeroUnknown,
		},
		// Kopano: "Hard quota size in MB", used only with the override.
		"kopano": {
			filter: "(|(mail={address})(kopanoAliases={address}))",
			limit:  "kopanoQuotaHard", user: "uid", unit: "1MiB", zero: zeroUnknown,
			inherited: condition{attribute: "kopanoQuotaOverride", value: "1", negate: true},
		},
		// Active Directory with Exchange: the limit that stops receiving, in KB.
		"ad": {
			filter: "(proxyAddresses=smtp:{address})",
			limit:  "mDBOverHardQuotaLimit", host: "msExchHomeServerName", user: "mail", unit: "1KiB", zero: zeroUnknown, hostIsDN: true,
			inherited: condition{attribute: "mDBUseDefaults", value: "true"},
		},
	}
}
