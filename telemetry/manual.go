// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"fmt"
	"strings"

	"rcptgate"
)

// Manual describes the log for the manual page of the daemon, with the reasons that its
// decisions can have.
func Manual(reasons []rcptgate.ReasonDoc) string {
	var b strings.Builder
	b.WriteString(manual)
	b.WriteString("\n\nReasons:\n\n")
	for _, r := range reasons {
		fmt.Fprintf(&b, "    %-14s  %s\n", r.Reason, r.Doc)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const manual = `The log has one line for every decision, and lines about the daemon itself. A line consists
of key=value pairs (or, with format = "json", is one object). Keys without a value are left
out. A value with anything but printable ASCII, or with a space, a quote, "=" or a backslash,
is quoted as in Go; values are cut at 256 octets, texts at 512.

    time, level   on standard error only; syslog and the journal have their own
    msg           "decision"; "check" for a question of "rcptgate check", which is no mail and
                  which no metric counts; or what is reported about the daemon
    stage         connect, mail or message; left out for a recipient
    queue         the MTA's queue identifier, once it has one
    client        the client's address
    sender        the reverse-path; <> (in JSON an empty string) is the null sender
    recipient     the argument of RCPT TO
    target        the address that was asked about, if an alias or the MTA changed it
    action        continue, accept, reject, tempfail, discard (for this recipient),
                  discard_message or hold
    would         with enforce = false: the action that was not carried out
    code          the SMTP reply code of the answer
    enhanced      its enhanced status code (RFC 3463)
    reason        why, in one word; see below
    source        where the answer came from: ram, disk, memcached, probe, alias, ...
    backend       the server that gave it
    size, edits   of a message: the octets of its body, and the changes that steps proposed
    virus         the name of what a virus scanner found in the message, whatever the action
    unscanned     why no virus scanner has looked into it
    elapsed       milliseconds until the decision (elapsed_ms, a number, in JSON)
    text          what the sender sees, if the recipient is refused
    error         why something could not be found out

With target = "stderr" under systemd, standard error is the journal's: lines begin with their
priority in angle brackets, which the journal takes off ("journalctl -p warning"), and have
no time of their own. With target = "journald" each decision also has the fields RCPTGATE_QUEUE,
RCPTGATE_CLIENT, RCPTGATE_SENDER, RCPTGATE_RECIPIENT, RCPTGATE_TARGET, RCPTGATE_STAGE,
RCPTGATE_ACTION, RCPTGATE_WOULD, RCPTGATE_CODE, RCPTGATE_ENHANCED, RCPTGATE_REASON,
RCPTGATE_SOURCE and RCPTGATE_BACKEND ("journalctl RCPTGATE_ACTION=reject"). That costs one
system call a line, where standard error takes many lines in one.`
