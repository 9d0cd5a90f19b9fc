// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"cmp"
	"time"

	"rcptgate/config/setting"
	"rcptgate/front/milter/wire"
)

// Config bounds the milter listeners. A value that is left out or 0 is its
// default; the ranges are in the tags, which package config holds.
type Config struct {
	// Connections is the number of milter connections at one time, over all
	// listeners; the open-file limit is raised for them. One more is closed at once.
	Connections int `toml:"connections" doc:"maximum number of milter connections at one time, over all sockets; further ones are closed at once" min:"1" max:"1_000_000" restart:"true"`
	// Idle is how long a connection may be silent. A client may take an hour for
	// DATA, during which the MTA has nothing to say to us.
	Idle setting.Duration `toml:"idle" doc:"how long a milter connection may be silent; a client may take an hour for its message, during which the MTA says nothing" min:"1s" restart:"true"`
	// FrameTime is how long a frame that has begun may take to be complete, and how
	// long an answer may take to be sent.
	FrameTime setting.Duration `toml:"frame_time" doc:"time limit for receiving a frame that has begun, and for sending an answer" min:"100ms" restart:"true"`
	// FrameSize is the longest frame of an event we want, in octets.
	FrameSize int `toml:"frame_size" doc:"maximum size of a frame of a negotiated event, in octets" min:"4096" max:"1_048_576" restart:"true"`
	// Drain is how long transactions may go on after the daemon was asked to end.
	Drain setting.Duration `toml:"drain" doc:"how long transactions may go on after the daemon was asked to end" min:"100ms" max:"5m" restart:"true"`
	// Body is how much of a message's body steps see, and Spool bounds all bodies that are
	// kept at one time.
	Body  setting.Size `toml:"body" doc:"how much of a message's body is kept for the steps that look at messages, such as virus scanners; of a longer body they see the beginning, and that it is cut" min:"64KB" max:"4GB" restart:"true"`
	Spool setting.Size `toml:"spool" doc:"limit for the bodies of all messages that are being received, in memory (up to 256KB each, 32MB for all) and on disk together; beyond it senders are asked to try again later (452 4.3.1)" min:"1MB" max:"1TB" restart:"true"`
	// SocketMode and SocketGroup are given to unix sockets: the MTA must be able to
	// write to them.
	SocketMode  setting.FileMode `toml:"socket_mode" doc:"permissions of unix milter sockets: the MTA must be able to write to them" restart:"true"`
	SocketGroup string           `toml:"socket_group" doc:"group of unix milter sockets, by name or number" example:"\"postfix\"" restart:"true"`
}

// DefaultConfig gives every default.
func DefaultConfig() Config {
	return Config{
		Connections: 20000,
		Idle:        setting.Duration(2*time.Hour + 10*time.Minute),
		FrameTime:   setting.Duration(10 * time.Second),
		FrameSize:   wire.FrameMax,
		Drain:       setting.Duration(10 * time.Second),
		Body:        64 << 20,
		Spool:       1 << 30,
		SocketMode:  0o660,
	}
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	c.Connections = cmp.Or(c.Connections, d.Connections)
	c.Idle = cmp.Or(c.Idle, d.Idle)
	c.FrameTime = cmp.Or(c.FrameTime, d.FrameTime)
	c.FrameSize = cmp.Or(c.FrameSize, d.FrameSize)
	c.Drain = cmp.Or(c.Drain, d.Drain)
	c.Body = cmp.Or(c.Body, d.Body)
	c.Spool = cmp.Or(c.Spool, d.Spool)
	c.SocketMode = cmp.Or(c.SocketMode, d.SocketMode)
	return c
}
