// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"sync"
	"time"
)

// refresher has answers asked again in the background: a bounded queue, a bounded
// number of workers, and a bounded share of them for each domain, so that one slow
// backend does not keep the others' answers from being refreshed. What finds no
// place is dropped; the next use of the answer asks again.
type refresher struct {
	queue chan *question
	known sync.Map // keys that wait or are being asked

	mu      sync.Mutex
	running map[string]int // workers by domain
}

func (r *refresher) init() {
	r.queue = make(chan *question, refreshQueue)
	r.running = make(map[string]int)
}

// waiting reports whether the answer under key is to be asked again already.
func (r *refresher) waiting(key string) bool {
	_, waiting := r.known.Load(key)
	return waiting
}

// enqueueRefresh has qn asked in the background.
func (s *State) enqueueRefresh(qn *question) {
	if _, waiting := s.refresh.known.LoadOrStore(qn.key, struct{}{}); waiting {
		return
	}
	select {
	case s.refresh.queue <- qn:
	default:
		s.refresh.known.Delete(qn.key)
		s.count.refreshDropped.Add(1)
	}
}

func (s *State) refreshWorker() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case qn := <-s.refresh.queue:
			s.refreshOne(qn)
		}
	}
}

func (s *State) refreshOne(qn *question) {
	defer s.refresh.known.Delete(qn.key)
	if !s.refresh.enter(qn.mailbox.Domain) {
		s.count.refreshDropped.Add(1)
		return
	}
	defer s.refresh.leave(qn.mailbox.Domain)
	now := time.Now()
	f, isNew := s.flights.Join(flightKey{key: qn.key, route: qn.rt.String()})
	if !isNew {
		return // another is asking, or too many are
	}
	s.count.refreshes.Add(1)
	qn.due, qn.refresh = now.Add(defaultDue), true
	qn.check.fly(f, qn, now)
}

func (r *refresher) enter(domain string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[domain] >= refreshPerName {
		return false
	}
	r.running[domain]++
	return true
}

func (r *refresher) leave(domain string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running[domain]--; r.running[domain] <= 0 {
		delete(r.running, domain)
	}
}
