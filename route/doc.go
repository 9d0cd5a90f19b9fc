// SPDX-License-Identifier: BSD-2-Clause

// Package route knows which backend is responsible for a recipient. Nothing that
// this package does not name is ever called: verifying at a stranger's server is
// abuse and gets a gateway block-listed.
//
// The order is
//
//  1. the most specific [[domain]] section of the configuration: the domain itself,
//     then the longest ".suffix", then "*" ([Sections]);
//  2. the MTA's maps of next hops (mailertable, transport(5)), if what they say for the
//     address, the domain or a suffix of it is a host in brackets, or LMTP;
//  3. the MTA's own next hop ({rcpt_mailer}, {rcpt_host}), if it is in brackets and
//     the mailer speaks SMTP or LMTP (follow_mta = false turns this off).
//
// A section without backend uses the maps and the MTA's next hop under the same
// conditions, but counts as configured. "*" covers every domain whose next hop is in
// brackets. A recipient that the MTA delivers by itself (local, virtual, discard, a pipe)
// is not asked about, unless the section's mailers says so. An address literal is only
// followed if it has a section of its own.
//
// Brackets mean "no MX look-up", as in Postfix's transport(5) and Sendmail's
// mailertable. Without them, in a configured backend, the host's MX records are
// looked up; "mx" is the MX of the recipient's own domain. This follows RFC 5321 section
// 5.1: the implicit MX when there are no records, and without ourselves and every server
// of equal or larger preference number, which would send the mail back. A null MX (RFC
// 7505) names no server. At most 16 servers are used.
//
// [Router.Route] does no I/O and does not allocate for a route that was used before. DNS
// is asked in [Route.Backends] only, with a deadline of its own; at most 10,000 answers
// are kept, each for its TTL (5 s to 1 h; failures 30 s). While DNS is silent its last
// answer serves, for a day.
package route
