// SPDX-License-Identifier: BSD-2-Clause

package store

import (
	"context"
	"time"
)

// Name is what a gateway publishes of a name in its alias databases.
type Name struct {
	// Value is what the name stands for, as on the right-hand side of aliases(5); ""
	// when that is not for others: then all they know is that the name is taken.
	Value   string
	Written time.Time
	Expire  time.Time // from here on it says nothing; its publisher renews it before
}

// Survey is what a look at a publisher's marks showed.
type Survey uint8

// What it can show.
const (
	Intact Survey = iota // names are where they were put
	Moved                // other servers live than before: some names are sought elsewhere
	Lost                 // a server is empty
)

// MaxNameValue is the longest value that is published, in octets.
const MaxNameValue = 4 << 10

// Names is where gateways publish the names of their alias databases for those that do
// not have the files: in store/memcached. Names may be missing at any time, and that a
// name is missing proves nothing. Implementations are safe for concurrent use.
type Names interface {
	// Find gives what is published under each name; the others are absent. With an
	// error the map holds what was found nevertheless. It is bounded by ctx, by the
	// place's own time-out for one operation and by the budget of ctx; see [rcptgate.Budget].
	Find(ctx context.Context, names []string) (map[string]Name, error)
	// Publish writes a name over whatever was there.
	Publish(ctx context.Context, name string, n Name) error
	// Withdraw removes a name; an absent one is not an error.
	Withdraw(ctx context.Context, name string) error
	// Survey looks, with one or two small questions a server, whether the marks of a
	// publisher are where they were left, and leaves them where they were not. The first
	// call of a publisher finds them Lost. Publisher names one publisher and no
	// other; its marks end by themselves after life.
	Survey(ctx context.Context, publisher string, life time.Duration) (Survey, error)
	// Down reports that no server is alive: Publish and Withdraw would be in vain.
	Down() bool
}
