// SPDX-License-Identifier: BSD-2-Clause

// Package pattern is the language in which rules, never-lists and scripts name senders,
// recipients, clients and host names.
//
// Addresses. Case never counts. "*" and "?" stand for any characters and for one, never for
// "@"; a slash at both ends makes a regular expression (RE2, linear in time) that is searched
// for in the canonical address, in lower case.
//
//	ann@example.org    this address; ann+news@example.org too, since the pattern has no detail
//	ann+x@example.org  this address with this detail
//	@example.org       every address of the domain
//	@.example.org      every address of a domain below it
//	ann@.example.org   ann at a domain below it
//	ann@               ann at any domain, or without one
//	ann@$local         ann at a local domain; @$local, or $local: everybody at one
//	*@*.example.org    a glob
//	*                  every address
//	/^[0-9]+@x\.org$/  a regular expression
//	<>                 the null reverse-path. No other pattern matches it
//
// Clients are addresses, networks, $trusted, $own and $backends. Host names are
// "mx.example.org", ".example.org" (everything below), globs, regular expressions and $own.
// Names (of users and mailers) are written out, globs and regular expressions.
//
// "list:NAME" is a list of such patterns, and of tables whose keys are patterns without
// globs. "!" before a pattern excludes: a [Set] matches if one of its other patterns
// matches, or if it has no others, and none of those with "!" does. Order means nothing.
//
// Limits: a pattern has at most 1,024 octets.
package pattern
