// SPDX-License-Identifier: BSD-2-Clause

// Package differential compares the gate with real Sendmail and Postfix over small worlds: tables, users, and a server
// behind that knows some names. Each recipient of a world is first put to the MTA alone, which gets a real message for it
// and delivers, bounces or defers it; then to the same MTA with the gate in front. Two things must hold:
//
//   - No recipient that the MTA alone delivers to is refused or put off with the gate.
//   - Every recipient that the gate accepts although the MTA then bounces is of a class that docs/operations.md names.
//
// The fixed worlds (fixed.go) hold one mistake each that was once made. Those that are not mended yet are in known.go,
// the one list of known mismatches: a listed one that starts to match fails the test, so the list can only become shorter.
// The random worlds (generate.go) come from seeds: some fixed ones in every test run, new ones for as long as
// RCPTGATE_DIFFERENTIAL says (make differential).
//
// Limits: root and Debian are required, as for all of test/lab. MTAs run without DNS. A recipient is one transaction with
// the null reverse-path.
package differential
