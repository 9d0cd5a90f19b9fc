// SPDX-License-Identifier: BSD-2-Clause

package callahead

import "time"

// proofLife is for how long a recipient that was taken proves that a backend talks
// to us about a domain.
const proofLife = 10 * time.Minute

// pair is a backend and a domain.
type pair struct{ backend, domain string }

// taken is the last two recipients of a pair that the backend took in reply to a
// probe: two, since one of them may be the one in question.
type taken struct {
	first, second         string // keys
	firstTime, secondTime time.Time
}

// took remembers that the backend took the recipient under key.
func (s *State) took(p pair, key string, now time.Time) {
	s.proofs.Update(p, func(t taken) taken {
		if t.first != key {
			t.second, t.secondTime = t.first, t.firstTime
		}
		t.first, t.firstTime = key, now
		return t
	})
}

// tookAnother reports whether the backend has just taken another recipient of the
// domain: then a refusal of key is about the recipient, not about us.
func (s *State) tookAnother(p pair, key string, now time.Time) bool {
	t := s.proofs.Get(p)
	fresh := func(other string, at time.Time) bool {
		return other != "" && other != key && now.Sub(at) < proofLife
	}
	return fresh(t.first, t.firstTime) || fresh(t.second, t.secondTime)
}
