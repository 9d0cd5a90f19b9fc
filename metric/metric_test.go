// SPDX-License-Identifier: BSD-2-Clause

package metric

import (
	"strings"
	"testing"
)

// TestCheck: each of the families is wrong in one way, and all are reported.
func TestCheck(t *testing.T) {
	read := func(Emit) {}
	err := Check([]Family{
		Count("fine_total", "Fine.", zero), Level("fine", "Fine.", zero),
		{Name: "twice", Read: read}, {Name: "twice", Read: read},
		{Name: "Capital", Read: read}, {Name: "", Read: read}, {Name: "label", Labels: []string{"a", "b-c"}, Read: read},
		{Name: "unread"}, {Name: "unfilled", Kind: Histogram, Read: read},
		{Name: "both", Read: read, Fill: func(EmitBuckets) {}},
		{Name: "times", Kind: Histogram, Fill: func(EmitBuckets) {}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	const want = `metric "twice": there is another one of this name
metric "Capital": names and labels consist of a-z, 0-9 and _, and begin with a letter
metric "": names and labels consist of a-z, 0-9 and _, and begin with a letter
metric "label": names and labels consist of a-z, 0-9 and _, and begin with a letter
metric "unread": a histogram needs Fill, another kind needs Read, and not both
metric "unfilled": a histogram needs Fill, another kind needs Read, and not both
metric "both": a histogram needs Fill, another kind needs Read, and not both`
	if got := err.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := Check([]Family{Count(strings.Repeat("a", 200), "Long.", zero)}); err != nil {
		t.Error(err)
	}
}

func zero() float64 { return 0 }
