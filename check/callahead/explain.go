// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"errors"
	"fmt"
	"time"

	"rcptgate"
	"rcptgate/kit/term"
	"rcptgate/store"
	"rcptgate/view"
)

func explainRoute(q *rcptgate.Query, rt fmt.Stringer) {
	q.Trace.Note("route: " + rt.String())
	if q.Target.Path != q.Recipient.Path {
		q.Trace.Note("target: " + q.Target.Path)
	}
}

func explainMemory(a *asking, rec *store.Record, what recalled, answer *store.Answer, source string) {
	if answer == nil {
		a.q.Trace.Note("memory: what " + a.check.knownBy(source, a.key) + " knows no longer serves")
		return
	}
	now := time.Now() // later than a.now by what another gateway took to find out
	learnt := ""      // a script's record need not say when
	if !answer.Learnt.IsZero() {
		learnt = ", learnt " + view.Ago(now, answer.Learnt)
	}
	note := fmt.Sprintf("memory: %v%s from %s, known by %s", answer.Class, learnt, answer.Backend, a.check.knownBy(source, a.key))
	switch {
	case what == askWithNet && rec.Transient.Class == store.None:
		note += "; asked again because there may be no room left"
	case what == askWithNet:
		note += fmt.Sprintf("; asked again because %v has passed", rec.Transient.Class)
	case what == serveAsk:
		note += "; due, refreshed in the background"
	case answer.Class == store.Valid && answer.Due(now):
		note += "; due, refreshed a short while ago"
	case answer.Class == store.Valid:
		note += ", refresh due in " + view.Left(now, answer.Refresh)
	default:
		note += ", ends in " + view.Left(now, answer.Expire)
	}
	if rec.Doubt.Count > 0 {
		note += fmt.Sprintf("; %s said to be unknown since", term.Count(rec.Doubt.Count, "time"))
	}
	a.q.Trace.Note(note)
}

func explainProbe(q *rcptgate.Query, out *outcome) {
	for _, line := range out.story {
		q.Trace.Note("classes: " + line)
	}
	if out.answer.Class == store.None {
		err := out.err
		if err == nil {
			err = errors.New("no server could be asked")
		}
		q.Trace.Note("probe: " + err.Error())
		return
	}
	a := &out.answer
	q.Trace.Note(fmt.Sprintf("probe: %s said %d %s %s: %v, after %.3f ms", a.Backend, a.Code, a.Enhanced, a.Text, a.Class, float64(out.elapsed.Microseconds())/1000))
}
