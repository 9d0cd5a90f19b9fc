// SPDX-License-Identifier: BSD-2-Clause

// Package guard holds the promise that no input ends the process. Whatever reads what
// strangers send, a connection or a datagram, defers [Log] at its beginning: a mistake of ours
// costs that connection or datagram and a line in the log, and the reader goes on.
package guard

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Log ends a panic of the function that defers it, and logs it with its stack: what says which
// connection or question was dropped for it, args name it further. It must be deferred itself,
// not called by what is.
func Log(log *slog.Logger, what string, args ...any) {
	if p := recover(); p != nil {
		log.Error(what, append(args, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))...)
	}
}
