// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter"
	"rcptgate/front/milter/mta"
	"rcptgate/kit/testkit"
)

// Told to end, the server closes what is between transactions and lets the others
// finish theirs.
func TestDrainFinishesTransactions(t *testing.T) {
	srv := start(t, &asker{}, milter.Config{Drain: setting.Duration(time.Minute)}, "tcp")
	idle, busy := srv.dial(t, mta.Options{}), srv.dial(t, mta.Options{})
	say := say(t)
	say(idle.Connect("idle.example", client))
	say(busy.Connect("busy.example", client))
	say(busy.Mail("s@example.org", nil))
	say(busy.Rcpt("good@example.com")) // MAIL alone has no answer and may not have arrived
	srv.stop()
	if _, err := idle.Connect("again.example", client); err == nil {
		testkit.Eventually(t, "the idle connection's end", func() bool {
			_, err := idle.Connect("again.example", client)
			return err != nil
		})
	}
	if got := say(busy.Rcpt("unknown@example.com")); got.Code != 550 {
		t.Errorf("a recipient during the drain: %+v", got)
	}
	select {
	case err := <-srv.done:
		t.Fatalf("Serve has returned within a transaction: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	say(busy.EndOfMessage())
	if _, err := busy.Connect("again.example", client); err == nil {
		t.Error("the connection is open after its transaction")
	}
	if err := <-srv.done; err != nil {
		t.Error(err)
	}
}

// Postfix keeps MAIL back until the first recipient: a drain that begins between the two waits for
// them a little, and the recipient is answered.
func TestDrainWaitsForAMailHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, dial := inMemory(t, &asker{}, milter.Config{Drain: setting.Duration(time.Minute)})
		c := speak(t, dial())
		say := say(t)
		say(c.Connect("client.example", client))
		srv.stop()
		synctest.Wait() // the drain has found the connection idle
		if _, err := c.Mail("s@example.org", nil); err != nil {
			t.Error(err)
		}
		if got := say(c.Rcpt("unknown@example.com")); got.Code != 550 {
			t.Errorf("the first recipient during the drain: %+v", got)
		}
		say(c.EndOfMessage())
		if err := <-srv.done; err != nil {
			t.Error(err)
		}
	})
}

// What does not end in time is ended, and only then are its questions cancelled.
func TestDrainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{})
		var cancelled time.Time
		gate := &asker{answer: func(ctx context.Context, _ *rcptgate.Query) rcptgate.Verdict {
			close(asked)
			<-ctx.Done()
			cancelled = time.Now()
			return rcptgate.CouldNotFindOut
		}}
		const drain = 300 * time.Millisecond
		srv, dial := inMemory(t, gate, milter.Config{Drain: setting.Duration(drain)})
		c := speak(t, dial())
		say := say(t)
		say(c.Connect("client.example", client))
		say(c.Mail("s@example.org", nil))
		go func() { _, _ = c.Rcpt("slow@example.com") }()
		<-asked
		begun := time.Now()
		srv.stop()
		if err := <-srv.done; err != nil {
			t.Error(err)
		}
		if took := cancelled.Sub(begun); took != drain {
			t.Errorf("the question was cancelled after %v, the drain is %v", took, drain)
		}
		if open := srv.Stats().Open; open != 0 {
			t.Errorf("%d connections are open", open)
		}
	})
}

// A check that panics in spite of the gate's own guard costs its connection.
func TestPanicEndsOnlyItsConnection(t *testing.T) {
	gate := &asker{answer: func(context.Context, *rcptgate.Query) rcptgate.Verdict { panic("boom") }}
	srv := start(t, gate, milter.Config{}, "unix")
	c := srv.dial(t, mta.Options{})
	say(t)(c.Connect("client.example", client))
	if _, err := c.Rcpt("u@example.com"); err == nil {
		t.Error("an answer without a verdict")
	}
	say(t)(srv.dial(t, mta.Options{}).Connect("client.example", client))
}
