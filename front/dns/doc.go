// SPDX-License-Identifier: BSD-2-Clause

// Package dns serves the gate's blocklists as DNS zones (RFC 5782, "DNS Blacklists and
// Whitelists"), for Postfix's reject_rbl_client and postscreen, SpamAssassin and everything
// else that asks such zones.
//
// The name of a client is its octets, or for IPv6 its nibbles, in reverse order, below the
// zone. A listed one has an A record, a TXT record that says why and until when, and a time
// to live that ends no later than the listing. 127.0.0.2 and ::FFFF:7F00:2 are always listed
// and 127.0.0.1 never is, so that clients can test a zone (RFC 5782 section 5). A name that is
// the beginning of clients' names is empty, not absent: a resolver that asks label by label
// would conclude that nothing is below it (RFC 8020, RFC 9156).
//
// It answers for its zones only and asks no one (RFC 1035). An answer over UDP has at most 512
// octets, whatever EDNS allows (RFC 6891), and at most three times those of the question: what
// would have more says so and is asked for over TCP. So the server is of no use to those who
// forge the source of questions. ANY is answered with HINFO (RFC 8482), transfers of zones are
// refused.
//
// Names are answered in the case in which they were asked (draft-vixie-dnsext-dns0x20). No
// goroutine is started for a datagram, and none allocates.
package dns
