// SPDX-License-Identifier: BSD-2-Clause

// Package mail takes messages apart as they are, not as they should be: header fields, MIME
// parts, names of attachments, encoded words. Nothing that it is given is an error; what is
// wrong with a message is said in words ([Message.Malformed]).
//
// It is one pass over the octets, linear in their number whatever the nesting, and bounded by
// [Limits]: nested multiparts with thousands of levels, parts without end and headers of
// megabytes cost no more than their octets. Fields, parts and values are slices of the
// message, so that what belongs to a part can be found and replaced in place.
//
// Sources: RFC 5322 (messages), RFC 2045 to 2047 (MIME), RFC 2183 (Content-Disposition), RFC
// 2231 (parameters in other character sets). Lines may end in LF, CRLF or a bare CR.
package mail
