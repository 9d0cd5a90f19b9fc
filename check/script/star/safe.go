// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"rcptgate/kit/term"
)

// Bounds of values.
const (
	stringMax  = 4 << 20   // octets of a string
	listMax    = 1_000_000 // elements of a list, a tuple, a range
	intMax     = 65_536    // bits of a number
	partsMax   = 100_000   // of what is printed or made JSON
	depthMax   = 200       // of the same
	jsonDepth  = 200       // of JSON that is read
	jsonOctets = 1 << 20   // the same
)

func tooLong(n int) error {
	return fmt.Errorf("the result would have %s: a string may have %d", term.Count(n, "octet"), stringMax)
}

func tooMany(n int) error {
	return fmt.Errorf("the result would have %s: at most %d are allowed", term.Count(n, "element"), listMax)
}

// times multiplies lengths without overflow.
func times(a, b int) int {
	if a <= 0 || b <= 0 {
		return 0
	}
	if a > math.MaxInt32 || b > math.MaxInt32 {
		return math.MaxInt
	}
	return a * b
}

func lengthOK(isText bool, n int) error {
	switch {
	case isText && n > stringMax:
		return tooLong(n)
	case !isText && n > listMax:
		return tooMany(n)
	}
	return nil
}

// sized gives the length of a string, bytes, a list or a tuple.
func sized(v starlark.Value) (n int, isText, ok bool) {
	switch v := v.(type) {
	case starlark.String:
		return len(v), true, true
	case starlark.Bytes:
		return len(v), true, true
	case *starlark.List:
		return v.Len(), false, true
	case starlark.Tuple:
		return len(v), false, true
	}
	return 0, false, false
}

// fits reports whether the result of an operation has bounds.
func fits(op syntax.Token, x, y starlark.Value) error {
	if a, ok := x.(starlark.Int); ok {
		b, isInt := y.(starlark.Int)
		if isInt && op == syntax.STAR && bits(a)+bits(b) > intMax {
			return fmt.Errorf("the result would have more than %d bits", intMax)
		}
		if isInt {
			return nil
		}
		x, y = y, x // 3 * "a"
	}
	n, isText, ok := sized(x)
	if !ok {
		return nil
	}
	switch op {
	case syntax.PLUS:
		m, _, _ := sized(y)
		return lengthOK(isText, n+m)
	case syntax.STAR:
		if b, ok := y.(starlark.Int); ok {
			m, fine := b.Int64()
			if !fine || m > math.MaxInt32 {
				m = math.MaxInt32
			}
			return lengthOK(isText, times(n, int(m)))
		}
	case syntax.PERCENT:
		if s, ok := x.(starlark.String); ok && isText {
			return formatFits(string(s), "%", starlark.Tuple{y}, nil)
		}
	}
	return nil
}

func bits(i starlark.Int) int {
	if _, small := i.Int64(); small {
		return 64
	}
	return i.BigInt().BitLen()
}

// formatFits bounds what a format may become: each place may take the largest argument.
func formatFits(format, mark string, args starlark.Tuple, kwargs []starlark.Tuple) error {
	largest := 0
	var m meter
	for _, a := range args {
		if t, ok := a.(starlark.Tuple); ok && mark == "%" {
			for _, e := range t {
				n, err := m.size(e)
				if err != nil {
					return err
				}
				largest = max(largest, n)
			}
			continue
		}
		n, err := m.size(a)
		if err != nil {
			return err
		}
		largest = max(largest, n)
	}
	for _, k := range kwargs {
		n, err := m.size(k[1])
		if err != nil {
			return err
		}
		largest = max(largest, n)
	}
	return lengthOK(true, len(format)+times(strings.Count(format, mark), largest))
}

// meter measures values as they are printed. A value that is in many places of another
// counts for each: a small one can print without end.
type meter struct{ parts, octets int }

var errParts = fmt.Errorf("the value has more than %d parts, or is nested more than %d deep: it cannot be written out", partsMax, depthMax)

// size is the octets that a value has at most when it is printed.
func (m *meter) size(v starlark.Value) (int, error) {
	before := m.octets
	err := m.walk(v, 0)
	if err == nil && m.octets > 16*stringMax {
		err = tooLong(m.octets)
	}
	return m.octets - before, err
}

