// SPDX-License-Identifier: BSD-2-Clause

// Package memcached keeps remembered answers in memcached servers, where all gateways
// in front of the same mailboxes find them.
//
// [Client] speaks to the servers: which one is responsible for a key (a consistent-hash
// ring as libketama has it), which ones are dead, how long a question may take, and the
// seal that proves which gateway wrote a value. [Store] keeps records, leases and the list of what
// was forgotten on top of it; it implements store.Shared.
//
// The protocol is memcached's text protocol (protocol.txt in its distribution): keys of
// at most 250 octets without spaces and control characters, expiry values beyond 30 days
// are absolute UNIX time, no authentication. What our keys and values look like is
// written in docs/memcached.md, so that other programs can read and write them.
//
// Limits: memcached cannot list what it holds. Values over 16 KiB are not read. A
// question takes at most 40 ms, after which the answer is sought elsewhere; a server
// that fails twice in a row, or refuses a connection, is left alone and tried again
// every second in the background, and the next one on the ring answers for it meanwhile.
package memcached
