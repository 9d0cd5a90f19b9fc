// SPDX-License-Identifier: BSD-2-Clause

package room

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// mailbox is the store's side of the model: what is stored, and what was taken at RCPT and
// has not arrived yet.
type mailbox struct {
	used, hard int64
	travelling []int64
}

// gatewayModel is one gateway: what it knows, and the store's last answer to it.
type gatewayModel struct {
	Entry
	answered bool
	last     Answer
	since    int64 // let through since that answer

	travelling int64 // octets on their way when it came
	others     int64 // let through by the other gateways since
}

// TestModel: several gateways in front of one mailbox that fills and is emptied. None
// refuses what fits by the store's last answer to it. What is stored exceeds the limit by no
// more than what was travelling when the store was last asked, what other gateways let
// through since, and sizes that were not declared.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hard := rapid.Int64Range(2<<20, 1<<30).Draw(t, "hard")
		store := &mailbox{hard: hard}
		rules := Rules{Soft: 0.9, Keep: time.Hour, FullKeep: 5 * time.Minute}
		gateways := make([]gatewayModel, rapid.IntRange(1, 3).Draw(t, "gateways"))
		now := Tick(100)
		travelling := func() (n int64) {
			for _, s := range store.travelling {
				n += s
			}
			return n
		}
		rcpt := func(i int, declared, real int64) {
			g := &gateways[i]
			use := g.Serve(now, declared)
			if use == Ask {
				a := numbers(store.used, store.hard, declared)
				use = g.Learn(a, declared, now, 1, &rules).Use
				g.answered, g.last, g.since, g.travelling, g.others = true, a, 0, travelling(), 0
			}
			fits := g.last.Used+max(declared, 1) <= g.last.Hard
			switch use {
			case UseFull, UseTooLarge:
				if fits {
					t.Fatalf("gateway %d refuses %d octets: by the last answer %d of %d are used", i, declared, g.last.Used, g.last.Hard)
				}
			case UseRoom:
				if !fits {
					t.Fatalf("gateway %d takes %d octets: by the last answer %d of %d are used", i, declared, g.last.Used, g.last.Hard)
				}
				g.Debit(now, declared)
				bound := store.hard + g.travelling + g.others
				if g.flags&quiet != 0 {
					bound += g.since // let through, and still on its way when the store was asked again
				}
				if all := store.used + travelling() + real; all > bound {
					t.Fatalf("gateway %d: %d stored or on their way, of %d; bound is %d", i, all, store.hard, bound)
				}
				g.since += declared
				for k := range gateways {
					if k != i {
						gateways[k].others += real
					}
				}
				store.travelling = append(store.travelling, real)
			default:
				t.Fatalf("use %d", use)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"message": func(t *rapid.T) {
				size := rapid.Int64Range(1, hard/3).Draw(t, "size")
				rcpt(rapid.IntRange(0, len(gateways)-1).Draw(t, "gateway"), size, size)
			},
			"burst": func(t *rapid.T) {
				i, size := rapid.IntRange(0, len(gateways)-1).Draw(t, "gateway"), rapid.Int64Range(1, hard/20).Draw(t, "size")
				for range rapid.IntRange(1, 30).Draw(t, "n") {
					rcpt(i, size, size)
				}
			},
			"huge": func(t *rapid.T) { rcpt(0, rapid.Int64Range(hard+1, 1<<62).Draw(t, "size"), 0) },
			"arrive": func(*rapid.T) {
				for _, s := range store.travelling {
					store.used += s
				}
				store.travelling = nil
			},
			"empty": func(t *rapid.T) { store.used = rapid.Int64Range(0, store.used).Draw(t, "left") },
			"wait":  func(t *rapid.T) { now += Tick(rapid.IntRange(1, 20_000).Draw(t, "ticks")) },
			"": func(t *rapid.T) {
				for i := range gateways {
					if g := &gateways[i]; g.debits < 0 || g.answered && g.debits > max(g.hard, 1) {
						t.Fatalf("debits are %d of %d", g.debits, g.hard)
					}
				}
			},
		})
	})
}

// TestOneGatewayDoesNotOvershoot: with one gateway and declared sizes, and messages that are
// stored before the next is asked about, the limit is never exceeded.
func TestOneGatewayDoesNotOvershoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hard := rapid.Int64Range(2<<20, 1<<30).Draw(t, "hard")
		rules := Rules{Soft: 0.9, Keep: time.Hour, FullKeep: 5 * time.Minute}
		var e Entry
		var used int64
		now, questions := Tick(100), 0
		for range rapid.IntRange(1, 200).Draw(t, "messages") {
			now += Tick(rapid.IntRange(0, 600).Draw(t, "ticks"))
			size := rapid.Int64Range(1, hard/10).Draw(t, "size")
			use := e.Serve(now, size)
			if use == Ask {
				questions++
				use = e.Learn(numbers(used, hard, size), size, now, 1, &rules).Use
			}
			if use == UseRoom {
				e.Debit(now, size)
				used += size
			}
			if used > hard {
				t.Fatalf("%d of %d are used; %d, %+v, size %d now %d", used, hard, use, e, size, now)
			}
		}
	})
}
