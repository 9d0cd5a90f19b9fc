// SPDX-License-Identifier: BSD-2-Clause

// Package mailbox reads mail where it is stored, one message after the other: mbox files
// (mboxo, mboxrd and, where a Content-Length leads to the next message, mboxcl and mboxcl2),
// Maildir and Maildir++ folders, MH folders, single messages, and all files of these also
// compressed with gzip. Line ends may be LF, CRLF or a bare CR.
//
// It streams: a message is held up to a limit, of the rest only the size is known. What is
// damaged is reported and passed over; only a caller's error or the end of its context ends
// the reading early.
//
// Sources: RFC 4155 (mbox), mbox(5) of qmail and mutt for the variants, maildir(5),
// Courier's README.maildirquota for Maildir++, mh-folders(5) of nmh.
package mailbox
