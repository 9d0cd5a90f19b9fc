// SPDX-License-Identifier: BSD-2-Clause

package rcptgate

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

type observed struct{ verdicts []Verdict }

func (o *observed) Observe(_ *Query, v *Verdict) { o.verdicts = append(o.verdicts, *v) }

func TestGateWithoutSetupTempfails(t *testing.T) {
	var g Gate
	if v := g.Ask(context.Background(), &Query{}); v != couldNotFindOut(StageConnect) {
		t.Errorf("got %+v", v)
	}
}

func TestRehearsalContinuesAndTells(t *testing.T) {
	var g Gate
	var seen observed
	g.Swap(Setup{Chains: at(StageConnect, says(unknown)), Rehearse: func(*Query) bool { return true }, Observers: []Observer{&seen}})
	v := g.Ask(context.Background(), &Query{})
	if v.Action != Continue || v.Would != Reject || v.Code != 550 {
		t.Errorf("got %+v", v)
	}
	if len(seen.verdicts) != 1 || seen.verdicts[0] != v {
		t.Errorf("observer saw %+v", seen.verdicts)
	}
}

func TestRehearsalLeavesAcceptAlone(t *testing.T) {
	var g Gate
	g.Swap(Setup{Chains: at(StageConnect, says(taken)), Rehearse: func(*Query) bool { return true }})
	if v := g.Ask(context.Background(), &Query{}); v != taken {
		t.Errorf("got %+v", v)
	}
}

// at is a setup's chains with one alone.
func at(stage Stage, c Check) (chains [StageCount]Check) {
	chains[stage] = c
	return chains
}

// TestGateByStage holds that each stage has its own chain, and that a stage without one
// continues.
func TestGateByStage(t *testing.T) {
	var g Gate
	chains := at(StageRcpt, says(unknown))
	chains[StageMail] = says(taken)
	g.Swap(Setup{Chains: chains, Wants: WantMail})
	for stage, want := range []Verdict{StageConnect: nothing, StageMail: taken, StageRcpt: unknown, StageMessage: nothing} {
		if v := g.Ask(context.Background(), &Query{Stage: Stage(stage)}); v != want {
			t.Errorf("%v: got %+v", Stage(stage), v)
		}
	}
	if g.Wants() != WantMail || new(Gate).Wants() != 0 {
		t.Errorf("wants %b", g.Wants())
	}
}

func TestGateSurvivesAPanic(t *testing.T) {
	var g Gate
	var seen observed
	g.Swap(Setup{Observers: []Observer{&seen}, Chains: at(StageConnect, CheckFunc(func(context.Context, *Query) (Verdict, error) {
		panic("hostile input")
	}))})
	var q Query
	if v := g.Ask(context.Background(), &q); v != couldNotFindOut(StageConnect) {
		t.Errorf("got %+v", v)
	}
	if len(q.Trace.Steps) != 1 || len(seen.verdicts) != 1 {
		t.Fatalf("nothing was reported: %+v, %+v", q.Trace.Steps, seen.verdicts)
	}
	var panicked *PanicError
	if !errors.As(q.Trace.Steps[0].Err, &panicked) || !strings.Contains(string(panicked.Stack), "TestGateSurvivesAPanic") {
		t.Errorf("the trace has %v, without where it happened", q.Trace.Steps[0].Err)
	}
}

// TestSwapUnderLoad swaps setups while queries run: no query sees a closed setup,
// and each setup is closed exactly once.
func TestSwapUnderLoad(t *testing.T) {
	var g Gate
	var closed, wrong atomic.Int64
	setup := func() Setup {
		var gone atomic.Bool
		return Setup{
			Chains: at(StageConnect, CheckFunc(func(context.Context, *Query) (Verdict, error) {
				if gone.Load() {
					wrong.Add(1)
				}
				return Verdict{}, nil
			})),
			Close: func() { gone.Store(true); closed.Add(1) },
		}
	}
	g.Swap(setup())
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					g.Ask(context.Background(), &Query{})
				}
			}
		})
	}
	const swaps = 500
	for range swaps {
		g.Swap(setup())
	}
	close(stop)
	wg.Wait()
	g.Close()
	if closed.Load() != swaps+1 || wrong.Load() != 0 {
		t.Errorf("%d of %d setups closed, %d queries under a closed one", closed.Load(), swaps+1, wrong.Load())
	}
}

func BenchmarkAsk(b *testing.B) {
	var g Gate
	g.Swap(Setup{Chains: at(StageConnect, &Chain{Deadline: 8e9, Steps: []Step{{Name: "scope", Check: says(nothing)}, {Name: "existence", Check: says(valid)}}})})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var q Query
		for pb.Next() {
			q.Reset()
			g.Ask(context.Background(), &q)
		}
	})
}

// What could not be found out is said in words that are right at its stage.
func TestWordsOfAFailureAtEachStage(t *testing.T) {
	for stage, want := range map[Stage]string{StageConnect: TextUncheckedMail, StageHelo: TextUncheckedMail, StageMail: TextUncheckedMail, StageRcpt: TextUnverified, StageMessage: TextUncheckedMessage} {
		var g Gate
		closed := g.Ask(context.Background(), &Query{Stage: stage})
		g.Swap(Setup{Chains: at(stage, CheckFunc(func(context.Context, *Query) (Verdict, error) { panic("hostile input") }))})
		panicked := g.Ask(context.Background(), &Query{Stage: stage})
		g.Swap(Setup{Chains: at(stage, fails(errors.New("down")))})
		failed := g.Ask(context.Background(), &Query{Stage: stage})
		for _, v := range []Verdict{closed, panicked, failed} {
			if v.Text != want || v.Code != 451 || v.Action != Tempfail {
				t.Errorf("%v: %+v", stage, v)
			}
		}
	}
}
