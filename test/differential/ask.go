// SPDX-License-Identifier: BSD-2-Clause

package differential

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rcptgate/test/lab"
)

// Fate is what the MTA alone does with a message for a recipient.
type Fate string

// The fates. A message for several mailboxes is delivered if one of them gets it.
const (
	Delivered Fate = "delivered" // to a mailbox, a program, a file, or the server behind; or thrown away on purpose
	Bounced   Fate = "bounced"   // accepted, and not delivered
	Deferred  Fate = "deferred"  // accepted and tried again later, or refused with 4xx
	Refused   Fate = "refused"   // refused with 5xx
	Held      Fate = "held"      // accepted and quarantined
)

// perSession is how many transactions share a session: MTAs lose patience with long ones.
const perSession = 40

// logLimit bounds the wait for the MTA to be done with all messages.
const logLimit = 2 * time.Minute

// Outcome is what came of one recipient.
type Outcome struct {
	Recipient string
	Alone     Fate
	Gated     lab.Reply
	// Reason is the stable word of the gate's decision, "" if the MTA did not ask it.
	Reason string
	// Lines are the MTA's own log lines of the message that it got without the gate.
	Lines []string
}

// logReader knows the log of an MTA.
type logReader interface {
	// queueID finds the queue id in the reply to the end of a message.
	queueID(reply lab.Reply) string
	// fate returns what the lines of one message say, "" if the MTA is not done with it, and the ids of messages that it
	// was turned into.
	fate(lines []string) (f Fate, next []string)
}

// Ask puts the recipients of a world to its MTA, alone and with the gate.
func (b *Bench) Ask(t testing.TB, w *World) []Outcome {
	t.Helper()
	w.fill()
	f := b.start(t, w)
	b.gate.Fresh(b.config(w, f))
	outcomes := make([]Outcome, len(w.Recipients))
	ids := make([]string, len(w.Recipients))
	b.transactions(t, f.alone, w.Recipients, func(i int, d *lab.Dialogue, r lab.Reply) {
		outcomes[i].Recipient = w.Recipients[i]
		switch r.Code / 100 {
		case 5:
			outcomes[i].Alone, outcomes[i].Lines = Refused, []string{r.String()}
		case 4:
			outcomes[i].Alone, outcomes[i].Lines = Deferred, []string{r.String()}
		default:
			end := d.Data(t, "hello")
			if ids[i] = f.reader.queueID(end); ids[i] == "" { // refused at its end
				outcomes[i].Alone, outcomes[i].Lines = map[int]Fate{4: Deferred, 5: Bounced}[end.Code/100], []string{end.String()}
			}
		}
	})
	var again []int
	gated := func(i int, _ *lab.Dialogue, r lab.Reply) { outcomes[i].Gated = r }
	b.transactions(t, f.gated, w.Recipients, gated)
	await(t, f, ids, outcomes)
	for i, o := range outcomes {
		if o.Gated.Code/100 == 4 && o.Alone != Deferred {
			again = append(again, i)
		}
	}
	if len(again) > 0 { // a table that was still being read, a busy machine: 4xx asks for another try
		time.Sleep(time.Second)
		b.transactions(t, f.gated, pick(w.Recipients, again), func(i int, d *lab.Dialogue, r lab.Reply) { gated(again[i], d, r) })
	}
	b.explain(t, outcomes)
	return outcomes
}

func pick(list []string, which []int) (picked []string) {
	for _, i := range which {
		picked = append(picked, list[i])
	}
	return picked
}

// transactions begins one transaction for each recipient, and calls then with the reply to RCPT.
func (b *Bench) transactions(t testing.TB, addr string, recipients []string, then func(i int, d *lab.Dialogue, r lab.Reply)) {
	t.Helper()
	var d *lab.Dialogue
	for i, recipient := range recipients {
		if i%perSession == 0 {
			if d != nil {
				d.Close()
			}
			d = lab.MustDial(t, addr)
		}
		d.Must(t, 250, d.Rset(t))
		d.Must(t, 250, d.Do(t, "MAIL FROM:<>"+smtputf8(recipient)))
		then(i, d, d.Rcpt(t, recipient))
	}
	if d != nil {
		d.Close()
	}
}

// smtputf8 is the parameter of MAIL that a recipient beyond ASCII needs (RFC 6531).
func smtputf8(recipient string) string {
	if strings.ContainsFunc(recipient, func(r rune) bool { return r > 127 }) {
		return " SMTPUTF8"
	}
	return ""
}

// await waits until the MTA is done with all messages, and notes their fates.
func await(t testing.TB, f *front, ids []string, outcomes []Outcome) {
	t.Helper()
	settled := false
	for end := time.Now().Add(logLimit); ; time.Sleep(50 * time.Millisecond) {
		lines := byQueueID(f.log())
		open, deferred := 0, false
		for i, id := range ids {
			if id == "" {
				continue
			}
			outcomes[i].Alone, outcomes[i].Lines = follow(f.reader, lines, id, 0)
			if outcomes[i].Alone == "" {
				open++
			}
			deferred = deferred || outcomes[i].Alone == Deferred
		}
		if open == 0 {
			if !deferred || settled {
				return
			}
			settled = true
			time.Sleep(time.Second) // the next host, or another recipient of the message, may come after it
		}
		if time.Now().After(end) {
			t.Fatalf("the MTA is not done with %d messages after %v", open, logLimit)
		}
	}
}

