// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"rcptgate/config"
	"rcptgate/config/setting"
	"rcptgate/route"
	"rcptgate/store"
	"rcptgate/store/memcached"
	"rcptgate/store/tiers"
	"rcptgate/telemetry"
)

// Core are the settings of no unit in particular.
type Core struct {
	Hostname        string           `toml:"hostname" doc:"the gateway's own name, used as the EHLO name of probes and to recognise a call-ahead that comes back; the default is the machine's name" example:"\"mx1.example.org\""`
	State           string           `toml:"state" doc:"directory of the disk store and, by default, of the admin socket; it is made if it does not exist" restart:"true"`
	Enforce         bool             `toml:"enforce" doc:"false: rehearse. The gate asks, remembers and logs what it would have answered, but refuses nothing. A [[domain]] section can override this for its domain"`
	Deadline        setting.Duration `toml:"deadline" doc:"time limit for one answer; keep it below the MTA's timeout, which is 10s for Sendmail and 30s for Postfix" min:"100ms" max:"5m"`
	MessageDeadline setting.Duration `toml:"message_deadline" doc:"time limit for the steps that look at a whole message; meanwhile the gate reports progress to the MTA. Sendmail waits 5m in all" min:"1s" max:"10m"`
	FollowMTA       bool             `toml:"follow_mta" doc:"ask the MTA's own bracketed next hop for domains without a section"`
}

// Validate holds what one field alone cannot say.
func (c Core) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.State) {
		errs = append(errs, setting.Keyf("state", "%q is not an absolute path", c.State))
	}
	if !isHostname(c.Hostname) {
		errs = append(errs, setting.Keyf("hostname", "%q is not a host name: letters, digits, \"-\", \"_\" and dots are allowed, as in \"mx1.example.org\"", c.Hostname))
	}
	return errors.Join(errs...)
}

// checkState finds a state directory that can never be one: something else stands in its place,
// or in that of a directory above it. What a disk that is missing or broken would say is not
// judged: the daemon goes on without that disk, and uses it when it is back.
func (c *Config) checkState() error {
	for path := c.Core().State; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		switch {
		case err == nil && !info.IsDir():
			return c.Place(setting.Keyf("state", "%s is not a directory (mode %v); name a directory, which need not exist yet", path, info.Mode()))
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			if path != filepath.Dir(path) {
				continue
			}
		}
		return nil
	}
}

// isHostname reports whether s can be said in EHLO. What a machine calls itself is
// not always a domain: underscores and single labels occur.
func isHostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// defaultCore is the gate without a file: it rehearses.
func defaultCore() Core {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	return Core{Hostname: hostname, State: "/var/lib/rcptgate", Deadline: setting.Duration(8 * time.Second), MessageDeadline: setting.Duration(time.Minute), FollowMTA: true}
}

// listenHead has [listen] stand first among the sections.
type listenHead struct{}

// coreParts are the settings of what the host itself opens.
func coreParts() []config.Part {
	return []config.Part{
		{Defaults: defaultCore()},
		{Section: "listen", Doc: "addresses on which the gate listens. Each front has its own section for its other settings", Defaults: listenHead{}},
		{Section: "log", Doc: "the log: one line for each decision", Defaults: telemetry.Defaults()},
		{Section: "cache", Doc: "how much is remembered, where, and for how long", Defaults: tiers.DefaultConfig()},
		{Section: "cache", Defaults: memcached.DefaultConfig()},
		{Section: "routes", Doc: "next hops from the MTA's own maps. A [[domain]] section with servers comes first, the next hop that the MTA names last", Defaults: route.DefaultTablesConfig()},
		{Section: "domain", Doc: "one section for each relayed domain; the most specific name applies", Repeated: true, Defaults: route.DomainConfig{}},
	}
}

// Compose makes the schema of the configuration from the parts of units.
func Compose(units []Unit) (*config.Schema, error) {
	parts := coreParts()
	for i := range units {
		parts = append(parts, units[i].Parts...)
	}
	return config.Compose(parts...)
}

// Config is one configuration, and where it came from.
type Config struct {
	*config.Composed
	File   *config.File // nil: built-in defaults
	Loaded time.Time
}

// Part finds a unit's own settings.
func Part[T any](c *Config) *T { return config.Get[T](c.Composed) }

// Domains finds a unit's own settings of each [[domain]] section, in the order of
// [route.Router.Sections].
func Domains[T any](c *Config) []T { return config.All[T](c.Composed) }

// Core gives the settings of no unit in particular.
func (c *Config) Core() *Core { return Part[Core](c) }

// Source names the file.
func (c *Config) Source() string {
	if c.File == nil {
		return "built-in defaults"
	}
	return c.File.Name
}

// Place adds the lines of the file to errors that name keys.
func (c *Config) Place(err error) error { return c.File.Place(err) }

// DefaultFile is the configuration file unless another is named.
const DefaultFile = "/etc/rcptgate/rcptgate.toml"

// Load reads the file at path. "" is the default file if there is one, else the built-in
// defaults.
func Load(schema *config.Schema, path string) (*Config, error) {
	c := &Config{Composed: schema.Defaults(), Loaded: time.Now()}
	if path == "" {
		if _, err := os.Stat(DefaultFile); errors.Is(err, fs.ErrNotExist) {
			return c, config.Validate(c.Any())
		}
		path = DefaultFile
	}
	file, err := config.LoadFile(path, c.Any())
	if err != nil {
		return nil, err
	}
	c.File = file
	return c, nil
}

// Reach is Load for a client of the daemon, which goes on with the configuration that it has
// while the file has mistakes. With them it gives what can be read all the same, so that the
// daemon is found.
func Reach(schema *config.Schema, path string) (*Config, error) {
	c, err := Load(schema, path)
	var mistakes *config.Errors
	if !errors.As(err, &mistakes) {
		return c, err
	}
	c = &Config{Composed: schema.Defaults(), Loaded: time.Now()}
	return c, config.Reach(cmp.Or(path, DefaultFile), c.Any())
}

// Parse is Load for a text.
func Parse(schema *config.Schema, name, text string) (*Config, error) {
	c := &Config{Composed: schema.Defaults(), Loaded: time.Now()}
	file, err := config.Parse(name, []byte(text), c.Any())
	if err != nil {
		return nil, err
	}
	c.File = file
	return c, nil
}

// Derived is a part with values that follow from other settings when they are not set.
type Derived interface {
	// Derive writes them out, for "config show".
	Derive(core *Core)
}

// Show prints every effective value: what the file leaves to be derived from other
// settings is written out.
func (c *Config) Show() string {
	shown := c.Clone()
	core := config.Get[Core](shown)
	for _, part := range shown.Parts() {
		if d, ok := part.(Derived); ok {
			d.Derive(core)
		}
	}
	return c.File.Show(shown.Any())
}

// Naming is a part that says whether the gate knows names without a domain.
type Naming interface{ KnowsLocalNames() bool }

// KnowsLocalNames reports whether "someone" alone is a recipient here.
func (c *Config) KnowsLocalNames() bool {
	for _, part := range c.Parts() {
		if n, ok := part.(Naming); ok && n.KnowsLocalNames() {
			return true
		}
	}
	return false
}

// Lasting is a part that says how long answers may be remembered.
type Lasting interface{ Limits() store.Limits }

// limits are the longest lives of answers, by class.
func (c *Config) limits() (most store.Limits) {
	for _, part := range c.Parts() {
		if l, ok := part.(Lasting); ok {
			for class, life := range l.Limits() {
				most[class] = max(most[class], life)
			}
		}
	}
	return most
}
