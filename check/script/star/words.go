// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	starjson "go.starlark.net/lib/json"
	starmath "go.starlark.net/lib/math"
	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"
	"golang.org/x/time/rate"

	"rcptgate"
)

// builtin is the code of a word.
type builtin func(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

// word is a function that a script may call.
type word struct {
	name, sign, doc string
	call            builtin
	atLoad          bool // only at the top of a file
}

// words are the functions of scripts, in the order of the manual.
func words() []word {
	return []word{
		{"accept", "() -> verdict", "accepts; no later step is asked. In recipient() this also skips the check whether the mailbox exists", plain(rcptgate.Accept), false},
		{"reject", "(text=\"Not permitted by local policy\", code=550, enhanced=\"5.7.1\") -> verdict", "refuses permanently", refusal(rcptgate.Reject, 5, 550, "5.7.1", textReject), false},
		{"tempfail", "(text=\"Not accepted at the moment, try again later\", code=451, enhanced=\"4.7.1\") -> verdict", "refuses temporarily: the sender tries again", refusal(rcptgate.Tempfail, 4, 451, "4.7.1", textTempfail), false},
		{"discard", "() -> verdict", "accepts, then throws the message away: for this recipient only if recipient() returns it, for all recipients otherwise", plain(rcptgate.Discard), false},
		{"hold", "(reason=\"held by the script\") -> verdict", "makes the MTA hold the message for review (Sendmail's quarantine, Postfix's hold queue)", hold, false},

		{"re", "(pattern) -> regexp", "a regular expression (RE2 syntax, always linear in time)", newRegexp, true},
		{"cidr", "(networks) -> networks", "a list of IP networks: `client.ip in NETS`", newNetworks, true},
		{"patterns", "(list, kind=\"address\") -> patterns", "patterns as in rules, such as \"@$local\", \"ann@\" or \"list:good\": `r.sender in LIST`. Kinds are \"address\", \"client\", \"host\" and \"name\"", newPatterns, true},
		{"table", "(\"TYPE:FILE\") -> table", "a map file of the MTA; changes to the file are followed: `TABLE.get(key)`, `key in TABLE`", newTable, true},
		{"counter", "(name, window, per=100_000) -> counter", "counts by key over a time window such as \"1h\". per is the number of keys that are kept. A counter is identified by its name and survives a reload", newCounter, true},
		{"memory", "(name, expire, entries=100_000, keep=False, shared=False) -> memory", "remembers values by key for a limited time. keep=True: also on disk, so they survive a restart. shared=True: shared with other gateways through memcached", newMemory, true},
		{"blocklist", "(name) -> blocklist", "the [[blocklist]] with that name", newBlocklist, true},

		{"scan", "(msg) -> string or None", "scans the message for viruses, at most once. Returns the name of the virus, \"\" for a clean message, or None if no scanner gave a result (msg.unscanned says why)", scan, false},
		{"now", "() -> time.time", "the current time, in the machine's time zone", func(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			return startime.Time(c.now()), starlark.UnpackArgs(b.Name(), args, kwargs)
		}, false},
		{"log", "(text, **fields)", "writes a line to the log, at most 1,000 a minute", logWord, false},
	}
}

// safe are words of Starlark itself that have bounds here.
func safe() []word {
	universe := func(name string) *starlark.Builtin { return starlark.Universe[name].(*starlark.Builtin) }
	return []word{
		{"str", "(x) -> string", "", written(universe("str")), false},
		{"repr", "(x) -> string", "", written(universe("repr")), false},
		{"print", "(...)", "", printed, false},
		{"getattr", "(x, name, default) -> value", "", getattr(universe("getattr")), false},
		{"list", "(x) -> list", "", sequences(universe("list")), false},
		{"tuple", "(x) -> tuple", "", sequences(universe("tuple")), false},
		{"set", "(x) -> set", "", sequences(universe("set")), false},
		{"dict", "(x) -> dict", "", sequences(universe("dict")), false},
		{"zip", "(x, ...) -> list", "", sequences(universe("zip")), false},
		{"int", "(x) -> int", "", intOf(universe("int")), false},
		{"range", "(n) -> range", "", rangeOf, false},
		{"fail", "(text)", "", fail, false},
	}
}

// Names of what [Rewrite] puts in: no script can write them.
const (
	partName   = "$part"
	callName   = "$call"
	methodName = "$method"
	keyName    = "$key"
	opPrefix   = "$op"
	growPrefix = "$grow"
)

// operators that Rewrite has checked.
var operators = map[syntax.Token]string{syntax.PLUS: "+", syntax.STAR: "*", syntax.PERCENT: "%"} //nolint:gochecknoglobals // a table

// Words makes the names that scripts have besides Starlark's own, config among them.
func Words(config *starlarkstruct.Struct) starlark.StringDict {
	d := starlark.StringDict{
		"json": bounded(starjson.Module, map[string]builtin{"decode": decodeJSON, "encode": encodeJSON, "encode_indent": encodeJSON, "indent": nil}),
		"math": starmath.Module, "time": startime.Module, "dns": dnsModule(), "config": config,
	}
	for _, w := range append(words(), safe()...) {
		d[w.name] = w.value()
	}
	d[callName] = starlark.NewBuiltin("call", func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return callMethod(callOf(t), t, args, kwargs)
	})
	d[partName] = starlark.NewBuiltin("attribute", func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		name := string(args[1].(starlark.String))
		if s, ok := args[0].(starlark.String); ok {
			return callOf(t).part(string(s), name)
		}
		return attribute(args[0], name)
	})
	for _, name := range []string{"sorted", "min", "max"} {
		d[name] = starlark.NewBuiltin(name, sorting(starlark.Universe[name].(*starlark.Builtin)))
	}
	d[methodName] = starlark.NewBuiltin("attribute", func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		return methodOf(args[0], string(args[1].(starlark.String)))
	})
	d[keyName] = word{name: "key", call: keyed}.value()
	for op, sign := range comparisons {
		d[opPrefix+sign] = word{name: sign, call: comparison(op)}.value()
	}
	for op, sign := range operators {
		d[opPrefix+sign] = word{name: sign, call: operator(op)}.value()
		d[growPrefix+sign] = word{name: sign + "=", call: grown(op)}.value()
	}
	return d
}

