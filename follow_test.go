// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pointsTo is a step that says what the recipient stands for.
func pointsTo(names ...string) Step {
	var targets []Mailbox
	for _, n := range names {
		targets = append(targets, Mailbox{Path: n + "@inside.test", Local: n, Domain: "inside.test"})
	}
	return Step{Name: "aliases", Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
		return Verdict{}.FollowTo(nil, targets), nil
	})}
}

var (
	errDown  = errors.New("directory is down")
	full     = Verdict{Action: Tempfail, Code: 452, Enhanced: "4.2.2", Text: "full@inside.test is full", Reason: ReasonMailboxFull, Backend: "smtp:[10.0.0.5]:25"}
	gone     = Verdict{Action: Reject, Code: 551, Enhanced: "5.1.6", Text: "<gone@inside.test>: try new@inside.test", Reason: ReasonRefused}
	notHere  = Verdict{Action: Reject, Code: 550, Enhanced: "5.1.1", Text: "<dead@inside.test>: User unknown in u4711", Reason: ReasonUnknownUser}
	toTarget = map[string]Verdict{"good": valid, "dead": notHere, "full": full, "gone": gone, "taken": {Action: Accept}, "quiet": {}}
)

// backends answers for targets and keeps who was asked.
func backends(asked *[]string) Step {
	return Step{Name: "existence", Check: CheckFunc(func(ctx context.Context, q *Query) (Verdict, error) {
		*asked = append(*asked, q.Target.Local)
		switch {
		case q.NextHop != (NextHop{}):
			return Verdict{}, errors.New("the next hop belongs to another address")
		case q.Target.Local == "broken":
			return Verdict{}, errDown
		case q.Target.Local == "silent":
			<-ctx.Done()
			return Verdict{}, ctx.Err()
		}
		return toTarget[q.Target.Local], nil
	})}
}

func TestFollow(t *testing.T) {
	for _, tc := range []struct {
		targets, asked string
		code           int // 0: taken
		reason         Reason
	}{
		{"good", "good", 0, ReasonValid},
		{"dead", "dead", 550, ReasonUnknownUser},
		{"dead good full", "dead good", 0, ReasonValid},
		{"good dead", "good", 0, ReasonValid},
		{"taken dead", "taken", 0, ""},
		{"quiet dead", "quiet", 0, ""},
		{"dead gone", "dead gone", 550, ReasonUnknownUser},
		{"gone dead", "gone dead", 551, ReasonRefused},
		{"dead full gone", "dead full gone", 452, ReasonMailboxFull},
		{"dead broken", "dead broken", 451, ReasonError},
		{"broken good", "broken good", 0, ReasonValid},
	} {
		t.Run(tc.targets, func(t *testing.T) {
			var asked []string
			chain := &Chain{Deadline: time.Hour, Steps: []Step{pointsTo(strings.Fields(tc.targets)...), backends(&asked)}}
			q := Query{Recipient: Mailbox{Path: "list@x.test"}, NextHop: NextHop{Host: "[10.0.0.1]"}}
			v, err := chain.Check(context.Background(), &q)
			if err != nil || v.Reason != tc.reason || v.Action.Refuses() != (tc.code != 0) || (tc.code != 0 && v.Code != tc.code) {
				t.Errorf("got %+v, %v", v, err)
			}
			if got := strings.Join(asked, " "); got != tc.asked {
				t.Errorf("asked %q, want %q", got, tc.asked)
			}
			if v.Action.Refuses() && strings.ContainsAny(v.Text, "@<") {
				t.Errorf("the reply names the target: %q", v.Text)
			}
			if v.Action.Refuses() && strings.Contains(v.Text, "u4711") {
				t.Errorf("the reply has the server's words: %q", v.Text)
			}
			if q.Recipient.Path != "list@x.test" || q.NextHop.Host == "" {
				t.Errorf("the query was changed: %+v", q)
			}
		})
	}
}

