// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"time"

	"rcptgate"
)

// Result is a verdict and its trace: what "rcptgate check --json" prints.
type Result struct {
	Recipient string `json:"recipient"`
	Target    string `json:"target,omitempty"` // the mailbox it is really about, if another
	Words
	Server    string  `json:"server,omitempty"` // of source, when several gateways share it
	Would     string  `json:"would,omitempty"`  // the action that rehearsal held back
	AgeS      *int64  `json:"age_s"`            // null unless the answer was remembered
	ExpiresS  *int64  `json:"expires_s"`
	ElapsedMS float64 `json:"elapsed_ms"`
	Trace     []Step  `json:"trace"`
	// Edits are the changes of a message that its steps propose, in words.
	Edits []string `json:"edits,omitempty"`
}

// Words are what a verdict and a step of its trace have in common.
type Words struct {
	Action   string `json:"action"`
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced"`
	Text     string `json:"text"`
	Reason   string `json:"reason"`
	Source   string `json:"source"`
	Backend  string `json:"backend"`
}

// Step is what one step of the chain said.
type Step struct {
	Step   string `json:"step"`
	Target string `json:"target,omitempty"` // the mailbox that it was asked about, if an alias's target
	Words
	ElapsedMS float64  `json:"elapsed_ms"`
	Error     string   `json:"error,omitempty"` // why it could not find out
	Notes     []string `json:"notes,omitempty"`
}

// NewResult describes the answer v to q, at the time now.
func NewResult(q *rcptgate.Query, v *rcptgate.Verdict, now time.Time) Result {
	r := Result{Recipient: q.Recipient.Path, Words: wordsOf(v), ElapsedMS: millis(q.Trace.Elapsed), Trace: []Step{}}
	if q.Target.Path != q.Recipient.Path {
		r.Target = q.Target.Path
	}
	if v.Would != rcptgate.Continue {
		r.Would = v.Would.String()
	}
	if !v.Learnt.IsZero() {
		age := seconds(max(now.Sub(v.Learnt), 0))
		r.AgeS = &age
	}
	if !v.Expires.IsZero() {
		left := seconds(v.Expires.Sub(now))
		r.ExpiresS = &left
	}
	if q.Message != nil {
		edits := q.Message.Edits()
		for i := range edits {
			r.Edits = append(r.Edits, edits[i].String())
		}
	}
	for i := range q.Trace.Steps {
		s := &q.Trace.Steps[i]
		step := Step{Step: s.Name, Target: s.Target, Words: wordsOf(&s.Verdict), ElapsedMS: millis(s.Elapsed), Notes: s.Notes}
		if s.Err != nil {
			step.Error = s.Err.Error()
		}
		r.Trace = append(r.Trace, step)
	}
	return r
}

func wordsOf(v *rcptgate.Verdict) Words {
	return Words{
		Action: v.Action.String(), Code: v.Code, Enhanced: v.Enhanced, Text: v.Text,
		Reason: string(v.Reason), Source: v.Source, Backend: v.Backend,
	}
}

func seconds(d time.Duration) int64 { return int64(d.Round(time.Second) / time.Second) }

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// when gives nil for the zero time, so that JSON has no year 1.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
