// SPDX-License-Identifier: BSD-2-Clause

// Package backend asks the mail servers behind the gateway about recipients.
//
// It is an SMTP and LMTP client (RFC 5321, RFC 2033) that never sends a message: a
// probe is MAIL and RCPT, and what the server says to RCPT is the result. With
// PIPELINING (RFC 2920) a probe on a kept connection is one write,
//
//	RSET, MAIL FROM:<>, RCPT TO:<user@example.com>
//
// and usually one read. STARTTLS is RFC 3207, SMTPUTF8 is RFC 6531, enhanced status
// codes are RFC 2034 and RFC 3463.
//
// A [Set] holds every [Backend] there is, made on demand from its [Address]. A
// Backend has three parts with methods, locks and tests of their own:
//
//   - pool keeps a bounded number of connections, the most recently used first, so that
//     few connections carry many probes, and the queue of probes that wait for one;
//   - breaker makes questions fail at once while a server does not answer, and runs
//     trials in the background;
//   - habits is what the server has been found unable to do.
//
// [Backend.Ask] returns a [Reply] only for an answer to RCPT after an accepted MAIL.
// Everything else is a [*Failure], which says nothing about the recipient.
//
// Limits: a reply has at most 100 lines of at most 2,048 octets; at most 4,096 probes
// (Config.Queue) wait for a connection; at most 10,000 backends are kept, the least
// recently used idle ones go first. BDAT, AUTH and client certificates are not spoken.
package backend
