// SPDX-License-Identifier: BSD-2-Clause

// Package dovecot asks a Dovecot how much room a mailbox has, over two of its protocols:
//
//   - quota-status, a Postfix policy service (Postfix SMTPD_POLICY_README; Dovecot's manual,
//     "Quota Service"), which says yes or no about one size;
//   - the doveadm protocol with the command "quota get" (doveadm-quota(1)), which gives
//     numbers, on a socket that needs no password.
//
// Limits: a reply has at most 64 KiB. A [Pool] keeps two connections, because each holds a
// process of Dovecot's.
package dovecot