func TestFollowTraces(t *testing.T) {
	var asked []string
	chain := &Chain{Steps: []Step{pointsTo("dead", "good"), backends(&asked), {Name: "quota", Check: says(nothing)}}}
	q := Query{Trace: Trace{Explain: true}}
	_, _ = chain.Check(context.Background(), &q)
	var got []string
	for _, s := range q.Trace.Steps {
		got = append(got, fmt.Sprintf("%s %s %s", s.Name, s.Target, s.Verdict.Action))
	}
	want := []string{"aliases  continue", "existence dead@inside.test reject", "existence good@inside.test continue", "quota good@inside.test continue"}
	if !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	if q.Trace.Steps[1].Verdict.Text != notHere.Text {
		t.Errorf("the trace lacks the server's own words: %+v", q.Trace.Steps[1].Verdict)
	}
	if q.Target.Local != "good" {
		t.Errorf("decided by %q", q.Target.Path)
	}
}

func TestFollowBounds(t *testing.T) {
	names := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("n%d", i))
		}
		return list
	}
	refuse := func(n *int) Step {
		return Step{Name: "existence", Check: CheckFunc(func(context.Context, *Query) (Verdict, error) {
			*n++
			return notHere, nil
		})}
	}
	for _, tc := range []struct {
		steps   []Step
		asked   int
		refused bool
	}{
		{[]Step{pointsTo(names(MaxTargets)...)}, MaxTargets, true},
		{[]Step{pointsTo(names(MaxTargets + 1)...)}, 0, false},
		{[]Step{pointsTo("a", "b"), pointsTo("c", "d")}, 4, true},
		{[]Step{pointsTo(names(8)...), pointsTo(names(3)...)}, 6, false}, // two of the eight, then no more
		{[]Step{pointsTo()}, 1, true},                                    // nobody to follow: the recipient itself
	} {
		n := 0
		q := Query{Trace: Trace{Explain: true}}
		v, _ := (&Chain{Steps: append(tc.steps, refuse(&n))}).Check(context.Background(), &q)
		if n != tc.asked || v.Action.Refuses() != tc.refused {
			t.Errorf("%d steps: asked %d, want %d; %+v", len(tc.steps), n, tc.asked, v)
		}
		if n == 0 && len(q.Trace.Steps[0].Notes) != 1 {
			t.Errorf("nothing says why: %+v", q.Trace.Steps)
		}
	}
}

func TestFollowOnlyAfterContinue(t *testing.T) {
	for _, say := range []func() (Verdict, error){
		func() (Verdict, error) { return unknown, nil },
		func() (Verdict, error) { return Verdict{}, errDown },
	} {
		step := Step{OnError: func(*Query, error) Verdict { return nothing }, Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
			v, err := say()
			return v.FollowTo(nil, []Mailbox{{Local: "a"}}), err
		})}
		q := Query{Target: Mailbox{Local: "list"}}
		_, _ = (&Chain{Steps: []Step{step, {Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
			if q.Target.Local != "list" {
				t.Errorf("asked about %q", q.Target.Local)
			}
			return nothing, nil
		})}}}).Check(context.Background(), &q)
	}
}

// TestFollowRehearses holds that a target whose domain is rehearsed keeps nobody out.
func TestFollowRehearses(t *testing.T) {
	for _, tc := range []struct {
		targets string
		action  Action
		would   Action
	}{
		{"dead", Continue, Reject}, {"gone dead", Continue, Reject}, {"dead good", Continue, Continue}, {"full dead", Continue, Tempfail}, {"gone", Reject, Continue},
	} {
		var asked []string
		chain := &Chain{
			Steps:    []Step{pointsTo(strings.Fields(tc.targets)...), backends(&asked)},
			Rehearse: func(q *Query) bool { return q.Target.Local == "dead" },
		}
		v, _ := chain.Check(context.Background(), &Query{})
		if v.Action != tc.action || v.Would != tc.would {
			t.Errorf("%s: %+v", tc.targets, v)
		}
	}
}

