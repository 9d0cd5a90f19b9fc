// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"rcptgate/config/setting"
)

// Config is the [antivirus] section. It is off without a server.
type Config struct {
	Clamd       []Server         `toml:"clamd" doc:"sockets of ClamAV daemons (clamd), used in turn; if one does not answer, its messages go to the others. Without any, nothing is scanned" example:"[\"unix:/run/clamav/clamd.ctl\", \"tcp:10.0.0.8:3310\"]"`
	Infected    string           `toml:"infected" doc:"what to do with an infected message: \"reject\" (550 5.7.1), \"discard\", \"hold\" for a person to look at, \"mark\" in a header field, or \"continue\"" oneof:"reject,discard,hold,mark,continue"`
	Unscanned   string           `toml:"unscanned" doc:"what to do with a message that no server could scan: \"tempfail\" (451 4.7.1, the sender tries again) or \"continue\"" oneof:"tempfail,continue"`
	TooLarge    string           `toml:"too_large" doc:"what to do with a message that is larger than max_size, or of which clamd says that its contents exceed its limits: \"continue\", \"tempfail\" (451 4.3.4) or \"reject\" (552 5.3.4)" oneof:"continue,tempfail,reject"`
	MaxSize     setting.Size     `toml:"max_size" doc:"largest message that is scanned. StreamMaxLength and MaxFileSize in clamd.conf must not be smaller; the self-test notices if they are" min:"64KB" max:"4GB"`
	Timeout     setting.Duration `toml:"timeout" doc:"time limit for the scan of a message of up to 1MB; each further megabyte has a second more. message_deadline limits the whole" min:"1s" max:"5m"`
	Connections int              `toml:"connections" doc:"scans at one time on each server; further messages wait. More than MaxThreads in clamd.conf is of no use" min:"1" max:"1000"`
	Ignore      []Glob           `toml:"ignore" doc:"signatures that do not count, with * and ?. clamd stops at the first signature that matches, so an ignored one may hide another: prefer an .ign2 file of ClamAV's" example:"[\"PUA.*\", \"*.UNOFFICIAL\"]"`
	Header      string           `toml:"header" doc:"name of a header field that says what the scan found: \"clean\", \"infected (NAME)\" or \"not scanned (WHY)\". Fields of that name that the sender wrote are removed. Empty: no field, or X-Virus-Status with infected = \"mark\"" example:"\"X-Virus-Status\""`
	Selftest    bool             `toml:"selftest" doc:"have each server find the harmless EICAR test file at the start, hourly and when its signatures change, alone and in a message of max_size. A server that does not find it is not believed when it says that a message is clean"`

	check *Check // what Build made of it; nil if it is off
}

// DefaultConfig is what an empty [antivirus] section means.
func DefaultConfig() Config {
	return Config{
		Infected: "reject", Unscanned: "tempfail", TooLarge: "continue", MaxSize: 25 << 20, Timeout: setting.Duration(30 * time.Second),
		Connections: 10, Selftest: true,
	}
}

// Validate reports settings that cannot be meant.
func (c Config) Validate() error {
	var errs []error
	seen := make(map[string]bool)
	for _, s := range c.Clamd {
		if seen[s.String()] {
			errs = append(errs, setting.Keyf("clamd", "%q is listed twice", s))
		}
		seen[s.String()] = true
	}
	if strings.ContainsFunc(c.Header, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) || len(c.Header) > 64 {
		errs = append(errs, setting.Keyf("header", "%q is not the name of a header field; expected at most 64 octets of printable ASCII without \":\" and spaces", c.Header))
	}
	return errors.Join(errs...)
}

// header is the name of the field that says what was found; "" if there is none.
func (c *Config) header() string {
	if c.Header == "" && c.Infected == mark {
		return "X-Virus-Status"
	}
	return c.Header
}

// limit is how long the scan of a message may take.
func (c *Config) limit(size int64) time.Duration {
	return c.Timeout.Std() + time.Duration(size>>20)*time.Second
}

// Server is a clamd's socket, written as "unix:/path" or "tcp:HOST:PORT".
type Server struct{ setting.Socket }

// String writes the socket so that it can be read again.
func (s Server) String() string {
	if s.Network == "tcp" {
		return "tcp:" + s.Address
	}
	return s.Socket.String()
}

// MarshalText writes s as String does.
func (s Server) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a socket.
func (s *Server) UnmarshalText(text []byte) error {
	spelled := string(text)
	if rest, ok := strings.CutPrefix(spelled, "tcp:"); ok {
		spelled = "inet:" + rest
	}
	socket, err := setting.ParseSocket(spelled)
	if err != nil || socket.IsZero() {
		return fmt.Errorf("%q is not the socket of a clamd: expected \"unix:/path\" or \"tcp:HOST:PORT\"", text)
	}
	s.Socket = socket
	return nil
}

// Form says what a server is written like.
func (Server) Form() string {
	return `the socket of a clamd: "unix:/run/clamav/clamd.ctl" or "tcp:10.0.0.8:3310"`
}

// Glob matches names of signatures: "*" is any text, "?" one character; case does not
// matter.
type Glob struct {
	text string
	expr *regexp.Regexp
}

// Matches reports whether the whole name matches.
func (g *Glob) Matches(name string) bool { return g.expr.MatchString(name) }

// MarshalText writes the pattern.
func (g Glob) MarshalText() ([]byte, error) { return []byte(g.text), nil }

// UnmarshalText reads a pattern.
func (g *Glob) UnmarshalText(text []byte) error {
	if len(text) == 0 || len(text) > 256 {
		return errors.New("a pattern of 1 to 256 octets is expected, as in \"PUA.*\"")
	}
	quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(string(text)))
	expr, err := regexp.Compile("(?is)^" + quoted + "$")
	if err != nil {
		return fmt.Errorf("%q is not a pattern of signature names: %w", text, err)
	}
	g.text, g.expr = string(text), expr
	return nil
}

// Form says what a pattern is written like.
func (Glob) Form() string { return `a pattern of signature names such as "PUA.*"` }
