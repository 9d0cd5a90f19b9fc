// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"fmt"
	"math"
	"slices"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// Bounds of what is one step of Starlark, and is not interrupted: comparing and hashing
// values within values, each of which counts as often as it is met. A long string counts
// once more for each 256 octets.
const (
	compareMax = 1_000_000
	sortMax    = 100_000 // of what is sorted: each of them is compared several times
	keyMax     = 1000
	nestedMax  = 200
	scalarMax  = 256 // octets of a string that is compared in no time
	intDigits  = intMax * 3 / 10
)

var (
	errCompare = fmt.Errorf("values with more than %d parts, or nested more than %d deep, cannot be compared", compareMax, nestedMax)
	errSort    = fmt.Errorf("values with more than %d parts, or nested more than %d deep, cannot be compared with each other", sortMax, nestedMax)
	errKey     = fmt.Errorf("a value with more than %d parts, or nested more than %d deep, cannot be a key", keyMax, nestedMax)
)

// comparisons are the operators that compare.
var comparisons = map[syntax.Token]string{ //nolint:gochecknoglobals // a table
	syntax.EQL: "==", syntax.NEQ: "!=", syntax.LT: "<", syntax.GT: ">", syntax.LE: "<=", syntax.GE: ">=", syntax.IN: "in", syntax.NOT_IN: "not in",
}

// scale weighs values; left is what they may weigh.
type scale struct{ left int }

// put adds a value, and reports whether it has not become too much.
func (s *scale) put(v starlark.Value) bool { return s.add(v, 0) }

func (s *scale) add(v starlark.Value, depth int) bool {
	if s.left--; s.left < 0 || depth > nestedMax {
		return false
	}
	switch v := v.(type) {
	case starlark.String:
		s.left -= len(v) / scalarMax
	case starlark.Bytes:
		s.left -= len(v) / scalarMax
	case starlark.Tuple:
		for _, e := range v {
			if !s.add(e, depth+1) {
				return false
			}
		}
	case *starlark.List:
		for i := range v.Len() {
			if !s.add(v.Index(i), depth+1) {
				return false
			}
		}
	case *starlark.Dict:
		for k, e := range v.Entries() {
			if !s.add(k, depth+1) || !s.add(e, depth+1) {
				return false
			}
		}
	case *starlark.Set:
		for e := range v.Elements() {
			if !s.add(e, depth+1) {
				return false
			}
		}
	}
	return s.left >= 0
}

// isScalar reports whether a value is compared and hashed in no time.
func isScalar(v starlark.Value) bool {
	switch v := v.(type) {
	case starlark.String:
		return len(v) <= scalarMax
	case starlark.NoneType, starlark.Bool, starlark.Int, starlark.Float:
		return true
	}
	return false
}

// alike reports why two values cannot be compared. A comparison ends with the smaller
// of them.
func alike(x, y starlark.Value) error {
	if isScalar(x) || isScalar(y) {
		return nil
	}
	if a, b := (scale{compareMax}), (scale{compareMax}); a.put(x) || b.put(y) {
		return nil
	}
	return errCompare
}

// findable reports why a value cannot be looked for in another.
func findable(x, in starlark.Value) error {
	switch in := in.(type) {
	case *starlark.Dict, *starlark.Set:
		return hashFits(x)
	case *starlark.List, starlark.Tuple:
		if isScalar(x) {
			return nil
		}
		if s := (scale{compareMax / max(1, starlark.Len(in))}); s.put(x) {
			return nil
		}
		if s := (scale{compareMax}); !s.put(in) {
			return errCompare
		}
	}
	return nil
}

// hashFits reports why a value cannot be a key. Other errors are Starlark's own.
func hashFits(v starlark.Value) error {
	if t, ok := v.(starlark.Tuple); ok {
		if s := (scale{keyMax}); !s.put(t) {
			return errKey
		}
	}
	return nil
}

