// SPDX-License-Identifier: BSD-2-Clause

package flight

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestJoin: one call for equal keys, and everybody hears its end.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[string, int](10)
		var begun, heard atomic.Int64
		release := make(chan struct{})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				c, isNew := g.Join("ann")
				if isNew {
					begun.Add(1)
					<-release
					c.Value = 42
					g.End(c)
				}
				<-c.Done()
				if c.Value == 42 {
					heard.Add(1)
				}
			})
		}
		synctest.Wait()
		if g.Len() != 1 || !g.Has(func(k string) bool { return k == "ann" }) || g.Has(func(k string) bool { return k == "bob" }) {
			t.Errorf("%d calls in progress", g.Len())
		}
		close(release)
		all.Wait()
		if begun.Load() != 1 || heard.Load() != 100 || g.Len() != 0 {
			t.Errorf("%d calls, %d heard, %d left", begun.Load(), heard.Load(), g.Len())
		}
	})
}

func TestLimit(t *testing.T) {
	g := New[int, struct{}](2)
	a, _ := g.Join(1)
	g.Join(2)
	if c, isNew := g.Join(3); c != nil || isNew {
		t.Error("a third call began")
	}
	if c, isNew := g.Join(1); c != a || isNew {
		t.Error("a call in progress cannot be joined when there are many")
	}
	g.End(a)
	if _, isNew := g.Join(3); !isNew {
		t.Error("no room after an end")
	}
}

// TestForget: a forgotten call goes on for those who wait, and is joined no more.
func TestForget(t *testing.T) {
	g := New[string, int](10)
	old, _ := g.Join("ann")
	other, _ := g.Join("bob")
	g.Forget(func(k string) bool { return k == "ann" })
	fresh, isNew := g.Join("ann")
	if !isNew || fresh == old {
		t.Fatal("a forgotten call was joined")
	}
	g.End(old)
	<-old.Done()
	if c, isNew := g.Join("ann"); isNew || c != fresh {
		t.Error("the end of a forgotten call took the new one away")
	}
	if c, isNew := g.Join("bob"); isNew || c != other {
		t.Error("another call was forgotten")
	}
}
