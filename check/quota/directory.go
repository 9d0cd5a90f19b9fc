// SPDX-License-Identifier: BSD-2-Clause

// Package quota refuses recipients whose mailbox has no room for the message, before the
// message is taken. It is asked after existence, about the mailbox that aliases led to.
package quota

import (
	"context"

	"rcptgate"
	"rcptgate/check/quota/directory"
)

// Directory finds which store holds a mailbox, and its limit. It keeps what it finds itself,
// and is safe for concurrent use. An error means "could not find out": sources that do not
// need what it would have said are asked all the same.
type Directory interface {
	Find(ctx context.Context, m rcptgate.Mailbox) (directory.Entry, error)
}
