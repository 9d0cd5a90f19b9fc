// SPDX-License-Identifier: BSD-2-Clause

package socketmap

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"rcptgate/config/setting"
)

// ListenConfig is this front's part of [listen].
type ListenConfig struct {
	Socketmap []setting.Socket `toml:"socketmap" doc:"sockets for socket maps, in which Sendmail and Postfix look up clients of blocklists" example:"[\"unix:/run/rcptgate/map.sock\"]" restart:"true"`
}

// Config is the section [socketmap].
type Config struct {
	Maps        []MapConfig      `toml:"maps" doc:"further maps. Each blocklist is a map of its own name without being written here" example:"[{ name = \"virbl\", list = \"virus\" }]"`
	Connections int              `toml:"connections" doc:"maximum number of connections at one time, over all sockets; further ones are closed at once" min:"1" max:"100_000" restart:"true"`
	Idle        setting.Duration `toml:"idle" doc:"how long a connection may be silent between questions. A Postfix process that finds its connection closed asks again on a new one" min:"1s" restart:"true"`
	FrameTime   setting.Duration `toml:"frame_time" doc:"time limit for receiving a question that has begun, and for sending an answer" min:"100ms" restart:"true"`
	SocketMode  setting.FileMode `toml:"socket_mode" doc:"permissions of unix sockets: the MTA must be able to write to them" restart:"true"`
	SocketGroup string           `toml:"socket_group" doc:"group of unix sockets, by name or number" example:"\"postfix\"" restart:"true"`
}

// MapConfig is one more map.
type MapConfig struct {
	Name string `toml:"name" doc:"name of the map, as the MTA asks for it: in sendmail.cf the word after K"`
	List string `toml:"list" doc:"the blocklist whose clients it has"`
	Form string `toml:"form" doc:"its values: access, an action of Postfix's access(5) (REJECT with the list's text), also for Sendmail; seconds, how long the client stays listed, for Sendmail rules that want one word. Never use seconds with Postfix, which takes a number as OK" oneof:",access,seconds"`
}

// DefaultConfig gives every default.
func DefaultConfig() Config {
	return Config{
		Connections: 5000,
		Idle:        setting.Duration(2*time.Hour + 10*time.Minute),
		FrameTime:   setting.Duration(10 * time.Second),
		SocketMode:  0o660,
	}
}

// Validate holds that each further map has a name of its own, and a list.
func (c Config) Validate() error {
	var errs []error
	seen := map[string]bool{}
	for i, m := range c.Maps {
		at := fmt.Sprintf("maps[%d].", i+1)
		switch {
		case m.Name == "" || strings.ContainsAny(m.Name, " \t\r\n\x00:,") || len(m.Name) > 64:
			errs = append(errs, setting.Keyf(at+"name", "%q is not the name of a map; expected one word of at most 64 characters", m.Name))
		case seen[m.Name]:
			errs = append(errs, setting.Keyf(at+"name", "%q is there already", m.Name))
		case m.List == "":
			errs = append(errs, setting.Keyf(at+"list", "a map needs a list"))
		}
		seen[m.Name] = true
	}
	return errors.Join(errs...)
}
