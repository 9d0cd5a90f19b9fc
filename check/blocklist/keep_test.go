// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate/kit/testkit"
)

const disk = "[[blocklist]]\nname = \"virus\"\nfor_max = \"4h\"\n"

// begin starts the unit as the daemon does.
func (w *world) begin() (stop func()) {
	w.t.Helper()
	live := w.host.Live("blocklist")
	if err := live.Listen(w.t.Context(), nil); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); live.Run(ctx) }()
	return func() { cancel(); <-done }
}

func restarted(t *testing.T, state, text string) (*world, func()) {
	t.Helper()
	w, err := tryWorld(t, state, text)
	if err != nil {
		t.Fatal(err)
	}
	return w, w.begin()
}

func TestListsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := testkit.Dir(t)
		w, stop := restarted(t, state, disk)
		for _, c := range []string{"198.51.100.1", "198.51.100.2", "2001:db8::1", "198.51.100.3"} {
			w.add("virus", c)
		}
		w.list("virus").Remove(netip.MustParseAddr("198.51.100.2"))
		time.Sleep(1500 * time.Millisecond)
		stop() // killed: nothing is closed
		w, stop = restarted(t, state, disk)
		l, ok := w.list("virus").Listed(netip.MustParseAddr("198.51.100.1"))
		if !ok || l.Evidence != "Eicar-Test" || l.QueueID != "4Q1" || l.Count != 1 || time.Until(l.Until) > time.Hour || time.Until(l.Until) < 59*time.Minute {
			t.Errorf("%v, %+v", ok, l)
		}
		if !w.listed("virus", "2001:db8::2") || w.listed("virus", "198.51.100.2") {
			t.Error("a network is lost, or one that was removed is back")
		}
		time.Sleep(2 * time.Hour) // ended; that it was listed is remembered
		stop()
		w, stop = restarted(t, state, disk)
		defer stop()
		w.add("virus", "198.51.100.1")
		if l, _ := w.list("virus").Listed(netip.MustParseAddr("198.51.100.1")); time.Until(l.Until) != 2*time.Hour {
			t.Errorf("a repeat after a restart: %+v", l)
		}
	})
}

// TestAShorterLifeHolds reads a file of a configuration with longer lives.
func TestAShorterLifeHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := testkit.Dir(t)
		w, stop := restarted(t, state, "[[blocklist]]\nname = \"virus\"\nfor = \"30d\"\n")
		w.add("virus", "198.51.100.1")
		time.Sleep(2 * time.Second)
		stop()
		w, stop = restarted(t, state, disk)
		defer stop()
		if l, ok := w.list("virus").Listed(netip.MustParseAddr("198.51.100.1")); !ok || time.Until(l.Until) > 4*time.Hour {
			t.Errorf("%v, %+v", ok, l)
		}
	})
}

func TestADamagedFileCostsOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := testkit.Dir(t)
		w, stop := restarted(t, state, disk)
		w.add("virus", "198.51.100.1")
		time.Sleep(2 * time.Second)
		stop()
		path := filepath.Join(state, "blocklist-virus")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		spoilt := "garbage\n\x00\xff\n" + string(text) + "rgl1\t198.51.100.9/32\t1"
		if err := os.WriteFile(path, []byte(spoilt), 0o600); err != nil {
			t.Fatal(err)
		}
		w, stop = restarted(t, state, disk)
		if !w.listed("virus", "198.51.100.1") || w.listed("virus", "198.51.100.9") || len(w.host.Notices.List()) != 1 {
			t.Errorf("listed: %v; notices: %+v", w.listed("virus", "198.51.100.1"), w.host.Notices.List())
		}
		time.Sleep(2 * time.Second)
		stop()
		if text, err = os.ReadFile(path); err != nil || strings.Contains(string(text), "garbage") || !strings.Contains(string(text), "198.51.100.1/32") {
			t.Errorf("the file is %q, %v", text, err)
		}
		for _, block := range []string{strings.Repeat("x", 5000), strings.Repeat("\x00", 4096), strings.Repeat("\x00", 2047)} {
			if err := os.WriteFile(path, []byte(block+"\n"+string(text)), 0o600); err != nil {
				t.Fatal(err)
			}
			if w, stop = restarted(t, state, disk); !w.listed("virus", "198.51.100.1") || len(w.host.Notices.List()) != 1 {
				t.Errorf("after a block of %d octets: listed: %v; notices: %+v", len(block), w.listed("virus", "198.51.100.1"), w.host.Notices.List())
			}
			stop()
		}
	})
}

