// SPDX-License-Identifier: BSD-2-Clause

// Package callahead answers the question of existence: what is remembered of a
// recipient, else what the responsible backend says to MAIL and RCPT.
//
// A question goes route → memory → verdict, and that is all for a remembered
// answer: no I/O, no goroutine, no lock that all questions share. Only when nothing
// serves is a probe started. It has a life of its own ([callahead] timeout), equal
// questions share it, and its answer is remembered even when nobody waits for it
// any more: an Exchange that tarpits refusals has still answered, and the sender
// will try again.
//
// What a reply means is decided in [Classify]; what becomes of what was known, in
// change; what the sender is told, in verdict. The rules that are easiest to get
// wrong, and stand in the code where they are enforced:
//
//   - Only a reply to RCPT after an accepted MAIL is about the recipient.
//   - A valid answer outlives a backend that is down, a full mailbox, greylisting,
//     and a directory that forgets everybody for ten minutes. It does not outlive its
//     expiry, however much it is used, nor confirmed "no such user" answers.
//   - A route that only the MTA named may be a smart host: there only "no such user"
//     and "mailbox full" keep mail out.
//   - 5xx answers that may be about us (relaying, our address, our name) are passed
//     on only when the backend has just taken somebody else in the same domain.
//
// Limits: at most 20,000 probes run at the same time, 8,192 refreshes wait for 32
// workers, of which one domain gets 8; evidence, windows and accept-all tests are kept
// for at most 10,000 domains.
package callahead
