// SPDX-License-Identifier: BSD-2-Clause

// Package names shares the names of alias databases between gateways: a gateway that has
// the files publishes them in memcached, one that does not reads them there.
//
// A [Reader] is a table. memcached loses entries, so the set of names in it is never known
// to be whole: that a name is absent proves nothing, and neither does a memcached that
// cannot be asked. Copies of what it said are kept for a minute, of absent names for half a
// minute; a name that was found is served until its own end while memcached cannot be asked.
//
// A [Publisher] writes the names of tables, renews them before they end, and removes those
// that are gone from the tables. It keeps no list of what it has published: that is what its
// tables held when it last looked. See docs/decisions/0305-published-names.md.
package names
