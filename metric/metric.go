// SPDX-License-Identifier: BSD-2-Clause

// Package metric has what a unit says of its metrics: plain values, read when somebody
// asks for them. Package metric/exposition serves them; a unit does not know Prometheus's library.
//
// No label ever has a recipient in it.
package metric

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Prefix is in front of the name of every family where others see it.
const Prefix = "rcptgate_"

// Kind is what a family's values are.
type Kind uint8

// The kinds.
const (
	Counter Kind = iota // only grows
	Gauge               // goes up and down
	Histogram
)

// Emit hands over one value, with a value for each of the family's labels.
type Emit func(value float64, labels ...string)

// EmitBuckets hands over one histogram.
type EmitBuckets func(h Buckets, labels ...string)

// Buckets is how long things took: Counts[i] of them at most Bounds[i], and longer than
// the bound before; the last of Counts, one more than there are Bounds, has the rest. Sum
// is the sum of all. The metric is in seconds.
type Buckets struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration
}

// Family is one metric with all its labels.
type Family struct {
	Kind   Kind
	Name   string // "backend_up", without the prefix
	Help   string // a sentence
	Labels []string
	Read   func(Emit)        // of a counter or gauge
	Fill   func(EmitBuckets) // of a histogram
}

// Count makes a counter without labels.
func Count(name, help string, read func() float64) Family {
	return Family{Kind: Counter, Name: name, Help: help, Read: func(emit Emit) { emit(read()) }}
}

// Level makes a gauge without labels.
func Level(name, help string, read func() float64) Family {
	return Family{Kind: Gauge, Name: name, Help: help, Read: func(emit Emit) { emit(read()) }}
}

// Each makes a family with one label: for every item of list, its value under its name.
func Each[T any](kind Kind, name, help, label string, list func() []T, of func(*T) (value float64, name string)) Family {
	return Family{Kind: kind, Name: name, Help: help, Labels: []string{label}, Read: func(emit Emit) {
		items := list()
		for i := range items {
			v, n := of(&items[i])
			emit(v, n)
		}
	}}
}

// Bool is 1 for true.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// word is what Prometheus takes as a name of a metric or label ("Data model"), in small letters.
var word = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Check reports what is wrong with the families of a program: a name twice, a name or label that
// Prometheus would not take, a family that cannot be read.
func Check(families []Family) error {
	var errs []error
	seen := map[string]bool{}
	for _, f := range families {
		bad := func(text string) { errs = append(errs, fmt.Errorf("metric %q: %s", f.Name, text)) }
		if seen[f.Name] {
			bad("there is another one of this name")
		}
		seen[f.Name] = true
		if names := append(slices.Clone(f.Labels), f.Name); slices.ContainsFunc(names, func(n string) bool { return !word.MatchString(n) }) {
			bad("names and labels consist of a-z, 0-9 and _, and begin with a letter")
		}
		if histogram := f.Kind == Histogram; histogram != (f.Fill != nil) || histogram == (f.Read != nil) {
			bad("a histogram needs Fill, another kind needs Read, and not both")
		}
	}
	return errors.Join(errs...)
}
