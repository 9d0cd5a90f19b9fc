// SPDX-License-Identifier: BSD-2-Clause

// Package harvest keeps whoever guesses names from learning which of them exist (a
// dictionary attack, directory harvesting). It counts what a client hears: "no such
// mailbox". Beyond a limit the client is still allowed to write to mailboxes that are
// remembered to exist, and hears "try again later" about everything else: names that do not
// exist, and names that a server would have to be asked about. So more guesses teach it
// nothing and cost the servers behind nothing, while a client that mails real users is not
// hurt.
//
// It is counted within a window and, for those who guess slowly, within a day; and for the
// /24 or IPv6 /48 around the client, for those who guess from many addresses. Put-off
// answers do not count: a client that stops hearing "no such mailbox" is free again when the
// window has passed.
//
// Limits: a hundred thousand clients and networks are counted; the one that has heard
// nothing for the longest time makes room. Trusted, authenticated clients, this machine and
// the servers behind are not counted.
package harvest
