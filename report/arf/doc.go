// SPDX-License-Identifier: BSD-2-Clause

// Package arf finds complaints in mail: feedback reports in the Abuse Reporting Format, and
// what providers send instead. [Find] takes one message and gives its report in one shape,
// whatever the form:
//
//   - arf: RFC 5965, with RFC 6430 (not-spam), RFC 6591 (auth-failure) and RFC 6692 (Source-Port);
//   - arf-loose: a feedback report that is not where RFC 5965 has it, forwarded for example;
//   - jmrp: Microsoft's Junk Mail Reporting Program before 2025, a complaint with the original
//     attached and no report part;
//   - prose: a report in words with the original attached, as DMARC failure reports of some
//     hosts are;
//   - xarf: XARF in JSON (versions 3 and 4) or YAML (versions 0.1 and 0.2).
//
// What a report lacks is taken from the original message where that has it, and marked as
// derived ([Report.Derived]). Nothing that a report holds is left out: fields that are not
// known are kept in [Report.Extra], values that cannot be read are named in [Report.Problems].
package arf
