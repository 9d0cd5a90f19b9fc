// SPDX-License-Identifier: BSD-2-Clause

package differential

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// perWorld is how many recipients a random world has.
const perWorld = 120

// TestRandomWorlds compares some random worlds of fixed seeds; with RCPTGATE_DIFFERENTIAL=30m new ones for that long, with
// RCPTGATE_SEED=7 the one of this seed alone.
func TestRandomWorlds(t *testing.T) {
	seeds, until := []uint64{1, 2, 5, 7}, time.Time{}
	if text := os.Getenv("RCPTGATE_DIFFERENTIAL"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		seeds, until = []uint64{uint64(time.Now().Unix()) << 16}, time.Now().Add(d)
	}
	if text := os.Getenv("RCPTGATE_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seeds[0]); err != nil {
			t.Fatal(err)
		}
		seeds, until = seeds[:1], time.Time{}
	}
	for _, mta := range []MTA{Sendmail, Postfix} {
		b := NewBench(t)
		t.Run(string(mta), func(t *testing.T) {
			t.Parallel()
			var sum tally
			for _, seed := range seeds {
				sum.world(t, b, Generate(mta, seed, perWorld))
			}
			for seed := seeds[0]; time.Now().Before(until); seed++ {
				sum.world(t, b, Generate(mta, seed+1, perWorld))
			}
			t.Logf("%s: %+v", mta, sum)
		})
	}
}

// TestClassesAreDocumented holds that the postmaster can read of every class.
func TestClassesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Mail that still bounces\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, class := range classes() {
		if !strings.Contains(section, "\n| "+string(class)+" |") {
			t.Errorf("docs/operations.md does not name the class %q", class)
		}
	}
}

// tally counts outcomes.
type tally struct {
	Worlds, Recipients, Delivered, Bounced, Refused int
	Accepted                                        map[Class]int // bounces that the gate took, by class
}

// world compares one world.
func (sum *tally) world(t *testing.T, b *Bench, w World) {
	t.Run(w.Name, func(t *testing.T) {
		sum.Worlds++
		for _, o := range b.Ask(t, &w) {
			sum.count(&o)
			switch o.Compare() {
			case Lost, Delayed:
				t.Errorf("%s: %s\n%s", o.Compare(), &o, strings.Join(o.Lines, "\n"))
			case Accepted:
				class := w.classify(&o)
				if class == Unnamed {
					t.Errorf("accepted, of no class in docs/operations.md (reason %q): %s\n%s", o.Reason, &o, strings.Join(o.Lines, "\n"))
				}
				if sum.Accepted == nil {
					sum.Accepted = map[Class]int{}
				}
				sum.Accepted[class]++
			}
		}
		if t.Failed() {
			t.Logf("%+v", w)
		}
	})
}

func (sum *tally) count(o *Outcome) {
	sum.Recipients++
	switch o.Alone {
	case Delivered:
		sum.Delivered++
	case Bounced:
		sum.Bounced++
	case Refused:
		sum.Refused++
	}
}
