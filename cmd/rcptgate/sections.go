// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"time"

	"rcptgate/route"
	"rcptgate/store"
)

// sectionNames finds what the command line needs to know of a domain without a
// query: whether its local parts ignore case.
type sectionNames struct {
	sections *route.Sections
	keeps    []bool // by section: case matters
}

func newSectionNames(domains []DomainConfig) (sectionNames, error) {
	var names []string
	var s sectionNames
	for i := range domains {
		names = append(names, domains[i].Name)
		s.keeps = append(s.keeps, domains[i].LocalCase != nil && *domains[i].LocalCase == "keep")
	}
	var err error
	s.sections, err = route.NewSections(names)
	return s, err
}

func (s sectionNames) foldsCase(domain string) bool {
	i := s.sections.Find(domain)
	return i < 0 || !s.keeps[i]
}

// nowhere is a memory that keeps nothing, for a chain that is built to be judged.
type nowhere struct{}

func (nowhere) Recall(context.Context, string) (store.Record, string, bool) {
	return store.Record{}, "", false
}

func (nowhere) Learn(string, time.Time, func(store.Record) store.Record) {}
