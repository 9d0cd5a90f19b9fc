// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import "time"

// Trace is what was said about one query: every step, how long it took and where
// the answer came from. It belongs to one query and is not safe for concurrent use.
type Trace struct {
	// Explain asks the checks for notes in words. It is off for the MTAs' questions:
	// notes cost more than the answer.
	Explain bool
	Started time.Time
	Elapsed time.Duration
	Steps   []TraceStep

	notes []string
}

// TraceStep is what one check said.
type TraceStep struct {
	Name string
	// Target is the mailbox that the step was asked about when that was one of several
	// or another than the recipient's: an alias's target. Empty for the question itself.
	Target  string
	Verdict Verdict
	Err     error // why the check could not find out; the verdict is then the configured one
	// Elapsed is how long the step took. Unless Explain is on, it is 0 for a step that
	// cannot have waited, and the next step has the microsecond: reading the clock costs
	// as much as such a step.
	Elapsed time.Duration
	Notes   []string // in words, for people; empty unless Explain
}

// Note adds a remark for people to the step that is running, when Explain is on.
// Callers that must format first test Explain themselves.
func (t *Trace) Note(text string) {
	if t.Explain {
		t.notes = append(t.notes, text)
	}
}

// Notes are the remarks of the step that is running.
func (t *Trace) Notes() []string { return t.notes }

// add appends what a step said, and gives the copy of its verdict that is kept.
func (t *Trace) add(name string, v *Verdict, err error, elapsed time.Duration) *Verdict {
	if len(t.Steps) < cap(t.Steps) {
		t.Steps = t.Steps[:len(t.Steps)+1]
	} else {
		t.Steps = append(t.Steps, TraceStep{})
	}
	s := &t.Steps[len(t.Steps)-1] // zero: reset has cleared it
	s.Name, s.Verdict, s.Err, s.Elapsed, s.Notes = name, *v, err, elapsed, t.notes
	t.notes = nil
	t.Elapsed += elapsed
	return &s.Verdict
}

func (t *Trace) reset() {
	clear(t.Steps)
	*t = Trace{Steps: t.Steps[:0]}
}

// merge takes over what was said about a target.
func (t *Trace) merge(target string, sub *Trace) {
	t.Elapsed += sub.Elapsed
	for _, step := range sub.Steps {
		if step.Target == "" {
			step.Target = target
		}
		t.Steps = append(t.Steps, step)
	}
}

// addNote adds a remark to the step that has just ended.
func (t *Trace) addNote(text string) {
	if t.Explain && len(t.Steps) > 0 {
		last := &t.Steps[len(t.Steps)-1]
		last.Notes = append(last.Notes, text)
	}
}
