// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"testing"
)

// TestNoNames: where no memcached was configured at the start, names are unknown, and
// nobody is asked.
func TestNoNames(t *testing.T) {
	var none *aliasNames
	if _, found, err := none.table().Lookup(context.Background(), "ann"); found || !errors.Is(err, errNoNames) {
		t.Errorf("%v, %v", found, err)
	}
}
