// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"strings"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/config/setting"
)

// withRoom asks valid answers older than five minutes again.
func withRoom(w *world) {
	room := setting.Duration(5 * time.Minute)
	w.opt.Domains = []DomainConfig{{Room: &room}}
}

// askSized is world.ask for a message of a declared size.
func (w *world) askSized(recipient string, size int64) rcptgate.Verdict {
	q := query(recipient)
	q.Size = size
	return w.put(q)
}

func TestRoomAsksAnOldValidAnswerAgain(t *testing.T) {
	inBubble(t, withRoom, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest = good
		w.expect(w.ask("u@example.com"), "continue 250 - valid probe")
		b.all(full)
		time.Sleep(4 * time.Minute)
		w.expect(w.ask("u@example.com"), "continue 250 - valid ram")
		time.Sleep(2 * time.Minute)
		w.expect(w.ask("u@example.com"), "tempfail 452 4.2.2 mailbox-full probe")
		w.expect(w.ask("u@example.com"), "tempfail 452 4.2.2 mailbox-full ram")
		b.all(good)
		time.Sleep(6 * time.Minute)
		w.expect(w.ask("u@example.com"), "continue 250 - valid probe")
		w.expect(w.ask("u@example.com"), "continue 250 - valid ram")
	})
}

func TestRoomKeepsTheValidAnswerAsNet(t *testing.T) {
	for name, s := range map[string]said{"down": down, "banner": banner554, "sender": mail553, "silent": good.late(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, withRoom, func(t *testing.T, w *world) {
				b := w.backend(at1)
				b.rest = good
				w.ask("u@example.com")
				b.all(s)
				time.Sleep(6 * time.Minute)
				w.expect(w.ask("u@example.com"), "continue 250 - valid ram")
			})
		})
	}
}

func TestWithoutRoomAValidAnswerServes(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest = good
		w.ask("u@example.com")
		b.all(full)
		time.Sleep(6 * time.Hour)
		w.expect(w.askSized("u@example.com", 1000), "continue 250 - valid ram")
		for _, p := range b.probes() {
			if p.Size != 0 {
				t.Errorf("a size of %d was said without room", p.Size)
			}
		}
	})
}

// TestRoomIsBySize: a message that is too big for what is left is refused, and nothing is
// remembered that would refuse a small one.
func TestRoomIsBySize(t *testing.T) {
	inBubble(t, withRoom, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.decide = func(p backend.Probe) *said {
			switch {
			case strings.HasPrefix(p.Recipient.Local, "rcptgate"): // made up
				return nil
			case p.Size > 100_000:
				return &full
			}
			return &good
		}
		w.expect(w.askSized("u@example.com", 50_000), "continue 250 - valid probe")
		time.Sleep(6 * time.Minute)
		w.expect(w.askSized("u@example.com", 200_000), "tempfail 452 4.2.2 mailbox-full probe")
		w.expect(w.askSized("u@example.com", 50_000), "continue 250 - valid ram")
		sizes := []int64{50_000, 200_000, 0}
		for i, p := range b.probes() {
			if i >= len(sizes) || p.Size != sizes[i] {
				t.Errorf("question %d has size %d", i, p.Size)
			}
		}
	})
}

// TestRoomOfAFullMailbox: full whatever the size is remembered.
func TestRoomOfAFullMailbox(t *testing.T) {
	inBubble(t, withRoom, func(t *testing.T, w *world) {
		b := w.backend(at1)
		b.rest = full
		w.expect(w.askSized("u@example.com", 50_000), "tempfail 452 4.2.2 mailbox-full probe")
		for range 100 {
			w.expect(w.askSized("u@example.com", 1), "tempfail 452 4.2.2 mailbox-full ram")
		}
		if n, _ := b.counts(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}
