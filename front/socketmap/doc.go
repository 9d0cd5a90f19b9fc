// SPDX-License-Identifier: BSD-2-Clause

// Package socketmap answers look-ups of Sendmail and Postfix over the socket map protocol
// (Sendmail's Operations Guide, section 5.9, "socket"; Postfix's socketmap_table(5)). Each
// blocklist of the gate is a map of the list's name, whose keys are clients' addresses;
// units add more ([unit.Setup.Maps]).
//
//	12:virus 192.0.2.1,  a question: the map, a space, the key, as a netstring
//	OK REJECT 5.7.1 ...  the value
//	NOTFOUND             the key is not there, and the map is in order
//	TEMP why             no answer now
//
// What is never said: PERM, because Sendmail takes it for "not there" and lets the mail
// through; OK without a value, which ends a Sendmail 8.17 session; a value of digits alone,
// which is OK in Postfix's access(5).
//
// Limits: questions have at most 10,000 octets, as Postfix's; connections, silence and slow
// clients are bounded by the section [socketmap].
package socketmap
