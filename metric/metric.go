// SPDX-License-Identifier: BSD-2-Clause

// Package metric has what a unit says of its metrics: plain values, read when somebody
// asks for them. The host makes Prometheus metrics of them (prometheus.io, "Exposition
// formats"); a unit does not know that library.
//
// Names are without the prefix "rcptgate_". No label ever has a recipient in it.
package metric

import "time"

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
	Name   string // "backend_up"
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
