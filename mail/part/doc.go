// SPDX-License-Identifier: BSD-2-Clause

// Package part is a step's view of a message: its header decoded, its MIME parts, their names
// and text. The body stays where the front keeps it; a part is a range of it, and what is
// read of it is bounded.
//
// A [View] belongs to one step and one message, as the message itself. Everything behind it
// was written by a stranger. Nothing that a message says is an error: what is wrong with it
// is a word, [View.Malformed]. Errors are those of reading the body.
//
// Not looked into: uuencoded and yEnc text, TNEF (winmail.dat), and bodies of multiparts and
// messages that are themselves encoded. The latter are malformed ("encoding").
package part