// keysFit is hashFits for all values of something, and for the first of each pair with pairs.
func keysFit(list starlark.Value, pairs bool) error {
	switch list.(type) {
	case *starlark.Dict, *starlark.Set, starlark.String:
		return nil // they have been looked at
	}
	iter := starlark.Iterate(list)
	if iter == nil {
		return nil
	}
	defer iter.Done()
	for v := starlark.Value(nil); iter.Next(&v); {
		if pairs {
			pair, ok := v.(starlark.Indexable)
			if !ok || pair.Len() == 0 {
				continue
			}
			v = pair.Index(0)
		}
		if err := hashFits(v); err != nil {
			return err
		}
	}
	return nil
}

// comparison is a checked operator of comparisons.
func comparison(op syntax.Token) builtin {
	return func(_ *Call, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		x, y := args[0], args[1]
		if op == syntax.IN || op == syntax.NOT_IN {
			if err := findable(x, y); err != nil {
				return nil, err
			}
			v, err := starlark.Binary(syntax.IN, x, y)
			if op == syntax.NOT_IN && err == nil {
				v = !v.Truth()
			}
			return v, err
		}
		if err := alike(x, y); err != nil {
			return nil, err
		}
		ok, err := starlark.Compare(op, x, y)
		return starlark.Bool(ok), err
	}
}

// keyed is a key that has been checked.
func keyed(_ *Call, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	return args[0], hashFits(args[0])
}

// native is the code of a word that calls functions of the script.
type native = func(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

// sorting is sorted, min or max.
func sorting(f *starlark.Builtin) native {
	return func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		s := &scale{sortMax}
		args, kwargs = slices.Clone(args), slices.Clone(kwargs)
		byKey := false
		for i, a := range args {
			if key, ok := a.(starlark.Callable); ok && i > 0 {
				args[i], byKey = s.weighed(key), true
			}
		}
		for i, kv := range kwargs {
			if key, ok := kv[1].(starlark.Callable); ok && kv[0] == starlark.String("key") {
				kwargs[i], byKey = starlark.Tuple{kv[0], s.weighed(key)}, true
			}
		}
		for _, a := range args {
			if _, ok := a.(starlark.Iterable); !ok {
				if !byKey && !s.put(a) {
					return nil, errSort
				}
				continue
			}
			if countOf(a, sortMax) > sortMax || !byKey && !s.put(a) {
				return nil, errSort
			}
		}
		return f.CallInternal(t, args, kwargs)
	}
}

// weighed is a function whose results are put on the scale.
func (s *scale) weighed(f starlark.Callable) starlark.Value {
	return starlark.NewBuiltin(f.Name(), func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		v, err := starlark.Call(t, f, args, kwargs)
		if err == nil && !s.put(v) {
			err = errSort
		}
		return v, err
	})
}

// countOf is how many elements a value has; more than atMost are not counted. -1: it has none.
func countOf(v starlark.Value, atMost int) int {
	if n := starlark.Len(v); n >= 0 {
		return n
	}
	iter := starlark.Iterate(v)
	if iter == nil {
		return -1
	}
	defer iter.Done()
	n := 0
	for e := starlark.Value(nil); n <= atMost && iter.Next(&e); {
		n++
	}
	return n
}

// sequences checks what list, tuple, set, dict and zip make.
func sequences(f *starlark.Builtin) builtin {
	return func(_ *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		least := math.MaxInt
		for _, a := range args {
			n := countOf(a, listMax)
			if n < 0 {
				continue
			}
			least = min(least, n)
			if b.Name() == "set" || b.Name() == "dict" {
				if err := keysFit(a, b.Name() == "dict"); err != nil {
					return nil, err
				}
			}
		}
		if least < math.MaxInt {
			if err := lengthOK(false, times(least, len(args))); err != nil {
				return nil, err
			}
		}
		return f.CallInternal(nil, args, kwargs)
	}
}

// intOf is int(), whose time grows with the square of the digits.
func intOf(f *starlark.Builtin) builtin {
	return func(_ *Call, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) > 0 {
			if s, ok := args[0].(starlark.String); ok && len(s) > intDigits {
				return nil, fmt.Errorf("int: a number of %d digits: at most %d are allowed", len(s), intDigits)
			}
		}
		return f.CallInternal(nil, args, kwargs)
	}
}
