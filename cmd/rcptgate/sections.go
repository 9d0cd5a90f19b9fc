// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"strings"
	"time"

	"rcptgate/address"
	"rcptgate/store"
)

// sectionNames finds what the command line needs to know of a domain without a
// query: whether its local parts ignore case.
type sectionNames map[string]bool

func newSectionNames(domains []DomainConfig) sectionNames {
	folds := make(sectionNames, len(domains))
	for i := range domains {
		d := &domains[i]
		name := d.Name
		if bare, ok := strings.CutPrefix(name, "."); ok {
			name = "." + address.Domain(bare)
		} else if name != "*" {
			name = address.Domain(name)
		}
		folds[name] = d.LocalCase == nil || *d.LocalCase != "keep"
	}
	return folds
}

// foldsCase looks for the domain, then the suffixes, then "*", as the router does.
func (s sectionNames) foldsCase(domain string) bool {
	if folds, ok := s[domain]; ok {
		return folds
	}
	for rest := domain; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		rest = rest[dot+1:]
		if folds, ok := s["."+rest]; ok {
			return folds
		}
	}
	if folds, ok := s["*"]; ok {
		return folds
	}
	return true
}

// nowhere is a memory that keeps nothing, for a chain that is built to be judged.
type nowhere struct{}

func (nowhere) Recall(context.Context, string) (store.Record, string, bool) {
	return store.Record{}, "", false
}

func (nowhere) Learn(string, time.Time, func(store.Record) store.Record) {}
