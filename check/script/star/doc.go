// SPDX-License-Identifier: BSD-2-Clause

// Package star is what a script sees: the objects that its functions are given, what they
// give back, and the words that it may use. Everything is a value of Starlark
// (https://github.com/bazelbuild/starlark/blob/master/spec.md), made of a question to the
// gate ([rcptgate.Query]) while a function runs, and of nothing else afterwards.
//
// Addresses, of mailboxes and of hosts, are strings: "ann@example.org", "192.0.2.1". Their
// parts are attributes all the same (.local, .domain, .detail, .null, .is6): [Rewrite] makes
// calls of these, so that r.sender == "ann@example.org" means what it says.
//
// Bounds. Operations whose result can be much larger than what they are given, + and * and %
// of strings and lists, join, replace, format and extend, are checked by [Rewrite] too: a
// string has at most 4 MiB, a list 1,000,000 elements, a number 65,536 bits. What is printed
// or made JSON has at most 100,000 parts, 200 deep.
package star
