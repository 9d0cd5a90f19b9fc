// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	starjson "go.starlark.net/lib/json"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"rcptgate"
	"rcptgate/check/script/keep"
	"rcptgate/config/setting"
	"rcptgate/table"
)

// Table is a map file.
type Table struct {
	object
	t    table.Table
	spec string
}

var tableClass = newClass("table", "a map file, from table(). If the file cannot be read, the function fails, so a message is never judged by incomplete data",
	member[*Table]{name: "get", sign: "(key, default=None) -> string", doc: "the value of a key, or the default. Case matters", call: (*Call).tableGet},
)

// String and the rest make Table a value that keys can be in.
func (x *Table) String() string                           { return "table(" + x.spec + ")" }
func (*Table) Type() string                               { return tableClass.name }
func (*Table) Hash() (uint32, error)                      { return unhashable("a table") }
func (x *Table) AttrNames() []string                      { return tableClass.names }
func (x *Table) Attr(name string) (starlark.Value, error) { return tableClass.attr(x, name) }

// Has reports whether the file has a key.
func (x *Table) Has(v starlark.Value) (bool, error) {
	key, ok := starlark.AsString(v)
	if !ok {
		return false, fmt.Errorf("keys of a table are strings, not values of type %s", v.Type())
	}
	_, found, err := x.t.Lookup(context.Background(), key)
	return found, err
}

func newTable(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var s string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "file", &s); err != nil {
		return nil, err
	}
	spec, err := table.ParseSpec(s)
	if err != nil {
		return nil, err
	}
	if c.Env.Table == nil {
		return nil, errNotHere
	}
	t, err := c.Env.Table(spec)
	if err != nil {
		return nil, err
	}
	return &Table{t: t, spec: s}, nil
}

func (c *Call) tableGet(x *Table, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	fallback := starlark.Value(starlark.None)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key, "default?", &fallback); err != nil {
		return nil, err
	}
	v, found, err := x.t.Lookup(c.context(), key)
	if err != nil || found {
		return text(v), err
	}
	return fallback, nil
}

func (c *Call) context() context.Context {
	if c.Waits != nil {
		c.Waits()
	}
	if c.Ctx != nil {
		return c.Ctx
	}
	return context.Background()
}

// duration reads "1h" or a number of seconds.
func duration(v starlark.Value) (time.Duration, error) {
	switch v := v.(type) {
	case starlark.String:
		d, err := setting.ParseDuration(string(v))
		return d.Std(), err
	case starlark.Int:
		if n, ok := v.Int64(); ok && n >= 0 && n < 1<<32 {
			return time.Duration(n) * time.Second, nil
		}
	}
	return 0, fmt.Errorf("%s is not a time: expected \"30s\", \"15m\", \"1h\", \"7d\" or a number of seconds", v)
}

// Counter counts by key over a window.
type Counter struct {
	object
	c    *keep.Counter
	name string
}

var counterClass = newClass("counter", "counts by key over a time window, from counter(). The window advances by halves: a sum covers the current half and the one before it",
	member[*Counter]{name: "add", sign: "(key, n=1) -> int", doc: "adds n and returns the sum in the window", call: (*Call).counterAdd},
	member[*Counter]{name: "get", sign: "(key) -> int", doc: "the sum in the window", call: (*Call).counterGet},
	member[*Counter]{name: "reset", sign: "(key)", doc: "forgets a key", call: (*Call).counterReset},
)

// String and the rest make Counter a value.
func (x *Counter) String() string                           { return "counter(" + x.name + ")" }
func (*Counter) Type() string                               { return counterClass.name }
func (*Counter) Hash() (uint32, error)                      { return unhashable("a counter") }
func (x *Counter) AttrNames() []string                      { return counterClass.names }
func (x *Counter) Attr(name string) (starlark.Value, error) { return counterClass.attr(x, name) }

func newCounter(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	var window starlark.Value
	per := 100_000
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "window", &window, "per?", &per); err != nil {
		return nil, err
	}
	w, err := duration(window)
	if err != nil {
		return nil, err
	}
	kept, err := c.Env.Keep.Counter(name, w, per)
	if err != nil {
		return nil, err
	}
	return &Counter{c: kept, name: name}, nil
}

func keyFits(key string) error {
	if len(key) > keep.KeyMax {
		return fmt.Errorf("a key of %d octets: at most %d are allowed", len(key), keep.KeyMax)
	}
	return nil
}

