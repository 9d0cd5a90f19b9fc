// SPDX-License-Identifier: BSD-2-Clause

// Package quotad is the quota agent: a small server on the mail store that answers how much
// room a mailbox has, over UDP, TCP and HTTP in the forms of package wire. It has no state of
// its own, writes nothing, and needs no rights but to read the mail store.
//
// A store is one way to find out: mbox, maildir, maildirsize (Maildir++ quota file; Courier's
// README.maildirquota), file (repquota(8) -O csv, or simple lines), exec, doveadm and policy
// (Dovecot). The first whose domains match is asked.
//
// Limits: an answer is kept for a second a mailbox. A store has four (files) or eight
// (others) questions in progress, each of two seconds; 256 questions in all. A disk that
// hangs holds its own questions only. See rcptgate-agent.toml(5).
package quotad
