// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"rcptgate/config/setting"
	"rcptgate/front/milter/wire"
)

// Config bounds the milter listeners. It is part of the section [listen]. A value
// that is left out or 0 is its default.
type Config struct {
	// Connections is the number of milter connections at one time, over all
	// listeners; the open-file limit is raised for them. One more is closed at once.
	Connections int `toml:"connections" doc:"milter connections at one time, over all sockets; one more is closed at once" min:"1" max:"1_000_000"`
	// Idle is how long a connection may be silent. A client may take an hour for
	// DATA, during which the MTA has nothing to say to us.
	Idle setting.Duration `toml:"idle" doc:"how long a milter connection may be silent; a client may take an hour for its message, during which the MTA says nothing" min:"1s"`
	// FrameTime is how long a frame that has begun may take to be complete, and how
	// long an answer may take to be sent.
	FrameTime setting.Duration `toml:"frame_time" doc:"how long a frame that has begun may take to be complete, and an answer to be sent" min:"100ms"`
	// FrameSize is the longest frame of an event we want, in octets.
	FrameSize int `toml:"frame_size" doc:"the longest frame of an event that is wanted, in octets" min:"4096" max:"1_048_576"`
	// Drain is how long transactions may go on after the daemon was told to end.
	Drain setting.Duration `toml:"drain" doc:"how long transactions may go on after the daemon was told to end" min:"100ms" max:"5m"`
	// SocketMode and SocketGroup are given to unix sockets: the MTA must be able to
	// write to them.
	SocketMode  FileMode `toml:"socket_mode" doc:"permissions of unix milter sockets: the MTA must be able to write to them"`
	SocketGroup string   `toml:"socket_group" doc:"group of unix milter sockets, by name or number" example:"\"postfix\""`
}

// DefaultConfig gives every default.
func DefaultConfig() Config {
	return Config{
		Connections: 20000,
		Idle:        setting.Duration(2*time.Hour + 10*time.Minute),
		FrameTime:   setting.Duration(10 * time.Second),
		FrameSize:   wire.FrameMax,
		Drain:       setting.Duration(10 * time.Second),
		SocketMode:  0o660,
	}
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	c.Connections = or(c.Connections, d.Connections)
	c.Idle = or(c.Idle, d.Idle)
	c.FrameTime = or(c.FrameTime, d.FrameTime)
	c.FrameSize = or(c.FrameSize, d.FrameSize)
	c.Drain = or(c.Drain, d.Drain)
	c.SocketMode = or(c.SocketMode, d.SocketMode)
	return c
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Validate names every value that cannot be used and what is allowed.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Connections < 1 || c.Connections > 1_000_000 {
		errs = append(errs, setting.Keyf("connections", "%d is out of range: 1 to 1000000 is allowed", c.Connections))
	}
	if c.Idle.Std() < time.Second {
		errs = append(errs, setting.Keyf("idle", "%q is too little: 1s or more is allowed", c.Idle))
	}
	if c.FrameTime.Std() < 100*time.Millisecond {
		errs = append(errs, setting.Keyf("frame_time", "%q is too little: 100ms or more is allowed", c.FrameTime))
	}
	if c.FrameSize < 4096 || c.FrameSize > 1<<20 {
		errs = append(errs, setting.Keyf("frame_size", "%d is out of range: 4096 to 1048576 octets are allowed", c.FrameSize))
	}
	if c.Drain.Std() < 100*time.Millisecond || c.Drain.Std() > 5*time.Minute {
		errs = append(errs, setting.Keyf("drain", "%q is out of range: 100ms to 5m is allowed", c.Drain))
	}
	if os.FileMode(c.SocketMode)&^0o777 != 0 {
		errs = append(errs, setting.Keyf("socket_mode", "%q are more than permission bits: \"0660\" is allowed", c.SocketMode))
	}
	return errors.Join(errs...)
}

// FileMode is the permissions of a unix socket, written in octal: "0660".
type FileMode os.FileMode

// String writes the mode in octal with a leading 0.
func (m FileMode) String() string { return fmt.Sprintf("0%03o", uint32(m)) }

// MarshalText writes m as String does.
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads an octal number.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return fmt.Errorf("%q are no permissions: an octal number from \"0001\" to \"0777\" is allowed, as in \"0660\"", text)
	}
	*m = FileMode(n)
	return nil
}
