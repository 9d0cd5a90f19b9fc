// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/check/quota/room"
	"rcptgate/check/quota/source"
	"rcptgate/kit/notice"
)

// storm has a store say of so many mailboxes that they had room, and of 40 that they are full.
func storm(t *testing.T) (w *world, again func(name string) string) {
	t.Helper()
	w = newWorld(t, nil)
	again = func(name string) string {
		w.State.known.Update(name, func(e *room.Entry) { *e = aged(*e) })
		return w.says(name, 0)
	}
	for i := range 40 {
		name := fmt.Sprintf("full%d@example.com", i)
		w.store.set(name, 10*mb, 1000*mb)
		w.expect(name, 0, "room")
		w.store.set(name, 600*mb, 500*mb)
		again(name)
		w.mustHold(w.State.sources.All()[0].Storm.Held(), 0) // at once
	}
	w.mustHold(true, 0)
	return w, again
}

// mustHold compares whether a storm is listed as lasting, and how often its end was logged.
func (w *world) mustHold(holds bool, ends int) {
	w.t.Helper()
	listed := stormy(w.board)
	if got := strings.Count(w.log.String(), "no longer held back"); listed != holds || got != ends {
		w.t.Errorf("listed %v, %d ends logged; want %v, %d", listed, got, holds, ends)
	}
}

func stormy(b *notice.Board) bool {
	return slices.ContainsFunc(b.List(), func(n notice.Notice) bool { return strings.Contains(n.Text, "many mailboxes as full at once") })
}

// TestStormEnds: however it is found out, the postmaster hears of a storm's end, once.
func TestStormEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, again func(name string) string){
		"other mailboxes have room": func(w *world, again func(name string) string) {
			for i := range 200 {
				other := fmt.Sprintf("other%d@example.com", i)
				w.store.set(other, 10*mb, 1000*mb)
				w.expect(other, 0, "room")
				again(other)
				if w.State.sources.All()[0].Storm.Held() != stormy(w.board) {
					w.t.Fatalf("not reported at once, but %d answers later", i)
				}
			}
		},
		"an answer, hours later": func(w *world, again func(name string) string) {
			w.State.clock = room.NewClock(time.Now().Add(-2 * time.Hour))
			again("ann@example.com")
		},
		"a refusal that is remembered, hours later": func(w *world, again func(name string) string) {
			w.State.clock = room.NewClock(time.Now().Add(-2 * time.Hour))
			w.State.known.Update("full39@example.com", func(e *room.Entry) {
				e.Learn(room.Answer{State: room.Full, Used: 600 * mb, Hard: 500 * mb, Soft: 500 * mb}, 1, w.State.now(), 1, &w.rules)
			})
			w.expect("full39@example.com", 0, "452 4.2.2 mailbox-full")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, again := storm(t)
			end(w, again)
			w.mustHold(false, 1)
			again("ann@example.com")
			w.mustHold(false, 1)
		})
	}
}

// TestStormAcrossReloads: a storm that goes on is reported again at the next answer, and one of a
// source that is no longer asked is not.
func TestStormAcrossReloads(t *testing.T) {
	w, again := storm(t)
	w.State.sources.Configure(source.Settings{Keys: w.store.keys, Timeout: 5 * time.Second})
	w.mustHold(false, 0)
	again("full1@example.com")
	w.mustHold(true, 0)
}

// TestStormIsListedWhileItLasts: it is not an event that is forgotten an hour later.
func TestStormIsListedWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := notice.New(slog.New(slog.DiscardHandler))
		s := NewState(100, board)
		defer s.Close()
		by := new(source.Guarded)
		for range 5 {
			for range 30 {
				by.Storm.Note(new(room.Entry), &room.Learnt{WasRoom: true, NewlyFull: true}, s.now(), 0.2)
				s.reportStorm(by)
			}
			if !stormy(board) {
				t.Fatal("not listed")
			}
			time.Sleep(50 * time.Minute)
		}
		time.Sleep(time.Hour)
		if s.holds(by, s.now(), 0.2) || stormy(board) {
			t.Error("still held back or listed")
		}
	})
}
