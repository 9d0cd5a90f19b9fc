// SPDX-License-Identifier: BSD-2-Clause

package notice

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func board() (*Board, *bytes.Buffer) {
	var out bytes.Buffer
	return New(slog.New(slog.NewTextHandler(&out, nil))), &out
}

func lines(out *bytes.Buffer) int { return strings.Count(out.String(), "\n") }

// TestEvent: logged once an hour however often it happens, listed for an hour after the
// last time.
func TestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, out := board()
		for range 90 {
			b.Warn("lists example.com", "the server accepts every name", "domain", "example.com", "backend", "smtp:[192.0.2.1]:25")
			time.Sleep(time.Minute)
		}
		if lines(out) != 2 {
			t.Errorf("logged:\n%s", out)
		}
		list := b.List()
		if len(list) != 1 || list[0].Count != 90 || list[0].Text != "the server accepts every name (domain example.com, backend smtp:[192.0.2.1]:25)" {
			t.Errorf("listed: %+v", list)
		}
		time.Sleep(time.Hour)
		if list := b.List(); len(list) != 0 {
			t.Errorf("still listed: %+v", list)
		}
	})
}

// TestCondition: listed until it is cleared, whatever the time.
func TestCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, out := board()
		b.Raise(slog.LevelError, "disk", "disk store unavailable", "error", "no space left")
		b.Warn("other", "something smaller")
		time.Sleep(48 * time.Hour)
		list := b.List()
		if len(list) != 1 || list[0].Key != "disk" || list[0].Level != slog.LevelError {
			t.Errorf("listed: %+v", list)
		}
		b.Clear("disk", "disk store available again")
		b.Clear("disk", "disk store available again")
		if n := strings.Count(out.String(), "available again"); n != 1 || len(b.List()) != 0 {
			t.Errorf("said to be over %d times, listed: %v", n, b.List())
		}
	})
}

// TestFlapping: what comes and goes is listed while it is there, and logged once an hour.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, out := board()
		for range 60 {
			b.Raise(slog.LevelWarn, "backend", "backend is down")
			if len(b.List()) != 1 {
				t.Fatal("it is down and not listed")
			}
			time.Sleep(time.Minute)
			b.Clear("backend", "backend answers again")
			if len(b.List()) != 0 {
				t.Fatal("it answers and is listed")
			}
			time.Sleep(time.Minute)
		}
		if n := lines(out); n != 4 { // twice down, twice up, in two hours
			t.Errorf("%d lines:\n%s", n, out)
		}
	})
}

func TestNote(t *testing.T) {
	b, out := board()
	b.Note(slog.LevelError, "reload", "reload failed")
	if lines(out) != 0 || len(b.List()) != 1 {
		t.Errorf("logged %q, listed %v", out, b.List())
	}
	b.Clear("reload", "reloaded")
	if lines(out) != 0 || len(b.List()) != 0 {
		t.Errorf("logged %q, listed %v", out, b.List())
	}
}

func TestOrder(t *testing.T) {
	b, _ := board()
	b.Warn("a", "small")
	b.Error("b", "great")
	if list := b.List(); len(list) != 2 || list[0].Key != "b" {
		t.Errorf("%+v", list)
	}
}

func TestBound(t *testing.T) {
	b, _ := board()
	b.log = slog.New(slog.DiscardHandler)
	for i := range 3 * maxMatters {
		b.Warn(fmt.Sprint(i), "one of many")
	}
	if n := len(b.List()); n != maxMatters {
		t.Errorf("%d matters", n)
	}
}

func TestNil(t *testing.T) {
	var b *Board
	b.Warn("a", "text")
	b.Raise(slog.LevelError, "a", "text")
	b.Clear("a", "over")
	if b.List() != nil {
		t.Error("something of nothing")
	}
}
