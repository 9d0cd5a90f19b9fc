// SPDX-License-Identifier: BSD-2-Clause

// Package rules decides who may write to whom while the client waits. It is asked about all
// mail, including that of authenticated and trusted clients.
//
// Three kinds of entry are asked in this order, and the first that matches decides: the
// Compat: keys of Sendmail's own access map, as FEATURE(compat_check) reads them (cf/README,
// section "Anti-spam configuration control"; cf/feature/compat_check.m4); files of pairs; and
// the [[rule]] sections, top to bottom. Patterns are those of package pattern.
//
// A table that cannot be read is an error if the answer depends on it, and the client hears
// a temporary refusal; compat_check would let the mail through. A rule can bring tests of its
// own, expect lines, which are checked before a configuration becomes active.
//
// Cost: rules are found by an index of their exact keys (index.go), pairs by one look-up for
// each form of key that occurs in the file (tables.go), and only if the sender may have a pair
// there. What depends on sender and client alone is found out once a message. A question that
// no pair matches allocates nothing.
package rules
