// SPDX-License-Identifier: BSD-2-Clause

package recent

import "testing"

func TestMap(t *testing.T) {
	m := New[int, int](10)
	for i := range 100 {
		m.Update(i, func(old int) int {
			if old != 0 {
				t.Errorf("%d was there before", i)
			}
			return i + 1
		})
		m.Update(0, func(n int) int { return n + 1 }) // stays: it is in use
		if n := m.Len(); n > 10 {
			t.Fatalf("%d entries", n)
		}
	}
	if m.Get(0) != 101 || m.Get(99) != 100 || m.Get(50) != 0 {
		t.Errorf("0: %d, 99: %d, 50: %d", m.Get(0), m.Get(99), m.Get(50))
	}
	m.Remove(99)
	if m.Get(99) != 0 {
		t.Error("what was removed is there")
	}
}

func TestSmall(t *testing.T) {
	m := New[string, int](0)
	m.Update("a", func(int) int { return 1 })
	if m.Get("a") != 1 {
		t.Error("the least map keeps nothing")
	}
}
