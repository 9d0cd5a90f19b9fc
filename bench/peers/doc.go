// SPDX-License-Identifier: BSD-2-Clause

// Package peers measures other programs that verify recipients beside rcptgate, in one run on one machine: MIMEDefang
// with a filter that remembers in memcached, Postfix verify(8) and Exim's callouts, from Debian's packages.
//
// What speaks milter (an echo, rcptgate, MIMEDefang) is loaded directly over its socket; everything is loaded over SMTP
// too, the MTA's own cost included, where the same Postfix with no check and with an echo milter shows what the MTA
// itself costs. All are asked by the same generator (package bench/load), about recipients of the same backend
// (package backend/sim), over the same number of connections, one after the other in several rounds; the medians count.
//
// milter-ahead 1.14 is not in Debian; TestMilterAhead measures the one that RCPTGATE_MILTER_AHEAD names, in turns with
// rcptgate and the echo milter, in a table of its own.
//
// It is a Go test only in form, so that it can use the servers of test/lab: it asserts that every program gives right
// answers while it is measured, never a speed. It is not compiled without the build tag "peers"; "make bench-peers" runs
// it after bench/peers/install.sh. It needs root and Debian, and takes about ten minutes.
package peers
