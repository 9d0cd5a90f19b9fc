// SPDX-License-Identifier: BSD-2-Clause

// Package keep has what a script remembers from one call to the next: counters and
// memories. They belong to their names and outlive configurations. All of them are bounded:
// what was not written for the longest time is dropped first. A memory can also be kept on
// disk, and shared with other gateways over memcached.
//
// On disk there is one SQLite file, "script.db" in the state directory, with one table:
// memory, key, value and end of life. It is written in the background once a second, so a
// crash loses what was written in the last second. A file that cannot be read is renamed,
// and a new one begun: what is lost is knowledge, and no mail waits for it.
package keep
