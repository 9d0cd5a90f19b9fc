// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"errors"
	"fmt"
	"strings"
	"time"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"rcptgate/config/setting"
)

// asserts are the words of the module assert. One that does not hold is noted with its line,
// and the test goes on.
func asserts() map[string]testWord {
	equal := func(want bool, text string) testWord {
		return func(b *bench, t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var x, y starlark.Value
			if err := starlark.UnpackArgs(f.Name(), args, kwargs, "got", &x, "want", &y); err != nil {
				return nil, err
			}
			same, err := starlark.Equal(x, y)
			if err == nil && same != want {
				b.fail(t, text, x, y)
			}
			return nil, err
		}
	}
	truth := func(want bool) testWord {
		return func(b *bench, t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var x starlark.Value
			msg := ""
			if err := starlark.UnpackArgs(f.Name(), args, kwargs, "got", &x, "message?", &msg); err != nil {
				return nil, err
			}
			if bool(x.Truth()) != want {
				b.fail(t, strings.TrimSpace("%s is "+fmt.Sprint(!want)+" "+strings.ReplaceAll(msg, "%", "%%")), x)
			}
			return nil, nil //nolint:nilnil // None
		}
	}
	return map[string]testWord{
		"eq": equal(true, "got %s, want %s"), "ne": equal(false, "got %s, want anything but %s"), "true": truth(true), "false": truth(false),
		"lt": assertLess, "contains": assertContains, "action": assertAction, "fails": assertFails,
	}
}

// fail notes an assert that does not hold.
func (b *bench) fail(t *starlark.Thread, format string, values ...starlark.Value) {
	words := make([]any, len(values))
	for i, v := range values {
		words[i] = v.String()
	}
	b.failed = append(b.failed, fmt.Sprintf("%v: %s", t.CallFrame(1).Pos, fmt.Sprintf(format, words...)))
}

func assertLess(b *bench, t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var x, y starlark.Value
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "less", &x, "more", &y); err != nil {
		return nil, err
	}
	less, err := starlark.Compare(syntax.LT, x, y)
	if err == nil && !less {
		b.fail(t, "%s is not less than %s", x, y)
	}
	return nil, err
}

func assertContains(b *bench, t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var x, y starlark.Value
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "got", &x, "part", &y); err != nil {
		return nil, err
	}
	if s, ok := starlark.AsString(x); ok {
		if part, ok := starlark.AsString(y); ok && !strings.Contains(s, part) {
			b.fail(t, "%s does not contain %s", x, y)
		}
		return nil, nil //nolint:nilnil // None
	}
	iter := starlark.Iterate(x)
	if iter == nil {
		return nil, errors.New("the first value contains nothing")
	}
	defer iter.Done()
	for e := starlark.Value(nil); iter.Next(&e); {
		if same, err := starlark.Equal(e, y); err != nil || same {
			return nil, err
		}
	}
	b.fail(t, "%s does not contain %s", x, y)
	return nil, nil //nolint:nilnil // None
}

// assertAction compares what a function has returned with an action: "continue" for None.
func assertAction(b *bench, t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	var want, text string
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "verdict", &v, "action", &want, "text?", &text); err != nil {
		return nil, err
	}
	got, said := "continue", ""
	if v != starlark.None {
		has, ok := v.(starlark.HasAttrs)
		if !ok {
			return nil, fmt.Errorf("a value of type %s is not a verdict", v.Type())
		}
		a, err := has.Attr("action")
		if a == nil || err != nil {
			return nil, fmt.Errorf("a value of type %s is not a verdict", v.Type())
		}
		s, _ := has.Attr("text")
		got, _ = starlark.AsString(a)
		said, _ = starlark.AsString(s)
	}
	if got != want {
		b.fail(t, "got %s, want %s", starlark.String(strings.TrimSpace(got+" "+said)), starlark.String(want))
	} else if !strings.Contains(said, text) {
		b.fail(t, "the text is %s, without %s", starlark.String(said), starlark.String(text))
	}
	return nil, nil //nolint:nilnil // None
}

