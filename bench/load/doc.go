// SPDX-License-Identifier: BSD-2-Clause

// Package load asks a milter or an SMTP server one recipient after the other over several connections, as MTAs and
// sending servers do, and measures how many are answered a second and how long each answer takes.
//
// It is made to take as little of the machine as it can, because it shares it with what it measures, and an expensive
// generator flatters whatever is behind it: one thread with epoll(7) drives all connections, a question is one write and
// an answer one read, nothing is allocated between them, and what the thread used of its processor is part of the
// result ([Result.CPU]).
//
// Questions are sent as fast as answers come (one outstanding a connection), or at a fixed rate. At a fixed rate the
// latency counts from the moment a question was due and not from the moment it could be sent, so that a server that
// stops for a second is charged for every question of that second.
//
// The milter side is the MTA's, as Postfix speaks it (sendmail's libmilter/docs, Postfix's src/milter/milter8.c): each
// transaction is one MAIL with its macros and a number of RCPTs with theirs, macro and command in one write; replies
// that the filter has said it does not give are not waited for. The SMTP side is RFC 5321 without PIPELINING, one
// transaction of several RCPTs, then RSET.
//
// Limits: Linux, for epoll. Nothing is retried: a connection that fails is counted and stays out.
package load
