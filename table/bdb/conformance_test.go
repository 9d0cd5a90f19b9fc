// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"path/filepath"
	"testing"

	"rcptgate/table/bdb"
	"rcptgate/table/tabletest"
)

// TestConformance puts the samples through the suite of all formats.
func TestConformance(t *testing.T) {
	for _, s := range samples {
		if s.name == "hash-fill" {
			continue // a zeroed page is an empty bucket there: see nothingLost
		}
		sample := tabletest.Sample{Name: s.name, Data: mustRead(t, sampleFile(s.name)), Page: 512}
		for _, p := range parseDump(t, mustRead(t, filepath.Join("testdata", s.name+".dump"))) {
			sample.Pairs = append(sample.Pairs, tabletest.Pair{Key: p.key, Value: p.value})
		}
		tabletest.Run(t, bdb.New(), sample)
	}
}
