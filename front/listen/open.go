// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"rcptgate/config/setting"
)

// Open opens a socket of the configuration. A unix socket gets the options, and is made
// again when somebody removes its name; every is how often that is looked at. What names
// the socket in the log: "admin".
func Open(ctx context.Context, what string, socket setting.Socket, o Options, every time.Duration, log *slog.Logger) (net.Listener, error) {
	if socket.Network != "unix" {
		ln, err := new(net.ListenConfig).Listen(ctx, socket.Network, socket.Address)
		if err != nil {
			return nil, Failed(socket, err)
		}
		return ln, nil
	}
	k, err := KeepUnix(ctx, what, socket, o, every, log)
	if err != nil {
		_ = k.Close()
		return nil, err
	}
	return k, nil
}

// KeepUnix is Open for a unix socket whose listener works, in spite of an error, as soon as
// the socket can be made. It must be closed either way.
func KeepUnix(ctx context.Context, what string, socket setting.Socket, o Options, every time.Duration, log *slog.Logger) (*Kept, error) {
	k, err := keep(what+" "+socket.Address, every, log, func() (*Socket, error) {
		s, err := Unix(context.WithoutCancel(ctx), socket.Address, o)
		if err == nil && o.Made != nil {
			o.Made()
		}
		return s, err
	})
	if err != nil {
		return k, Failed(socket, err)
	}
	return k, nil
}

// Exposed warns of a socket that listens on every address.
func Exposed(what string, socket setting.Socket, so string) []string {
	host, _, err := net.SplitHostPort(socket.Address)
	addr, bad := netip.ParseAddr(host)
	if socket.Network == "unix" || err != nil || bad != nil || !addr.IsUnspecified() {
		return nil
	}
	return []string{fmt.Sprintf("%s = %q in [listen] listens on every address: %s", what, socket, so)}
}

// NoGroup warns of a group that does not exist on this machine; where names the setting.
func NoGroup(where, group string) []string {
	if _, err := groupID(group); err != nil {
		return []string{where + ": " + err.Error()}
	}
	return nil
}
