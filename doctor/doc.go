// SPDX-License-Identifier: BSD-2-Clause

// Package doctor finds out why mail for a domain goes astray. It joins what others look at
// one by one: DNS (MX, SPF, reverse names, how fast the resolver is), what the MTA's own files
// say of the domain (sendmail.cf, main.cf and the lists that they name), the gate's
// configuration, and the servers behind it. Each finding says what was seen and where, why it
// matters, and what to write instead.
//
// It changes nothing. Only DNS queries leave the machine, and SMTP dialogues with the servers
// that the gate's configuration names; a dialogue never reaches DATA.
//
// Sources: RFC 5321 (SMTP), RFC 7208 (SPF), RFC 7505 (null MX), RFC 7489 (DMARC), RFC 8461
// (MTA-STS); postconf(5); Sendmail Installation and Operation Guide, section 5; resolv.conf(5).
package doctor