func (c *Call) counterAdd(x *Counter, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	n := int64(1)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key, "n?", &n); err != nil {
		return nil, err
	}
	if n < -1<<40 || n > 1<<40 {
		return nil, errors.New("n is too large")
	}
	if err := keyFits(key); err != nil {
		return nil, err
	}
	if c.inquiry() {
		return starlark.MakeInt64(max(x.c.Get(key, c.now())+n, 0)), nil
	}
	return starlark.MakeInt64(x.c.Add(strings.Clone(key), n, c.now())), nil
}

func (c *Call) counterGet(x *Counter, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key); err != nil {
		return nil, err
	}
	return starlark.MakeInt64(x.c.Get(key, c.now())), nil
}

func (c *Call) counterReset(x *Counter, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key); err != nil {
		return nil, err
	}
	if !c.inquiry() {
		x.c.Reset(key)
	}
	return starlark.None, nil
}

// Memory remembers values by key.
type Memory struct {
	object
	m    *keep.Memory
	name string
}

var memoryClass = newClass("memory", "remembers values by key for a limited time, from memory(). Values are strings, numbers, True, False, None, lists and dictionaries of these, up to 4 KiB each",
	member[*Memory]{name: "get", sign: "(key, default=None) -> value", doc: "the value of a key, or the default", call: (*Call).memoryGet},
	member[*Memory]{name: "set", sign: "(key, value=True, expire=None)", doc: "remembers a value for the memory's own time, or for the time given with expire=\"5m\"", call: (*Call).memorySet},
	member[*Memory]{name: "delete", sign: "(key)", doc: "forgets a key", call: (*Call).memoryDelete},
	member[*Memory]{name: "has", sign: "(key) -> bool", doc: "whether the key has a value", call: (*Call).memoryHas},
)

// String and the rest make Memory a value.
func (x *Memory) String() string                           { return "memory(" + x.name + ")" }
func (*Memory) Type() string                               { return memoryClass.name }
func (*Memory) Hash() (uint32, error)                      { return unhashable("a memory") }
func (x *Memory) AttrNames() []string                      { return memoryClass.names }
func (x *Memory) Attr(name string) (starlark.Value, error) { return memoryClass.attr(x, name) }

func newMemory(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	var expire starlark.Value
	o := keep.MemoryOptions{Entries: 100_000}
	err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "expire", &expire, "entries?", &o.Entries, "keep?", &o.Disk, "shared?", &o.Shared)
	if err != nil {
		return nil, err
	}
	if o.Expire, err = duration(expire); err != nil {
		return nil, err
	}
	m, err := c.Env.Keep.Memory(name, o)
	if err != nil {
		return nil, err
	}
	return &Memory{m: m, name: name}, nil
}

func (c *Call) memoryGet(x *Memory, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	fallback := starlark.Value(starlark.None)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key, "default?", &fallback); err != nil {
		return nil, err
	}
	s, ok := x.m.Get(c.context(), key, c.now())
	if !ok {
		return fallback, nil
	}
	return unpack(s)
}

func (c *Call) memoryHas(x *Memory, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key); err != nil {
		return nil, err
	}
	_, ok := x.m.Get(c.context(), key, c.now())
	return starlark.Bool(ok), nil
}

func (c *Call) memorySet(x *Memory, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	v, expire := starlark.Value(starlark.True), starlark.Value(starlark.None)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key, "value?", &v, "expire?", &expire); err != nil {
		return nil, err
	}
	if err := keyFits(key); err != nil {
		return nil, err
	}
	s, err := pack(v)
	if err != nil {
		return nil, err
	}
	var life time.Duration
	if expire != starlark.None {
		if life, err = duration(expire); err != nil {
			return nil, err
		}
	}
	if !c.inquiry() {
		x.m.Set(c.context(), strings.Clone(key), s, life, c.now())
	}
	return starlark.None, nil
}

func (c *Call) memoryDelete(x *Memory, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "key", &key); err != nil {
		return nil, err
	}
	if !c.inquiry() {
		x.m.Delete(c.context(), key, c.now())
	}
	return starlark.None, nil
}

// pack writes a value as a memory keeps it: "s" and a string, or "j" and JSON.
func pack(v starlark.Value) (string, error) {
	if s, ok := v.(starlark.String); ok {
		return packed("s" + string(s))
	}
	var m meter
	if _, err := m.size(v); err != nil {
		return "", err
	}
	j, err := starjson.Module.Members["encode"].(*starlark.Builtin).CallInternal(new(starlark.Thread), starlark.Tuple{v}, nil)
	if err != nil {
		return "", fmt.Errorf("a value of type %s cannot be remembered: %w", v.Type(), err)
	}
	return packed("j" + string(j.(starlark.String)))
}

