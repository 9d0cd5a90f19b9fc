// SPDX-License-Identifier: BSD-2-Clause

// Package blocklist keeps lists of clients that have done harm, each with its evidence and
// its end: a machine that sends one virus sends thousands. A listed client is refused when
// it names a recipient (or at MAIL, or when it connects); postmaster and abuse stay
// reachable.
//
// Whoever runs mail for many people sends a virus now and then, so a list is careful:
// trusted networks, this machine and the servers behind are never listed, and a listing ends
// by itself, an hour after the last evidence unless another time is set.
//
// Limits: a list has at most as many entries as entries says; those whose listing ends first
// make room. A question costs one look into a map that no writer locks.
package blocklist
