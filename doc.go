// SPDX-License-Identifier: BSD-2-Clause

// Package rcptgate answers one question for a mail gateway while the sending
// server is still connected: will this recipient's mailbox take this message?
//
// A front (front/milter) turns what the MTA says into a [Query] and
// puts it to the [Gate]. The gate runs a [Chain] of checks in the fixed order
//
//	syntax → trusted → aliases → existence
//
// and gives back one [Verdict]. Whatever the steps said, and how long they took,
// is in the query's [Trace], the one source of the decision log, the metrics, the
// dashboard and "rcptgate check".
//
// The package holds the words that all others share and depends on the standard
// library alone. It knows no protocol, no file and no network.
package rcptgate
