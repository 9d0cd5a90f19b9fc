// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"rcptgate/pattern"
)

// index finds the rules that may match a question. Each rule is filed under the most
// selective exact key that one of its conditions has: recipient, sender, their domains, the
// authenticated user, the client's network. A rule that has none is in rest, and is looked
// at for every question.
type index struct {
	recipients, senders keyed
	users               map[string][]int32
	nets4               map[uint64][]int32 // by prefix and its length
	nets6               map[netip.Prefix][]int32
	bits                [2]lengths // lengths of the prefixes in nets, of IPv4 and IPv6
	first4              [4]uint64  // bits of the first octets of addresses in nets4
	rest                []int32
}

// lengths is a set of prefix lengths, 0 to 128.
type lengths [3]uint64

func (l *lengths) add(n int) { l[n>>6] |= 1 << (n & 63) }

// keyed are rules by exact keys of addresses.
type keyed struct {
	rules map[string][]int32
	forms pattern.Forms
	sieve [32]uint64 // bits of the keys there are: most of those that are asked for have no bit
}

// bitOf is a key's place in the sieve. Keys are never empty.
func bitOf(key string) uint {
	n := uint(len(key))
	return n ^ uint(key[0])<<5 ^ uint(key[n/2])<<2 ^ uint(key[n/4])<<7 ^ uint(key[n-1])<<3 ^ uint(key[n*3/4])<<6
}

func (k *keyed) add(key pattern.Key, number int32) {
	if k.rules == nil {
		k.rules = make(map[string][]int32)
	}
	k.forms.Add(key.Form)
	bit := bitOf(key.Text)
	k.sieve[bit>>6&31] |= 1 << (bit & 63)
	k.rules[key.Text] = appendNew(k.rules[key.Text], number)
}

// find appends the lists of the keys that an address has.
func (k *keyed) find(a *pattern.Address, lists [][]int32) [][]int32 {
	if k.forms == 0 {
		return lists
	}
	a.Keys(k.forms, false, func(_ pattern.Form, key string) bool {
		if bit := bitOf(key); k.sieve[bit>>6&31]>>(bit&63)&1 != 0 {
			if list := k.rules[key]; list != nil {
				lists = append(lists, list)
			}
		}
		return true
	})
	return lists
}

// add files a rule.
func (x *index) add(number int32, r *rule) {
	recipients, byRecipient := keysOf(r.recipient)
	senders, bySender := keysOf(r.sender)
	switch {
	case byRecipient && (narrow(recipients) || !bySender || !narrow(senders)):
		x.recipients.addAll(recipients, number)
		r.filed = "recipient"
	case bySender:
		x.senders.addAll(senders, number)
		r.filed = "sender"
	case x.addUsers(number, r):
		r.filed = "auth_user"
	case x.addNets(number, r):
		r.filed = "client"
	default:
		x.rest = append(x.rest, number)
		r.filed = "every question"
	}
}

func (k *keyed) addAll(keys []pattern.Key, number int32) {
	for _, key := range keys {
		k.add(key, number)
	}
}

func keysOf(s *pattern.Set) ([]pattern.Key, bool) {
	if s == nil {
		return nil, false
	}
	return s.Keys()
}

// narrow reports whether all keys name somebody, not a domain.
func narrow(keys []pattern.Key) bool {
	for _, k := range keys {
		if k.Form >= pattern.FormDomain && k.Form != pattern.FormNull {
			return false
		}
	}
	return true
}

func (x *index) addUsers(number int32, r *rule) bool {
	if r.authUser == nil {
		return false
	}
	names, ok := r.authUser.Names()
	if !ok {
		return false
	}
	if x.users == nil {
		x.users = make(map[string][]int32)
	}
	for _, name := range names {
		x.users[name] = appendNew(x.users[name], number)
	}
	return true
}

func (x *index) addNets(number int32, r *rule) bool {
	if r.client == nil {
		return false
	}
	nets, ok := r.client.Networks()
	if !ok {
		return false
	}
	if x.nets4 == nil {
		x.nets4, x.nets6 = make(map[uint64][]int32), make(map[netip.Prefix][]int32)
	}
	for _, n := range nets {
		x.bits[family(n.Addr())].add(n.Bits())
		if n.Addr().Is4() {
			key := key4(n.Addr(), n.Bits())
			x.nets4[key] = appendNew(x.nets4[key], number)
			x.addFirst(n.Prefix)
		} else {
			x.nets6[n.Prefix] = appendNew(x.nets6[n.Prefix], number)
		}
	}
	return true
}

// addFirst notes the first octets of the addresses of an IPv4 network.
func (x *index) addFirst(n netip.Prefix) {
	first := int(n.Masked().Addr().As4()[0])
	for octet := first; octet < first+1<<max(0, 8-n.Bits()); octet++ {
		x.first4[octet>>6] |= 1 << (octet & 63)
	}
}

// appendNew adds a number that is not the last one already.
func appendNew(list []int32, number int32) []int32 {
	if n := len(list); n > 0 && list[n-1] == number {
		return list
	}
	return append(list, number)
}

// key4 is an IPv4 network as a number: its first bits, and how many these are.
func key4(a netip.Addr, length int) uint64 {
	b := a.As4()
	n := uint64(binary.BigEndian.Uint32(b[:]))
	return n>>(32-length)<<(32-length)<<8 | uint64(length) // #nosec G115 -- 0 to 32
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// find gives the lists of rules that may match.
func (x *index) find(q *question) [][]int32 {
	if m := &q.message; !m.filed {
		m.lists, m.filed = x.findMessage(m, m.lists[:0]), true
	}
	q.lists = x.recipients.find(&q.recipientAddr, append(q.lists[:0], q.message.lists...))
	return q.lists
}

// findMessage appends the lists of rules that may match some recipient of a message.
func (x *index) findMessage(m *message, lists [][]int32) [][]int32 {
	lists = x.senders.find(&m.senderAddr, lists)
	if len(x.users) > 0 && m.authUser != "" {
		if list := x.users[lower(m.authUser)]; list != nil {
			lists = append(lists, list)
		}
	}
	if x.nets4 != nil && m.client.IsValid() {
		lists = x.findNets(m.client.Unmap(), lists)
	}
	if len(x.rest) > 0 {
		lists = append(lists, x.rest)
	}
	return lists
}

func (x *index) findNets(client netip.Addr, lists [][]int32) [][]int32 {
	if client.Is4() {
		if first := client.As4()[0]; x.first4[first>>6]>>(first&63)&1 == 0 {
			return lists
		}
	}
	for i, word := range x.bits[family(client)] {
		for ; word != 0; word &= word - 1 {
			var list []int32
			if n := i<<6 + bits.TrailingZeros64(word); client.Is4() {
				list = x.nets4[key4(client, n)]
			} else if p, err := client.Prefix(n); err == nil {
				list = x.nets6[p]
			}
			if list != nil {
				lists = append(lists, list)
			}
		}
	}
	return lists
}

// next takes the lowest number off the lists, each of which ascends; -1 at their end.
func next(lists [][]int32) int32 {
	low := int32(-1)
	for _, l := range lists {
		if len(l) > 0 && (low < 0 || l[0] < low) {
			low = l[0]
		}
	}
	if low < 0 {
		return -1
	}
	for i, l := range lists {
		if len(l) > 0 && l[0] == low {
			lists[i] = l[1:]
		}
	}
	return low
}
