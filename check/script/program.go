// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"rcptgate"
	"rcptgate/check/script/star"
)

// Program is a script that is ready to be called. It does not change and is safe for
// concurrent use; close it after its last call.
type Program struct {
	config    Config
	env       *star.Env
	functions map[string]*function
	ruled     map[string]bool // functions that rules call
	lint      *lint
	files     []*module
	report    *reporter
	runners   *runners
}

// options are what a Program is made with, besides its configuration.
type options struct {
	env    *star.Env
	report *reporter // nil: errors are only given back
	extra  starlark.StringDict
}

// compile reads a script and runs the top of its files.
func compile(cfg Config, o options) (*Program, error) {
	f, err := openFolder(filepath.Dir(cfg.File))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.File, readable(err))
	}
	defer f.close()
	return compileIn(f, filepath.Base(cfg.File), cfg, o)
}

func compileIn(f *folder, name string, cfg Config, o options) (*Program, error) {
	values := make(starlark.StringDict)
	for k, v := range cfg.Options {
		values[k] = starlark.String(v)
	}
	words := star.Words(starlarkstruct.FromStringDict(starlark.String("config"), values))
	maps.Copy(words, o.extra)
	l := &loader{folder: f, words: words, modules: make(map[string]*module), lint: newLint()}
	m, err := l.parse(name, nil)
	if err != nil {
		return nil, err
	}
	if err := l.lint.err(); err != nil {
		return nil, err
	}
	if err := l.run(&star.Call{Env: o.env}, cfg.Steps, int64(cfg.Memory)); err != nil {
		return nil, err
	}
	p := &Program{config: cfg, env: o.env, functions: make(map[string]*function), ruled: make(map[string]bool), lint: l.lint, files: l.order, report: o.report}
	if err := p.collect(m); err != nil {
		return nil, err
	}
	p.runners = newRunners(p, int64(cfg.Memory))
	return p, nil
}

// collect takes the functions of the main file. What it has loaded counts as its own.
func (p *Program) collect(m *module) error {
	var errs []error
	all := maps.Clone(m.globals)
	for _, h := range hooks {
		v, ok := all[h.name]
		if !ok {
			continue
		}
		if f, ok := v.(*starlark.Function); !ok {
			errs = append(errs, fmt.Errorf("%s: %s is a %s: the gate calls a function of this name", m.path, h.name, v.Type()))
		} else if f.NumParams() != 1 || f.HasVarargs() || f.HasKwargs() {
			errs = append(errs, errAt(f.Position(), "%s() takes one argument, the %s", h.name, h.argument))
		}
	}
	for name, v := range all {
		if f, ok := v.(*starlark.Function); ok {
			p.functions[name] = &function{p: p, name: name, f: f}
		}
	}
	return errors.Join(errs...)
}

// hook gives the function of a stage; nil if there is none.
func (p *Program) hook(at rcptgate.Stage) *function {
	for _, h := range hooks {
		if h.stage == at {
			return p.functions[h.name]
		}
	}
	return nil
}

// names are the functions, sorted.
func (p *Program) names() []string { return slices.Sorted(maps.Keys(p.functions)) }

// wants is what the script needs from the MTA.
func (p *Program) wants() rcptgate.Wants { return p.lint.wants(p.hook(rcptgate.StageMessage) != nil) }

// close ends what watches the calls.
func (p *Program) close() { p.runners.close() }

// needs says what the MTA is asked for, in lines.
func (p *Program) needs() string {
	wants := p.wants()
	about := map[rcptgate.Stage]string{
		rcptgate.StageConnect: "clients", rcptgate.StageHelo: "HELO", rcptgate.StageMail: "senders", rcptgate.StageRcpt: "recipients", rcptgate.StageMessage: "messages",
	}
	if with := wanted(wants, rcptgate.WantHeader, "header", rcptgate.WantBody, "body"); with != "" {
		about[rcptgate.StageMessage] += " (" + with + ")"
	}
	var asked []string
	for _, h := range hooks {
		if p.functions[h.name] != nil {
			asked = append(asked, about[h.stage])
		}
	}
	var b strings.Builder
	if len(asked) > 0 {
		fmt.Fprintf(&b, "asked about: %s\n", strings.Join(asked, ", "))
	}
	changes := wanted(wants, rcptgate.EditHeader, "header", rcptgate.EditBody, "body", rcptgate.EditRecipients, "recipients", rcptgate.EditSender, "sender")
	if changes != "" {
		fmt.Fprintf(&b, "may change: %s\n", changes)
	}
	if wants&rcptgate.Quarantine != 0 {
		b.WriteString("may hold messages\n")
	}
	return b.String()
}

// wanted are the words, each after its bit, whose bits are set.
func wanted(w rcptgate.Wants, pairs ...any) string {
	var list []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if w&pairs[i].(rcptgate.Wants) != 0 {
			list = append(list, pairs[i+1].(string))
		}
	}
	return strings.Join(list, ", ")
}
