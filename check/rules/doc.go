// SPDX-License-Identifier: BSD-2-Clause

// Package rules decides who may write to whom, while the client waits. It is asked about
// everybody's mail, that of authenticated and trusted clients too.
//
// Three kinds stand in this order, and the first entry that matches decides: the Compat:
// keys of Sendmail's own access map, as FEATURE(compat_check) has them (cf/README, section
// "Anti-spam configuration control"; cf/feature/compat_check.m4); files of pairs; and the
// [[rule]] sections, top to bottom. Patterns are those of package pattern.
//
// Nothing found out is nothing decided: a table that cannot be read is an error, a temporary
// refusal, where compat_check lets the mail through. A rule carries its own tests, expect
// lines, which are checked before a configuration becomes active.
//
// Cost: rules are found by an index of their exact keys (index.go), pairs by one look-up for
// each form of key that occurs in the file (tables.go). A question that no pair matches
// allocates nothing.
package rules
