// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"context"
	"fmt"

	"rcptgate/front/listen"
)

// socketMode lets owner and group in, nobody else.
const socketMode = 0o660

// ErrInUse says that another daemon answers on the socket.
var ErrInUse = listen.ErrInUse

// Listen makes the admin socket at path with mode 0660 and, unless it is empty, the
// group. See [listen.Unix].
func Listen(path, group string) (*listen.Socket, error) {
	s, err := listen.Unix(context.Background(), path, listen.Options{Mode: socketMode, Group: group})
	if err != nil {
		return nil, fmt.Errorf("listen on admin socket %s: %w", path, err)
	}
	return s, nil
}
