// SPDX-License-Identifier: BSD-2-Clause

package store

import (
	"testing"
	"time"
)

func TestClamp(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	limits := &Limits{Valid: 31 * 24 * time.Hour, Unknown: time.Hour, Deferred: time.Minute}
	answer := func(class Class, learnt, expire time.Duration) Answer {
		return Answer{Class: class, Learnt: now.Add(learnt), Refresh: now.Add(expire), Expire: now.Add(expire)}
	}
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		in   Answer
		ends time.Duration // after now; 0: not known
	}{
		"as usual":                     {answer(Valid, 0, 24*time.Hour), 24 * time.Hour},
		"a minute ahead":               {answer(Unknown, time.Minute, time.Hour), time.Hour},
		"twenty days ahead":            {answer(Unknown, 20*24*time.Hour, 20*24*time.Hour+time.Hour), 0},
		"a year ahead":                 {answer(Valid, year, year+24*time.Hour), 0},
		"a refusal of nine years":      {answer(Unknown, 0, 9*year), time.Hour},
		"an older refusal":             {answer(Unknown, -30*time.Minute, 9*year), 30 * time.Minute},
		"a refusal that ended":         {answer(Unknown, -2*time.Hour, 9*year), -time.Hour},
		"no time of learning":          {Answer{Class: Unknown, Expire: now.Add(9 * year)}, time.Hour},
		"a class without a limit":      {answer(Refused, 0, year), year},
		"deferred, beside what stands": {answer(Deferred, 0, year), time.Minute},
	} {
		rec := Record{Standing: c.in}
		if c.in.Class == Deferred {
			rec = Record{Transient: c.in}
		}
		known := limits.Clamp(&rec, now)
		if known != (c.ends != 0) {
			t.Errorf("%s: known is %v", name, known)
		} else if got := rec.Expire().Sub(now); known && got != c.ends {
			t.Errorf("%s: it ends after %v, not %v", name, got, c.ends)
		} else if known && rec.Standing.Refresh.After(rec.Expire()) {
			t.Errorf("%s: it is refreshed after it has ended", name)
		}
	}
	rec := Record{Standing: answer(Valid, 0, time.Hour), Doubt: Doubt{Count: 2, Last: now.Add(year)}, Tried: now.Add(year)}
	if limits.Clamp(&rec, now); rec.Doubt != (Doubt{}) || !rec.Tried.IsZero() {
		t.Errorf("doubts of the future: %+v", rec)
	}
}