// TestFollowEnforces holds that a refusal of a step that enforces keeps an alias out where the gate
// rehearses, and one that the step itself rehearses does not, nor does it hide another target.
func TestFollowEnforces(t *testing.T) {
	full := Verdict{Action: Tempfail, Code: 452, Reason: ReasonMailboxFull}
	firm, loose := full, full
	firm.Enforce = true
	loose.Would, loose.Action = Tempfail, Continue
	for name, tc := range map[string]struct {
		says          Verdict
		rehearse      bool
		action, would Action
	}{
		"a rehearsing gate": {full, true, Continue, Tempfail}, "a step that enforces": {firm, true, Tempfail, Continue}, "a step that rehearses": {loose, false, Continue, Tempfail},
	} {
		quota := CheckFunc(func(context.Context, *Query) (Verdict, error) { return tc.says, nil })
		v, _ := (&Chain{Steps: []Step{pointsTo("one", "two"), {Name: "quota", Check: quota}}, Rehearse: func(*Query) bool { return tc.rehearse }}).Check(context.Background(), &Query{})
		if v.Action != tc.action || v.Would != tc.would {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestFollowSharesTheTime holds that a silent server does not use up the time of the others.
func TestFollowSharesTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			targets string
			took    time.Duration
			action  Action
		}{
			{"silent good", 4 * time.Second, Continue},
			{"silent silent good dead", 4 * time.Second, Continue}, // a quarter, a third of the rest
			{"silent dead", 4 * time.Second, Tempfail},
			{"silent", 8 * time.Second, Tempfail},
		} {
			var asked []string
			start := time.Now()
			v, _ := (&Chain{Deadline: 8 * time.Second, Steps: []Step{pointsTo(strings.Fields(tc.targets)...), backends(&asked)}}).Check(context.Background(), &Query{})
			if took := time.Since(start); took != tc.took || v.Action != tc.action {
				t.Errorf("%s: %v after %v", tc.targets, v.Action, took)
			}
		}
	})
}

// A mailbox that is known to exist is not asked for, but a later step (quota) still sees it; those that are not known
// come after, and only if it is refused.
func TestFollowKnown(t *testing.T) {
	known := []Mailbox{{Path: "ann", Local: "ann"}}
	others := []Mailbox{{Path: "good@inside.test", Local: "good", Domain: "inside.test"}}
	for _, tc := range []struct {
		full, existence, quota string // who is full, who was asked what
		code                   int
	}{
		{"", "", "ann", 0},
		{"ann", "good", "ann good", 0},
		{"ann good", "good", "ann good", 452},
	} {
		var existence, quota []string
		chain := &Chain{Steps: []Step{
			{Name: "aliases", Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
				return Verdict{Reason: ReasonLocal}.FollowTo(known, others), nil
			})},
			{Name: "existence", Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
				if !q.Known {
					existence = append(existence, q.Target.Local)
				}
				return Verdict{}, nil
			})},
			{Name: "quota", Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
				quota = append(quota, q.Target.Local)
				if slices.Contains(strings.Fields(tc.full), q.Target.Local) {
					return full, nil
				}
				return Verdict{}, nil
			})},
		}}
		q := Query{Recipient: Mailbox{Path: "list@x.test"}}
		v, _ := chain.Check(context.Background(), &q)
		if strings.Join(existence, " ") != tc.existence || strings.Join(quota, " ") != tc.quota || v.Action.Refuses() != (tc.code != 0) || (tc.code != 0 && v.Code != tc.code) || q.Known {
			t.Errorf("full %q: asked for existence %q, for room %q: %+v", tc.full, existence, quota, v)
		}
		if tc.code == 0 && v.Reason != ReasonLocal {
			t.Errorf("full %q: reason %q", tc.full, v.Reason)
		}
	}
}

// TestFollowStartsNoGoroutine holds that a recipient with several targets, which may all be
// remembered, is answered on the goroutine that asks.
func TestFollowStartsNoGoroutine(t *testing.T) {
	self, asked := goroutine(), 0
	c := &Chain{Deadline: time.Minute, Steps: []Step{pointsTo("a", "b"), {Name: "existence", Check: CheckFunc(func(context.Context, *Query) (Verdict, error) {
		if asked++; goroutine() != self {
			t.Errorf("a target is asked about on %s, not on %s", goroutine(), self)
		}
		return unknown, nil
	})}}}
	if v, _ := c.Check(t.Context(), &Query{}); v.Action != Reject || asked != 2 {
		t.Fatalf("%+v, %d targets asked about", v, asked)
	}
}

// goroutine names the one that runs: "goroutine 7".
func goroutine() string {
	trace := make([]byte, 64)
	name, _, _ := strings.Cut(string(trace[:runtime.Stack(trace, false)]), " [")
	return name
}
