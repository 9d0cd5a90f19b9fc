// SPDX-License-Identifier: BSD-2-Clause

// Package script is the check that asks the postmaster's own program: a file in Starlark
// whose functions connect, helo, sender, recipient and message are called at their stages.
// A function that is not there costs nothing: its stage is not asked for. Rules can call any
// other function of the file for single recipients.
//
// A file is read, compiled and run from top to bottom before its configuration becomes
// active; an error in it, with line and column, refuses the configuration. Changes take
// effect at a reload. Values at the top of the file do not change afterwards, so that any
// number of calls run at the same time.
//
// Bounds of one call: steps (about an operation each), the deadline of the stage, and the
// memory of all calls together; package star has those of single values. A call that exceeds
// one fails, and so does one with an error in it: it is then a temporary failure, or as if
// there were no script ([script] on_error). A call of more than a millisecond
// goes on in a lane, of which there are one fewer than processors, so that others are not
// slowed. Limit: a single operation of Starlark itself is not interrupted; comparisons, keys
// and what makes large values are bounded instead.
package script
