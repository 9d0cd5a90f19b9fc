// SPDX-License-Identifier: BSD-2-Clause

// Package wire is the text protocol between the gateway and the quota agent on the mail store,
// both directions. It does no I/O.
//
// The plain form is one datagram or one line each way:
//
//	CHECK_QUOTA ann                    or: CHECK_QUOTA ann example.org
//	QUOTA_OK                           or: QUOTA_FULL
//
// The extended form has the same words, then fields. Values are percent-encoded (RFC 3986,
// section 2.1), unknown fields are ignored, a line has at most [MaxLine] octets:
//
//	CHECK_QUOTA ann@example.org size=48211 id=Qk3v0a9s8dPz7fGh t=1764316800 pad=.. key=g1 mac=<22>
//	QUOTA_FULL ann@example.org used=209700000 hard=209715200 age=3 id=Qk3v0a9s8dPz7fGh key=g1 mac=<22>
//	QUOTA_OK ... , QUOTA_UNKNOWN ann@example.org ... , QUOTA_ERROR ann@example.org why=timeout ...
//
// mac is the first 128 bits of HMAC-SHA-256 (RFC 2104) in base64url (RFC 4648, section 5)
// without padding, and is the last field. A request's is over "rcptgate quota 1 request", LF
// and the line before " mac=". A reply's is over "rcptgate quota 1 reply", LF, the request's
// mac and the line before " mac=", so a reply fits one request only. A reply is never longer
// than its request.
//
// Over HTTP the same answer is a CGI line ([AppendCGI]) or JSON ([AppendJSON]).
//
// Limits: a mailbox name is valid UTF-8 of at most 320 octets without control characters.
package wire
