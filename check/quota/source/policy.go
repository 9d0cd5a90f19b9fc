// SPDX-License-Identifier: BSD-2-Clause

package source

import (
	"context"

	"rcptgate/check/quota/dovecot"
	"rcptgate/check/quota/room"
)

// policy asks Dovecot's quota-status, or another Postfix policy service, whether a message
// of a size fits. It says yes or no, without numbers.
type policy struct{ pool *dovecot.Pool }

func newPolicy(network, address string) policy { return policy{dovecot.Policy(network, address)} }

// Ask asks with the store's name of the mailbox as recipient.
func (p policy) Ask(ctx context.Context, m Mailbox, size int64) (room.Answer, error) {
	w, err := p.pool.Ask(ctx, m.User, size)
	if err != nil {
		return room.Answer{}, err
	}
	a, err := fromWire(&w)
	if err == nil && a.State == room.Unknown {
		a.Note = "the service refuses the recipient for another reason than its quota"
	}
	return a, err
}

// Close closes idle connections.
func (p policy) Close() { p.pool.Close() }