func packed(s string) (string, error) {
	if len(s) > keep.ValueMax {
		return "", fmt.Errorf("a value of %d octets: a memory keeps at most %d", len(s), keep.ValueMax)
	}
	return s, nil
}

// unpack reads what pack wrote; it may come from another gateway.
func unpack(s string) (starlark.Value, error) {
	switch {
	case strings.HasPrefix(s, "s"):
		return text(s[1:]), nil
	case strings.HasPrefix(s, "j") && jsonFits(s[1:]) == nil:
		return starjson.Module.Members["decode"].(*starlark.Builtin).CallInternal(new(starlark.Thread), starlark.Tuple{text(s[1:])}, nil)
	}
	return starlark.None, nil
}

// Blocklist is a [[blocklist]].
type Blocklist struct {
	object
	b rcptgate.Blocklist
}

var blocklistClass = newClass("blocklist", "a [[blocklist]], from blocklist(): `client.ip in LIST`",
	member[*Blocklist]{name: "add", sign: "(ip, evidence, for_=None) -> string or None", doc: "lists a client, for the list's own time or for the time given, as in for_=\"6h\". Returns None if the client is now listed, else why it cannot be (a trusted network, one of our servers)", call: (*Call).listAdd},
	member[*Blocklist]{name: "remove", sign: "(ip) -> bool", doc: "ends a listing; returns whether the client was listed", call: (*Call).listRemove},
	member[*Blocklist]{name: "listed", sign: "(ip) -> struct or None", doc: "the listing of a client: .evidence, .count, .first, .last and .until", call: (*Call).listListed},
	member[*Blocklist]{name: "name", sign: "string", doc: "its name", get: func(x *Blocklist) starlark.Value { return text(x.b.Name()) }},
)

// String and the rest make Blocklist a value that addresses can be in.
func (x *Blocklist) String() string                           { return "blocklist(" + x.b.Name() + ")" }
func (*Blocklist) Type() string                               { return blocklistClass.name }
func (*Blocklist) Hash() (uint32, error)                      { return unhashable("a blocklist") }
func (x *Blocklist) AttrNames() []string                      { return blocklistClass.names }
func (x *Blocklist) Attr(name string) (starlark.Value, error) { return blocklistClass.attr(x, name) }

// Has reports whether a client is listed.
func (x *Blocklist) Has(v starlark.Value) (bool, error) {
	s, ok := starlark.AsString(v)
	if !ok {
		return false, fmt.Errorf("in a blocklist: expected an IP address, not a value of type %s", v.Type())
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return false, nil //nolint:nilerr // a local client has none
	}
	_, listed := x.b.Listed(a)
	return listed, nil
}

func newBlocklist(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name); err != nil {
		return nil, err
	}
	if c.Env.Blocklist != nil {
		if l := c.Env.Blocklist(name); l != nil {
			return &Blocklist{b: l}, nil
		}
	}
	return nil, fmt.Errorf("no [[blocklist]] has the name %q", name)
}

func (c *Call) listAdd(x *Blocklist, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var ip, evidence string
	life := starlark.Value(starlark.None)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "ip", &ip, "evidence", &evidence, "for_?", &life); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return text("not an IP address"), nil //nolint:nilerr // a local client is never listed
	}
	var d time.Duration
	if life != starlark.None {
		if d, err = duration(life); err != nil {
			return nil, err
		}
	}
	if c.inquiry() {
		return starlark.None, nil
	}
	if err := x.b.Add(a.Unmap(), rcptgate.CleanText(evidence), c.query().QueueID, d); err != nil {
		return text(err.Error()), nil
	}
	return starlark.None, nil
}

// structure makes a value with named fields.
func structure(name string, fields starlark.StringDict) starlark.Value {
	return starlarkstruct.FromStringDict(text(name), fields)
}

func (c *Call) listRemove(x *Blocklist, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var ip string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "ip", &ip); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return starlark.False, nil //nolint:nilerr // a local client is never listed
	}
	if c.inquiry() {
		_, listed := x.b.Listed(a.Unmap())
		return starlark.Bool(listed), nil
	}
	return starlark.Bool(x.b.Remove(a.Unmap())), nil
}

func (c *Call) listListed(x *Blocklist, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var ip string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "ip", &ip); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return starlark.None, nil //nolint:nilerr // a local client is never listed
	}
	l, ok := x.b.Listed(a.Unmap())
	if !ok {
		return starlark.None, nil
	}
	return structure("listing", starlark.StringDict{
		"evidence": text(l.Evidence), "count": starlark.MakeInt(l.Count),
		"first": timeValue(l.First), "last": timeValue(l.Last), "until": timeValue(l.Until),
	}), nil
}