// assertFails calls a function that has to fail.
func assertFails(b *bench, t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var do starlark.Callable
	want := ""
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "function", &do, "text?", &want); err != nil {
		return nil, err
	}
	_, err := starlark.Call(t, do, nil, nil)
	switch {
	case err == nil:
		b.fail(t, "%s did not fail", do)
	case !strings.Contains(err.Error(), want):
		b.fail(t, "failed with %s, without %s", starlark.String(err.Error()), starlark.String(want))
	}
	return nil, nil //nolint:nilnil // None
}

func clockSet(b *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "time", &v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case startime.Time:
		b.now = time.Time(v)
		return nil, nil //nolint:nilnil // None
	case starlark.String:
		for _, form := range []string{time.RFC3339, "2006-01-02 15:04", "2006-01-02"} {
			if at, err := time.Parse(form, string(v)); err == nil {
				b.now = at
				return nil, nil //nolint:nilnil // None
			}
		}
	}
	return nil, fmt.Errorf("%s is not a time: expected \"2026-11-28 18:30\"", v)
}

func clockAdvance(b *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var s string
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "by", &s); err != nil {
		return nil, err
	}
	d, err := setting.ParseDuration(s)
	b.now = b.now.Add(d.Std())
	return nil, err
}

// items are the pairs of a dictionary whose keys are strings, the only argument.
func items(f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple, each func(key string, v starlark.Value) error) error {
	var d *starlark.Dict
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "what", &d); err != nil {
		return err
	}
	for _, kv := range d.Items() {
		key, ok := starlark.AsString(kv[0])
		if !ok {
			return errors.New("keys are strings")
		}
		if err := each(strings.ToLower(key), kv[1]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// dnsFake takes {"mx example.org": ["mx1.example.org"], "a down.example": None}.
func dnsFake(b *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	return nil, items(f, args, kwargs, func(key string, v starlark.Value) (err error) {
		if kind, _, ok := strings.Cut(key, " "); !ok || !strings.Contains(" a aaaa mx txt ptr ", " "+kind+" ") {
			return errors.New("expected a type and a name, as in \"mx example.org\"")
		}
		if v == starlark.None {
			b.dns[key] = nil
			return nil
		}
		b.dns[key], err = texts(v)
		return err
	})
}

// existsFake takes {"ann@example.org": "valid"}.
func existsFake(b *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	return nil, items(f, args, kwargs, func(key string, v starlark.Value) error {
		s, _ := starlark.AsString(v)
		if !strings.Contains(" valid unknown full refused unsure unchecked ", " "+s+" ") {
			return errors.New("expected \"valid\", \"unknown\", \"full\", \"refused\", \"unsure\" or \"unchecked\"")
		}
		b.exists[key] = s
		return nil
	})
}

// siteFake says which domains are local, and which networks trusted.
func siteFake(b *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var local, trusted starlark.Value
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "local?", &local, "trusted?", &trusted); err != nil {
		return nil, err
	}
	if local != nil {
		list, err := texts(local)
		if err != nil {
			return nil, err
		}
		b.local = append([]string{}, list...) // none is something else than nothing said
	}
	if trusted != nil {
		list, err := texts(trusted)
		if err != nil {
			return nil, err
		}
		b.trusted = nil
		for _, s := range list {
			n, err := setting.ParseNetwork(s)
			if err != nil {
				return nil, err
			}
			b.trusted = append(b.trusted, n)
		}
	}
	return nil, nil //nolint:nilnil // None
}

// virusesFake names subjects of messages in which scan() finds a virus of that name.
func virusesFake(b *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "subjects", &v); err != nil {
		return nil, err
	}
	list, err := texts(v)
	for _, s := range list {
		b.viruses[s] = true
	}
	return nil, err
}
