// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func says(v Verdict) Check {
	return CheckFunc(func(context.Context, *Query) (Verdict, error) { return v, nil })
}

func fails(err error) Check {
	return CheckFunc(func(context.Context, *Query) (Verdict, error) { return Verdict{}, err })
}

var (
	nothing = Verdict{}
	valid   = Verdict{Reason: ReasonValid, Code: 250, Source: SourceRAM}
	taken   = Verdict{Action: Accept, Reason: ReasonTrusted}
	unknown = Verdict{Action: Reject, Code: 550, Enhanced: "5.1.1", Text: "no", Reason: ReasonUnknownUser}
	dropped = Verdict{Action: DiscardRecipient, Reason: "rule:x"}
	held    = Verdict{Action: Hold, Reason: "rule:y"}
	would   = Verdict{Would: Reject, Code: 550, Reason: "rule:z"}
)

func TestChain(t *testing.T) {
	down := errors.New("directory is down")
	for _, tc := range []struct {
		name  string
		steps []Step
		want  Verdict
		asked int
	}{
		{"empty continues", nil, nothing, 0},
		{"the last reason is the chain's", []Step{{Check: says(valid)}, {Check: says(nothing)}}, valid, 2},
		{"a refusal ends it", []Step{{Check: says(unknown)}, {Check: says(valid)}}, unknown, 1},
		{"so does accept", []Step{{Check: says(taken)}, {Check: says(unknown)}}, taken, 1},
		{"so does a discard: the recipient is not asked about", []Step{{Check: says(dropped)}, {Check: says(unknown)}}, dropped, 1},
		{"a hold does not, and stands", []Step{{Check: says(held)}, {Check: says(valid)}}, held, 2},
		{"a hold alone", []Step{{Check: says(held)}}, held, 1},
		{"a hold stands before trust", []Step{{Check: says(held)}, {Check: says(taken)}}, held, 2},
		{"a refusal is stronger than a hold", []Step{{Check: says(held)}, {Check: says(unknown)}}, unknown, 2},
		{"so is a discard", []Step{{Check: says(held)}, {Check: says(dropped)}}, dropped, 2},
		{"what is rehearsed stands", []Step{{Check: says(would)}, {Check: says(valid)}}, would, 2},
		{"a refusal is stronger than what is rehearsed", []Step{{Check: says(would)}, {Check: says(unknown)}}, unknown, 2},
		{"a hold is stronger than what is rehearsed", []Step{{Check: says(would)}, {Check: says(held)}, {Check: says(valid)}}, held, 3},
		{"a hold stands over targets", []Step{
			{Check: says(held)}, {Check: says(Verdict{}.FollowTo(nil, []Mailbox{{Local: "a"}, {Local: "b"}}))}, {Check: says(valid)},
		}, held, 3},
		{"targets that are refused are stronger", []Step{
			{Check: says(held)}, {Check: says(Verdict{}.FollowTo(nil, []Mailbox{{Local: "a"}}))}, {Check: says(CouldNotFindOut)},
		}, CouldNotFindOut, 3},
		{"an error is not a no", []Step{{Check: fails(down)}, {Check: says(unknown)}}, couldNotFindOut(StageConnect), 1},
		{"an error has the configured verdict", []Step{
			{Check: fails(down), OnError: func(*Query, error) Verdict { return nothing }}, {Check: says(valid)},
		}, valid, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var q Query
			got, err := (&Chain{Steps: tc.steps}).Check(context.Background(), &q)
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
			if len(q.Trace.Steps) != tc.asked {
				t.Errorf("asked %d steps, want %d", len(q.Trace.Steps), tc.asked)
			}
		})
	}
}

func TestChainTraces(t *testing.T) {
	down := errors.New("directory is down")
	chain := &Chain{Steps: []Step{
		{Name: "first", Check: CheckFunc(func(_ context.Context, q *Query) (Verdict, error) {
			q.Trace.Note("asked nicely")
			return Verdict{}, nil
		})},
		{Name: "second", Check: fails(down)},
	}}
	q := Query{Trace: Trace{Explain: true}}
	if _, err := chain.Check(context.Background(), &q); err != nil {
		t.Fatal(err)
	}
	steps := q.Trace.Steps
	if len(steps) != 2 || steps[0].Name != "first" || steps[1].Name != "second" {
		t.Fatalf("steps = %+v", steps)
	}
	if len(steps[0].Notes) != 1 || len(steps[1].Notes) != 0 {
		t.Errorf("notes belong to the step that made them: %q, %q", steps[0].Notes, steps[1].Notes)
	}
	if !errors.Is(steps[1].Err, down) || steps[1].Verdict.Reason != ReasonError {
		t.Errorf("second step = %+v", steps[1])
	}
	q.Reset()
	if len(q.Trace.Steps) != 0 || q.Trace.Explain {
		t.Errorf("Reset left %+v", q.Trace)
	}
}

func TestChainDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := CheckFunc(func(ctx context.Context, _ *Query) (Verdict, error) {
			<-ctx.Done()
			return Verdict{}, ctx.Err()
		})
		start := time.Now()
		var q Query
		v, _ := (&Chain{Deadline: 8 * time.Second, Steps: []Step{{Check: slow}}}).Check(context.Background(), &q)
		if took := time.Since(start); took != 8*time.Second || v.Action != Tempfail {
			t.Errorf("answered %v after %v, want a tempfail after 8s", v.Action, took)
		}
		if !errors.Is(q.Trace.Steps[0].Err, context.DeadlineExceeded) {
			t.Errorf("error = %v", q.Trace.Steps[0].Err)
		}
	})
}

func TestLazyDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.Background())
		d := new(lazyDeadline)
		d.begin(parent, time.Now().Add(time.Second), 0)
		if d.Err() != nil {
			t.Error("over before it began")
		}
		time.Sleep(time.Second)
		if !errors.Is(d.Err(), context.DeadlineExceeded) {
			t.Errorf("Err without a timer = %v", d.Err())
		}
		early := new(lazyDeadline)
		early.begin(parent, time.Now().Add(time.Hour), 0)
		cancel()
		if !errors.Is(early.Err(), context.Canceled) {
			t.Errorf("a cancelled parent gives %v", early.Err())
		}
		<-early.Done()
		early.stop()
	})
}

// TestBudget holds that all steps of a chain spend from one budget, and that each
// question has its own.
func TestBudget(t *testing.T) {
	var left []time.Duration
	step := CheckFunc(func(ctx context.Context, _ *Query) (Verdict, error) {
		b := BudgetOf(ctx)
		left = append(left, b.Left(time.Hour))
		b.Spend(30 * time.Millisecond)
		return Verdict{}, nil
	})
	chain := &Chain{Deadline: time.Minute, Patience: 40 * time.Millisecond, Steps: []Step{{Name: "one", Check: step}, {Name: "two", Check: step}}}
	var q Query
	for range 2 { // the second question uses the memory of the first
		q.Reset()
		if _, err := chain.Check(context.Background(), &q); err != nil {
			t.Fatal(err)
		}
	}
	if len(left) != 4 || left[0] != 40*time.Millisecond || left[1] != 10*time.Millisecond || left[2] != left[0] || left[3] != left[1] {
		t.Errorf("left: %v", left)
	}
	chain.Patience, left = 0, nil
	if _, _ = chain.Check(context.Background(), &q); left[0] != time.Hour || left[1] != time.Hour {
		t.Errorf("a budget that was not asked for: %v", left)
	}
}