func (m *meter) walk(v starlark.Value, depth int) error {
	if m.parts++; m.parts > partsMax || depth > depthMax {
		return errParts
	}
	switch v := v.(type) {
	case starlark.String:
		m.octets += len(v) + 2
	case starlark.Bytes:
		m.octets += len(v) + 3
	case starlark.Int:
		m.octets += bits(v)/3 + 1
	case starlark.IterableMapping:
		for _, kv := range v.Items() {
			for _, e := range kv {
				if err := m.walk(e, depth+1); err != nil {
					return err
				}
			}
		}
	case starlark.Indexable:
		for i := range v.Len() {
			if err := m.walk(v.Index(i), depth+1); err != nil {
				return err
			}
		}
	case *starlark.Set:
		for e := range v.Elements() {
			if err := m.walk(e, depth+1); err != nil {
				return err
			}
		}
	default:
		m.octets += 64
	}
	return nil
}

// operator is a checked +, * or %.
func operator(op syntax.Token) builtin {
	return func(_ *Call, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		if err := fits(op, args[0], args[1]); err != nil {
			return nil, err
		}
		return starlark.Binary(op, args[0], args[1])
	}
}

// grown checks what x += y would make, and gives y.
func grown(op syntax.Token) builtin {
	return func(c *Call, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		c.charge(args[0])
		return args[1], fits(op, args[0], args[1])
	}
}

// callMethod is x.NAME(...) for methods of strings and lists whose result can be large.
func callMethod(c *Call, t *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	x, name := args[0], string(args[1].(starlark.String))
	args = args[2:]
	if err := methodFits(x, name, args, kwargs); err != nil {
		return nil, err
	}
	f, err := attribute(x, name)
	if err != nil {
		return nil, err
	}
	v, err := starlark.Call(t, f, args, kwargs)
	c.charge(v)
	return v, err
}

func methodFits(x starlark.Value, name string, args starlark.Tuple, kwargs []starlark.Tuple) error {
	switch x := x.(type) {
	case starlark.String:
		switch {
		case name == "split" || name == "rsplit":
			return splitFits(string(x), args)
		case name == "splitlines":
			return lengthOK(false, strings.Count(string(x), "\n")+strings.Count(string(x), "\r"))
		case name == "format":
			return formatFits(string(x), "{", args, kwargs)
		case (name == "strip" || name == "lstrip" || name == "rstrip") && len(args) > 0:
			if set, ok := args[0].(starlark.String); ok && len(set) > scalarMax {
				return fmt.Errorf("%s: a set of %d octets: at most %d are allowed", name, len(set), scalarMax)
			}
		case (name == "startswith" || name == "endswith") && len(args) > 0:
			if s := (scale{compareMax}); !s.put(args[0]) {
				return errCompare
			}
		case name == "join" && len(args) == 1:
			return joinFits(len(x), args[0])
		case name == "replace" && len(args) >= 2:
			old, ok := args[0].(starlark.String)
			with, also := args[1].(starlark.String)
			if ok && also {
				return lengthOK(true, len(x)+times(strings.Count(string(x), string(old)), len(with)))
			}
		}
	case *starlark.List:
		switch {
		case len(args) == 0:
		case name == "extend":
			return lengthOK(false, x.Len()+max(0, countOf(args[0], listMax)))
		case name == "index" || name == "remove":
			return findable(args[0], x)
		}
	case *starlark.Dict, *starlark.Set:
		return keyMethodFits(x, name, args)
	}
	return nil
}

// keyMethodFits looks at the keys that a method of a dictionary or a set is given.
func keyMethodFits(x starlark.Value, name string, args starlark.Tuple) error {
	_, isDict := x.(*starlark.Dict)
	switch name {
	case "get", "setdefault", "pop", "add", "remove", "discard":
		if len(args) > 0 {
			return hashFits(args[0])
		}
		return nil
	}
	for _, a := range args {
		if err := keysFit(a, isDict); err != nil {
			return err
		}
	}
	return nil
}

// splitFits bounds what a string is split into.
func splitFits(s string, args starlark.Tuple) error {
	n := len(s) / 2 // at white space
	if len(args) > 0 {
		if sep, ok := args[0].(starlark.String); ok {
			n = strings.Count(s, string(sep))
		}
	}
	return lengthOK(false, n)
}

