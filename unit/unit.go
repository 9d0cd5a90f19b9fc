// SPDX-License-Identifier: BSD-2-Clause

// Package unit is how the gate is put together. A unit is a folder: a check, a front, a
// background job. It says of itself, in one [Unit], which settings it has, what it does at
// each stage, what it serves and runs, what it counts and shows, and which commands it
// answers. The [Host] opens the units of a list, builds a setup of each configuration, and
// starts and ends everything in the right order. The program's list is
// cmd/rcptgate/builtin.go; nothing else outside its folder names a unit.
package unit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/config"
	"rcptgate/metric"
	"rcptgate/store"
	"rcptgate/view"
)

// Unit describes one unit. It has no state: what lives is made by Open.
type Unit struct {
	Name string // one word: the unit's commands and its place on the status page
	// Parts are its settings.
	Parts []config.Part
	// Open makes what lives as long as the process; nil for a unit that has only settings
	// or commands. It does no I/O that a reload could not undo, and listens on nothing.
	Open func(*Env) (Live, error)
	// Ops are its commands that the running daemon answers: "rcptgate NAME OP".
	Ops []Op
	// OpsDoc says what they are for, in the list of commands.
	OpsDoc string
	// Commands makes its other commands. One that belongs below another, such as "config",
	// is made with [Under].
	Commands func(*CLI) []*cobra.Command
	// Files are the configuration files that its commands read, other than rcptgate.toml: each
	// has a manual page.
	Files []File
	// Socket names the socket that systemd may open for a front (FileDescriptorName in
	// systemd.socket(5)); sockets that no unit names are the milter's.
	Socket string
	// Tables are those of Live.Show without their rows: help and manual of "rcptgate status"
	// explain them from here.
	Tables []view.Table
	// Reasons are those of its verdicts that rcptgate.Reasons does not have, for the manual.
	Reasons []rcptgate.ReasonDoc
}

// File is a configuration file of a unit's commands.
type File struct {
	Name  string // of the manual page, "rcptgate-agent.toml"
	Short string // what it is, for the page's first line
	Long  string // a paragraph about it
	Parts []config.Part
}

// parentKey is the annotation that Under sets.
const parentKey = "parent"

// Under makes cmd a subcommand of the program's command of that name.
func Under(parent string, cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{parentKey: parent}
	return cmd
}

// Attach adds the units' commands to the program's, those first that are made with Under
// by no one. A command below one that does not exist is a mistake in the program's list of
// units.
func Attach(root *cobra.Command, list []*cobra.Command) error {
	for _, cmd := range list {
		if cmd.Annotations[parentKey] == "" {
			root.AddCommand(cmd)
		}
	}
	for _, cmd := range list {
		parent := cmd.Annotations[parentKey]
		if parent == "" {
			continue
		}
		all := root.Commands()
		i := slices.IndexFunc(all, func(c *cobra.Command) bool { return c.Name() == parent })
		if i < 0 {
			return fmt.Errorf("command %q belongs below %q, which no unit has", cmd.Name(), parent)
		}
		all[i].AddCommand(cmd)
	}
	return nil
}

// Steps makes the Open of a unit that has nothing but steps.
func Steps(build func(*Setup) error) func(*Env) (Live, error) {
	return func(*Env) (Live, error) { return Live{Build: build}, nil }
}

// Op is a command that the running daemon answers with tables.
type Op struct {
	Use   string // "ask ADDRESS": the word and its arguments, for help and manual page
	Short string
	Long  string
	Args  cobra.PositionalArgs // nil: any
	Flags []Flag
	// Lines prints the first column of its tables alone, a line each: for other programs.
	Lines bool
	// Judges makes the exit code 1 if a row of its tables needs attention.
	Judges bool
}

// Flag is an option of an op. The daemon gets it among the arguments: see [SplitFlags].
type Flag struct {
	Name    string
	Default string
	Doc     string
}

// SplitFlags parts the arguments of an op from its flags, which are written "--name=value".
func SplitFlags(all []string) (args []string, flags map[string]string) {
	flags = map[string]string{}
	for _, arg := range all {
		if name, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(name, "--") {
			flags[name[2:]] = value
		} else {
			args = append(args, arg)
		}
	}
	return args, flags
}

// Live is a unit in a running process. What is nil it does not have.
type Live struct {
	// Build adds the unit's steps to a configuration that is on its way in. It has no other
	// effect: a later unit may refuse the configuration.
	Build func(*Setup) error
	// Adopt makes that configuration the active one. It cannot fail.
	Adopt func(*Config)
	// Listen opens the sockets of a front, once, after the first configuration was built.
	Listen func(context.Context, *Config) error
	// Serve answers on them until ctx ends, and returns when what was in progress is done. An
	// error ends the daemon.
	Serve func(context.Context) error
	// Address says where a front listens; "" while it does not.
	Address func() string
	// Hurry has Serve return now.
	Hurry func()
	// Run is work in the background until ctx ends. Fronts have drained by then.
	Run func(context.Context)
	// Warn names what a configuration says that a postmaster would hardly want.
	Warn func(*Config) []string
	// Close gives back what Open and Listen took, after Run; in reverse order of the units.
	Close func() error
	// Forget is called for everything that is forgotten, on this gateway or on another.
	Forget func(store.Pattern)
	// Observer sees every decision.
	Observer rcptgate.Observer
	Metrics  []metric.Family
	// Show describes the unit now: the status page, "rcptgate status", JSON.
	Show func() []view.Table
	// Do answers the unit's Ops; op is the first word of its Use.
	Do func(ctx context.Context, op string, args []string) ([]view.Table, error)
}

// CLI is what commands are made with.
type CLI struct {
	Units   []Unit
	Version string
	// Load reads the configuration that the command line names.
	Load func(*cobra.Command) (*Config, error)
	// Reach is Load for a client of the daemon: with mistakes, it gives what can be read too.
	Reach func(*cobra.Command) (*Config, error)
	// Offline opens a host that answers in this process, without what the daemon remembers.
	Offline func(context.Context, *Config) (*Host, error)
}
