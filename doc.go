// SPDX-License-Identifier: BSD-2-Clause

// Package rcptgate answers one question for a mail gateway while the sending
// server is still connected: will this recipient's mailbox take this message?
//
// A front (front/milter) turns what the MTA says into a [Query] and puts it to the [Gate]. The
// gate runs the [Chain] of the query's [Stage] and gives back one [Verdict]. The chain of a
// recipient has its steps in the fixed order
//
//	syntax → blocklists → rules → script → trusted → harvest → aliases → existence → quota
//
// Whatever the steps said, and how long they took, is in the query's [Trace], the one source of
// the decision log, the metrics, the status page and "rcptgate check".
//
// Addresses are those of RFC 5321 ([Mailbox]), reply codes those of its section 4.2, enhanced
// status codes those of RFC 3463. Sizes are octets. An error of a check means that it could not
// find out, and never "no".
//
// The package holds the words that all others share and depends on the standard
// library alone. It knows no protocol, no file and no network.
package rcptgate
