// SPDX-License-Identifier: BSD-2-Clause

// Package callahead answers the question of existence: what is remembered of a
// recipient, else what the responsible backend says to MAIL and RCPT.
//
// A question goes route → memory → verdict, and that is all for a remembered
// answer: no I/O, no goroutine, no lock that all questions share. Only when nothing
// serves is a probe started. It has a life of its own ([callahead] timeout), equal
// questions share it, and its answer is remembered even when no caller waits for it
// any more: an Exchange that tarpits refusals has still answered, and the sender
// will try again.
//
// What a refusal means is found out by experiment (trial; docs/decisions/0306-classes.md),
// and read from code and words ([Classify]) where none is possible. What becomes of what
// was known is decided in change, what the sender hears in verdict. The rules that are
// easiest to get wrong, and stand in the code where they are enforced:
//
//   - Only a reply to RCPT after an accepted MAIL is about the recipient.
//   - A valid answer outlives a backend that is down, a full mailbox, greylisting,
//     and a directory that forgets everybody for ten minutes. It does not outlive its
//     expiry, however much it is used, nor confirmed "no such user" answers.
//   - A route that only the MTA named may be a smart host: there only "no such user"
//     and "mailbox full" keep mail out.
//   - A 5xx that may be about us (relaying, our address, our sender, a limit) is passed on
//     only when the backend takes other recipients of the same domain.
//   - What comes of a path that is not the canonical one is for its asker alone.
//
// Limits: at most 20,000 probes run at the same time, 8,192 refreshes wait for 32
// workers, of which one domain gets 8; what replies have turned out to mean,
// windows and accept-all tests are kept for at most 10,000 servers and domains.
package callahead
