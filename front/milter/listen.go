// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"

	"rcptgate/config/setting"
	"rcptgate/front/listen"
)

// Listen opens the socket. A unix socket gets mode and, unless empty, group (a name
// or a number), and its folder is made; see [listen.Unix].
func Listen(ctx context.Context, socket setting.Socket, mode setting.FileMode, group string) (net.Listener, error) {
	if socket.IsZero() {
		return nil, errors.New("listen: no socket given")
	}
	var ln net.Listener
	var err error
	if socket.Network == "unix" {
		ln, err = listen.Unix(ctx, socket.Address, listen.Options{Mode: os.FileMode(cmp.Or(mode, DefaultConfig().SocketMode)), Group: group, MakeFolder: true})
	} else {
		ln, err = new(net.ListenConfig).Listen(ctx, socket.Network, socket.Address)
	}
	if err != nil {
		return nil, listen.Failed(socket, err)
	}
	return ln, nil
}