func joinFits(sep int, list starlark.Value) error {
	iter := starlark.Iterate(list)
	if iter == nil {
		return nil
	}
	defer iter.Done()
	total := 0
	for v := starlark.Value(nil); iter.Next(&v); {
		s, _ := v.(starlark.String)
		if total += len(s) + sep; total > stringMax {
			return tooLong(total)
		}
	}
	return nil
}

// methodOf is x.NAME for checked methods, where it is not called at once.
func methodOf(x starlark.Value, name string) (starlark.Value, error) {
	v, err := attribute(x, name)
	if err != nil {
		return nil, err
	}
	switch x.(type) {
	case starlark.String, *starlark.List, *starlark.Dict, *starlark.Set:
		return starlark.NewBuiltin(name, func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			return callMethod(callOf(t), t, append(starlark.Tuple{x, starlark.String(name)}, args...), kwargs)
		}), nil
	}
	return v, nil
}

// getattr is Starlark's, whose methods are checked as those that are written out.
func getattr(f *starlark.Builtin) builtin {
	return func(_ *Call, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if len(args) >= 2 {
			if name, ok := args[1].(starlark.String); ok && slices.Contains(checked, string(name)) {
				if v, err := methodOf(args[0], string(name)); err == nil {
					return v, nil
				}
			}
		}
		return f.CallInternal(nil, args, kwargs)
	}
}

// printed is print(), with the same bounds as log().
func printed(c *Call, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var sep starlark.Value
	if err := starlark.UnpackArgs("print", nil, kwargs, "sep?", &sep); err != nil {
		return nil, err
	}
	line, err := sentence(args)
	if err == nil {
		c.log(nil, line)
	}
	return starlark.None, err
}

// attribute is x.NAME, with the error that Starlark itself gives.
func attribute(x starlark.Value, name string) (starlark.Value, error) {
	if has, ok := x.(starlark.HasAttrs); ok {
		v, err := has.Attr(name)
		if v != nil || err != nil {
			return v, err
		}
	}
	return nil, NoAttr(x, name)
}

// NoAttr is the error for an attribute that a value does not have.
func NoAttr(x starlark.Value, name string) error {
	hint := ""
	if has, ok := x.(starlark.HasAttrs); ok {
		hint = Nearest(name, has.AttrNames(), ".")
	}
	return fmt.Errorf("%s has no .%s field or method%s", x.Type(), name, hint)
}

// written checks that values can be printed, and gives f's result.
func written(f *starlark.Builtin) builtin {
	return func(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		var m meter
		for _, a := range args {
			n, err := m.size(a)
			if err == nil {
				err = lengthOK(true, n)
			}
			if err != nil {
				return nil, err
			}
		}
		return f.CallInternal(nil, args, kwargs)
	}
}

// rangeOf is range() with a bound: what it makes can be gone through in one step.
func rangeOf(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	v, err := starlark.Universe["range"].(*starlark.Builtin).CallInternal(nil, args, kwargs)
	if err != nil {
		return nil, err
	}
	return v, lengthOK(false, starlark.Len(v))
}

var errJSON = fmt.Errorf("JSON of more than %d octets, or nested more than %d deep", jsonOctets, jsonDepth)

// jsonFits bounds JSON that is to be read: the reader of Starlark's library calls itself.
func jsonFits(s string) error {
	if len(s) > jsonOctets {
		return errJSON
	}
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > jsonDepth {
				return errJSON
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return nil
}

var errFail = errors.New("fail() without a text")

// fail ends the function with an error.
func fail(_ *Call, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	if len(args) == 0 {
		return nil, errFail
	}
	text, err := sentence(args)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("fail: %s", text)
}

// sentence writes values with spaces between them.
func sentence(args starlark.Tuple) (string, error) {
	var m meter
	words := make([]string, len(args))
	for i, a := range args {
		n, err := m.size(a)
		if err == nil {
			err = lengthOK(true, n)
		}
		if err != nil {
			return "", err
		}
		if s, ok := starlark.AsString(a); ok {
			words[i] = s
		} else {
			words[i] = a.String()
		}
	}
	return strings.Join(words, " "), nil
}
