// SPDX-License-Identifier: BSD-2-Clause

package index

import (
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func build(t testing.TB, pairs [][2]string) *Index {
	t.Helper()
	var b Builder
	for _, p := range pairs {
		if err := b.Add([]byte(p[0]), []byte(p[1])); err != nil {
			t.Fatal(err)
		}
	}
	return b.Build(runtime.Gosched)
}

func TestAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.Rune(), 0, 6, -1)
		long := rapid.Map(rapid.IntRange(0, 70000), func(n int) string { return strings.Repeat("x", n) })
		value := rapid.OneOf(text, text, text, long)
		model, n := map[string]string{}, rapid.IntRange(0, 100).Draw(t, "n")
		var b Builder
		for range n {
			k, v := text.Draw(t, "key"), value.Draw(t, "value")
			if err := b.Add([]byte(k), []byte(v)); err != nil {
				t.Fatal(err)
			}
			if _, dup := model[k]; !dup {
				model[k] = v
			}
		}
		x := b.Build(nil)
		if x.Len() != len(model) {
			t.Fatalf("%d keys, want %d", x.Len(), len(model))
		}
		octets := int64(0)
		for k, v := range model {
			octets += int64(len(k) + len(v))
			if got, ok := x.Get(k); !ok || got != v {
				t.Fatalf("Get(%q) = %q, %v; want %q", k, got, ok, v)
			}
			if got, ok := x.GetBytes([]byte(k)); !ok || got != v {
				t.Fatalf("GetBytes(%q) = %q, %v; want %q", k, got, ok, v)
			}
		}
		if x.Octets() != octets {
			t.Fatalf("octets = %d, want %d", x.Octets(), octets)
		}
		if got := maps.Collect(x.All()); !maps.Equal(got, model) {
			t.Fatalf("All yields %d pairs, want %d", len(got), len(model))
		}
		absent := text.Draw(t, "absent")
		if _, want := model[absent]; !want {
			if _, ok := x.Get(absent); ok {
				t.Fatalf("found %q", absent)
			}
		}
	})
}

func TestOrderAndZero(t *testing.T) {
	var zero Index
	if _, ok := zero.Get("a"); ok || zero.Len() != 0 {
		t.Error("the zero Index holds something")
	}
	x := build(t, [][2]string{{"b", "1"}, {"a", "2"}, {"b", "3"}, {"", "empty"}, {"c", ""}})
	var order []string
	for k, v := range x.All() {
		order = append(order, k+"="+v)
	}
	if got := strings.Join(order, " "); got != "b=1 a=2 =empty c=" {
		t.Errorf("order = %s", got)
	}
}

// name is like the names of a large site.
func name(i int) string { return fmt.Sprintf("firstname.lastname%07d", i) }

func many(t testing.TB, n int) *Index {
	t.Helper()
	var b Builder
	for i := range n {
		if err := b.Add([]byte(name(i)), []byte("mailbox@host.example.org")); err != nil {
			t.Fatal(err)
		}
	}
	return b.Build(nil)
}

// TestSize holds the memory of a name: 150 octets beyond its own are allowed. An eighth of a million names fill their
// table as far as a million do.
func TestSize(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := many(t, 125_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)-x.Octets()) / float64(x.Len())
	t.Logf("%.1f octets a name beyond its own", each)
	if each > 40 {
		t.Errorf("%.1f octets a name beyond its own, want at most 40", each)
	}
	runtime.KeepAlive(x)
}

func BenchmarkGet(b *testing.B) {
	x := many(b, 1_000_000)
	names := make([]string, 1<<16)
	for i := range names {
		names[i] = name(i * 15)
	}
	b.Run("found", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok := x.Get(names[i&(1<<16-1)]); !ok {
				b.Fatal("lost")
			}
		}
	})
	b.Run("absent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := x.Get("nobody"); ok {
				b.Fatal("found")
			}
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		many(b, 1_000_000)
	}
}

func TestLost(t *testing.T) {
	build := func(from, to int) *Index {
		var b Builder
		for i := from; i < to; i++ {
			if err := b.Add(fmt.Append(nil, "key", i), []byte("value")); err != nil {
				t.Fatal(err)
			}
		}
		return b.Build(nil)
	}
	old, paused := build(0, 3000), 0
	for _, tc := range []struct {
		newer *Index
		want  int
	}{{old, 0}, {build(0, 4000), 0}, {build(10, 4000), 10}, {build(2999, 3001), 2999}, {&Index{}, 3000}} {
		if got := old.Lost(tc.newer, func() { paused++ }); got != tc.want {
			t.Errorf("%d lost, want %d", got, tc.want)
		}
	}
	if (&Index{}).Lost(old, nil) != 0 || paused == 0 {
		t.Errorf("an empty index has lost something, or %d pauses", paused)
	}
}