// TestAFileThatCannotBeWritten is a notice, and no refusal less or more.
func TestAFileThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := filepath.Join(testkit.Dir(t), "gone")
		w, stop := restarted(t, state, disk)
		defer stop()
		w.add("virus", "198.51.100.1")
		time.Sleep(2 * time.Second)
		if !w.listed("virus", "198.51.100.1") || len(w.host.Notices.List()) != 1 {
			t.Fatalf("listed: %v; notices: %+v", w.listed("virus", "198.51.100.1"), w.host.Notices.List())
		}
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		text, err := os.ReadFile(filepath.Join(state, "blocklist-virus"))
		if err != nil || !strings.Contains(string(text), "198.51.100.1/32") || len(w.host.Notices.List()) != 0 {
			t.Errorf("%q, %v, notices: %+v", text, err, w.host.Notices.List())
		}
	})
}

// TestARemovalOutlivesTheFile reads a file of which the removal of a listing is forgotten by now,
// but not the listing itself: the client's next listing is no repeat.
func TestARemovalOutlivesTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := testkit.Dir(t)
		w, stop := restarted(t, state, disk)
		w.add("virus", "198.51.100.1")
		time.Sleep(10 * time.Minute)
		w.list("virus").Remove(netip.MustParseAddr("198.51.100.1"))
		time.Sleep(2 * time.Second)
		stop()
		time.Sleep(4*time.Hour + time.Minute)
		w, stop = restarted(t, state, disk)
		defer stop()
		w.add("virus", "198.51.100.1")
		if l, _ := w.list("virus").Listed(netip.MustParseAddr("198.51.100.1")); time.Until(l.Until) != time.Hour {
			t.Errorf("listed for %v", time.Until(l.Until))
		}
	})
}

// TestTheFileStaysSmall changes one entry again and again.
func TestTheFileStaysSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := testkit.Dir(t)
		w, stop := restarted(t, state, disk)
		defer stop()
		for range 5000 {
			w.add("virus", "198.51.100.1")
			time.Sleep(time.Second / 2)
		}
		info, err := os.Stat(filepath.Join(state, "blocklist-virus"))
		if err != nil || info.Size() > 200*journalSlack {
			t.Errorf("%v octets, %v", info.Size(), err)
		}
	})
}

func TestExportFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := testkit.Dir(t)
		file := filepath.Join(state, "later", "virus.cidr")
		w, stop := restarted(t, state, disk+"export = [{ format = \"cidr\", file = \""+file+"\" }]\n")
		defer stop()
		has := func() string {
			text, _ := os.ReadFile(file)
			return strings.Join(regexp.MustCompile("(?m)^[0-9.]+").FindAllString(string(text), -1), " ")
		}
		time.Sleep(time.Minute)
		w.add("virus", "198.51.100.1")
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second) // what could not be written is tried again
		if has() != "198.51.100.1" {
			t.Errorf("after a failure: %q", has())
		}
		time.Sleep(time.Minute)
		w.add("virus", "198.51.100.2")
		time.Sleep(1100 * time.Millisecond)
		if has() != "198.51.100.1 198.51.100.2" {
			t.Errorf("a second after a change: %q", has())
		}
		w.add("virus", "198.51.100.3")
		time.Sleep(8 * time.Second)
		if has() != "198.51.100.1 198.51.100.2" {
			t.Errorf("written again within ten seconds: %q", has())
		}
		time.Sleep(3 * time.Second)
		if has() != "198.51.100.1 198.51.100.2 198.51.100.3" {
			t.Errorf("ten seconds after a change: %q", has())
		}
		time.Sleep(61 * time.Minute) // it is written anew when entries end
		if text, err := os.ReadFile(file); err != nil || len(text) > 0 {
			t.Errorf("after the end: %q, %v", text, err)
		}
	})
}