// follow returns the fate of a message and of those that it was turned into, "" while it is not known.
func follow(r logReader, lines map[string][]string, id string, depth int) (Fate, []string) {
	if depth > 20 {
		return Bounced, nil
	}
	fate, next := r.fate(lines[id])
	all := lines[id]
	fates := []Fate{fate}
	if fate == "" {
		return "", all
	}
	for _, id := range next {
		f, more := follow(r, lines, id, depth+1)
		if f == "" {
			return "", all
		}
		fates, all = append(fates, f), append(all, more...)
	}
	return best(fates), all
}

// none is the fate of a message that only became others.
const none Fate = "none"

// best is the fate that counts: one delivery is enough, and one that is put off may still come.
func best(fates []Fate) Fate {
	for _, f := range []Fate{Delivered, Held, Deferred} {
		for _, got := range fates {
			if got == f {
				return f
			}
		}
	}
	return Bounced
}

var queueLine = regexp.MustCompile(`(?m)^.*?\[\d+\]: ([0-9A-Za-z]{6,20}): .*$`)

// byQueueID sorts log lines by the message that they are about.
func byQueueID(log string) map[string][]string {
	lines := map[string][]string{}
	for _, m := range queueLine.FindAllStringSubmatch(log, -1) {
		lines[m[1]] = append(lines[m[1]], m[0])
	}
	return lines
}

type postfixLog struct{}

var postfixQueued = regexp.MustCompile(`queued as (\w+)`)

func (postfixLog) queueID(r lab.Reply) string {
	if m := postfixQueued.FindStringSubmatch(r.Text()); m != nil {
		return m[1]
	}
	return ""
}

var postfixStatus = regexp.MustCompile(`status=(\w+) \((?:forwarded as (\w+))?`)

func (postfixLog) fate(lines []string) (Fate, []string) {
	var fates []Fate
	var next []string
	done := false
	for _, line := range lines {
		done = done || strings.HasSuffix(line, ": removed")
		m := postfixStatus.FindStringSubmatch(line)
		switch {
		case m == nil:
		case m[2] != "":
			fates, next = append(fates, none), append(next, m[2])
		default:
			f, known := map[string]Fate{"sent": Delivered, "bounced": Bounced, "deferred": Deferred}[m[1]]
			if !known {
				f = Fate("odd: " + m[1])
			}
			fates = append(fates, f)
			done = done || f == Deferred
		}
	}
	if !done {
		return "", nil
	}
	return best(fates), next
}

type sendmailLog struct{}

var sendmailQueued = regexp.MustCompile(`(?:^| )(\w+) Message accepted for delivery`)

func (sendmailLog) queueID(r lab.Reply) string {
	if m := sendmailQueued.FindStringSubmatch(r.Text()); m != nil {
		return m[1]
	}
	return ""
}

var sendmailStatus = regexp.MustCompile(`to=(.*?), .*stat=(\w+)`)

func (sendmailLog) fate(lines []string) (Fate, []string) {
	last := map[string]Fate{} // of each target: after a deferral the next host may have the last word
	done := false
	for _, line := range lines {
		done = done || strings.Contains(line, ": done; ")
		m := sendmailStatus.FindStringSubmatch(line)
		switch {
		case strings.Contains(line, "quarantine="):
			return Held, nil
		case m == nil:
		case m[2] == "Sent":
			last[m[1]] = Delivered
		case m[2] == "Deferred":
			last[m[1]], done = Deferred, true
		default:
			last[m[1]] = Bounced
		}
	}
	if !done {
		return "", nil
	}
	return best(slices.Collect(maps.Values(last))), nil
}

// Mismatch is how the gate's answer differs from what the MTA alone does.
type Mismatch string

// The mismatches.
const (
	Match    Mismatch = ""
	Lost     Mismatch = "lost"     // refused for good, although the MTA alone delivers or may still deliver
	Delayed  Mismatch = "delayed"  // put off, although the MTA alone delivers
	Accepted Mismatch = "accepted" // taken, and then bounced
)

// Compare judges an outcome.
func (o *Outcome) Compare() Mismatch {
	class := o.Gated.Code / 100
	switch o.Alone {
	case Delivered, Held:
		return map[int]Mismatch{5: Lost, 4: Delayed}[class]
	case Deferred:
		return map[int]Mismatch{5: Lost}[class]
	case Bounced:
		return map[int]Mismatch{2: Accepted, 4: Delayed}[class]
	}
	return Match
}

func (o *Outcome) String() string {
	return fmt.Sprintf("%s: the MTA alone: %s, with the gate: %s", o.Recipient, o.Alone, o.Gated)
}
