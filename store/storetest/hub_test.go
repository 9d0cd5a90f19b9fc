// SPDX-License-Identifier: BSD-2-Clause

package storetest_test

import (
	"testing"
	"time"

	"rcptgate/store"
	"rcptgate/store/storetest"
)

func TestHub(t *testing.T) {
	storetest.Run(t, func(t *testing.T, _ int) store.Store {
		return storetest.NewHub(time.Now).Gateway()
	}, storetest.CannotList)
}
