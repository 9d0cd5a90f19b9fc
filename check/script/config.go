// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"errors"
	"path/filepath"
	"regexp"

	"rcptgate/config/setting"
)

// Config is the section [script].
type Config struct {
	File    string            `toml:"file" doc:"the script, in Starlark; without it there is none. load() takes files below its folder. Changes take effect at a reload" example:"\"/etc/rcptgate/filter.star\""`
	Steps   int               `toml:"steps" doc:"how many steps one call of a function may take; a step is about one operation; making a long string or list costs one for each 128 octets or 8 elements" min:"1000" max:"1000000000"`
	Memory  setting.Size      `toml:"memory" doc:"how much memory calls may take together, above what the daemon needs without them; above it those that run are ended" min:"16MiB" max:"16GiB"`
	OnError string            `toml:"on_error" doc:"what a call that fails means: \"tempfail\" (the sender tries again later) or \"continue\" (as if there were no script)" oneof:"tempfail,continue"`
	Options map[string]string `toml:"options" doc:"values for the script: options = { quiet = \"22:00\" } is config.quiet there" example:"{ quiet = \"22:00\" }"`
	Tests   bool              `toml:"tests" doc:"true: run the *_test.star files beside the script before every reload, and keep the old configuration if one fails"`

	// named says that File was named on a command line, and takes the place of the
	// configuration's: rules may call functions that it does not have.
	named bool
	part  *part // of the setup that was built of it
}

// DefaultConfig has no script.
func DefaultConfig() Config {
	return Config{Steps: 1_000_000, Memory: 64 << 20, OnError: "tempfail"}
}

var optionName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`) //nolint:gochecknoglobals // compiled once

// Validate reports what cannot be meant.
func (c Config) Validate() error {
	var errs []error
	if c.File != "" && (!filepath.IsAbs(c.File) || filepath.Ext(c.File) != ".star") {
		errs = append(errs, setting.Keyf("file", "%q: expected an absolute path that ends in .star", c.File))
	}
	for name := range c.Options {
		if !optionName.MatchString(name) {
			errs = append(errs, setting.Keyf("options", "%q is not a name that a script can use: expected letters, digits and \"_\"", name))
		}
	}
	return errors.Join(errs...)
}