func (w word) value() starlark.Value {
	return starlark.NewBuiltin(w.name, func(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		c := callOf(t)
		if w.atLoad && (c == nil || !c.Loading) {
			return nil, fmt.Errorf("%s() %w", w.name, errAtLoad)
		}
		v, err := w.call(c, b, args, kwargs)
		c.charge(v)
		return v, err
	})
}

// bounded is a module some of whose functions are replaced, or left out if nil.
func bounded(m *starlarkstruct.Module, by map[string]builtin) *starlarkstruct.Module {
	out := &starlarkstruct.Module{Name: m.Name, Members: starlark.StringDict{}}
	for name, v := range m.Members {
		switch f, other := by[name]; {
		case other && f != nil:
			out.Members[name] = word{name: m.Name + "." + name, call: f}.value()
		case !other:
			out.Members[name] = v
		}
	}
	return out
}

func decodeJSON(_ *Call, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) > 0 {
		if s, ok := starlark.AsString(args[0]); ok {
			if err := jsonFits(s); err != nil {
				return nil, err
			}
		}
	}
	return starjson.Module.Members["decode"].(*starlark.Builtin).CallInternal(nil, args, kwargs)
}

func encodeJSON(_ *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var m meter
	for _, a := range args {
		n, err := m.size(a)
		if err == nil {
			err = lengthOK(true, 6*n)
		}
		if err != nil {
			return nil, err
		}
	}
	_, name, _ := cutDot(b.Name())
	return starjson.Module.Members[name].(*starlark.Builtin).CallInternal(new(starlark.Thread), args, kwargs)
}

func (c *Call) setNow(t *starlark.Thread) {
	startime.SetNow(t, func() (time.Time, error) { return c.now(), nil })
}

var errScan = errors.New("scan() takes the message")

func scan(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "msg", &v); err != nil {
		return nil, err
	}
	m, ok := v.(*Msg)
	if !ok || m.c.query().Message == nil {
		return nil, errScan
	}
	message := m.c.query().Message
	c = m.c
	if c.Env.Scan == nil {
		if message.Unscanned == "" {
			message.Unscanned = "no scanner is configured"
		}
		return starlark.None, nil
	}
	if !message.Scanned {
		c.Env.Scan(c.context(), c.Query)
	}
	if message.Unscanned != "" {
		return starlark.None, nil
	}
	return text(message.Virus), nil
}

// logMax bounds a line, in octets, and logFields its fields.
const (
	logMax    = 2048
	logFields = 20
)

func logWord(c *Call, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) == 0 {
		return nil, errors.New("log() without a text")
	}
	line, err := sentence(args)
	if err != nil {
		return nil, err
	}
	if len(kwargs) > logFields {
		return nil, fmt.Errorf("more than %d fields", logFields)
	}
	var fields []any
	for _, kv := range kwargs {
		value, err := sentence(starlark.Tuple{kv[1]})
		if err != nil {
			return nil, err
		}
		fields = append(fields, string(kv[0].(starlark.String)), cut(value))
	}
	c.say(cut(line), fields)
	return starlark.None, nil
}

// logLines is how many lines a script may write in a minute, all at once if need be.
const logLines = 1000

// Log takes the lines of a script: log() and print(). It is safe for concurrent use.
type Log struct {
	log   *slog.Logger
	lines *rate.Limiter
	told  *rate.Limiter // that lines are left out
}

// NewLog makes a Log that writes to log, at most 1,000 lines a minute.
func NewLog(log *slog.Logger) *Log {
	return &Log{log: log, lines: rate.NewLimiter(rate.Limit(logLines)/60, logLines), told: rate.NewLimiter(rate.Every(time.Minute), 1)}
}

// say writes a line, unless the script has written too many: one line a minute says so.
func (l *Log) say(fields ...any) {
	if l == nil {
		return
	}
	if l.lines.Allow() {
		l.log.Info("script says", fields...)
	} else if l.told.Allow() {
		l.log.Warn("the script writes too many lines, leaving some out", "limit", logLines, "per", "minute")
	}
}

func cut(s string) string { return s[:min(len(s), logMax)] }

// log is print().
func (c *Call) log(_ *starlark.Thread, msg string) {
	if c != nil && c.Env != nil {
		c.say(cut(msg), nil)
	}
}

// say writes a line with its fields, and shows it to a person who asks.
func (c *Call) say(line string, fields []any) {
	q := c.query()
	if q.Trace.Explain {
		q.Trace.Note("log: " + line + shown(fields))
	}
	all := []any{"script", line}
	if q.QueueID != "" {
		all = append(all, "queue", q.QueueID)
	}
	c.Env.Log.say(append(all, fields...)...)
}

// shown are the fields of a line as people read them.
func shown(fields []any) string {
	var b strings.Builder
	for i := 0; i+1 < len(fields); i += 2 {
		if value := fields[i+1].(string); value == "" || strings.ContainsAny(value, " \t\n\"=") {
			fmt.Fprintf(&b, " %s=%q", fields[i], value)
		} else {
			fmt.Fprintf(&b, " %s=%s", fields[i], value)
		}
	}
	return b.String()
}
