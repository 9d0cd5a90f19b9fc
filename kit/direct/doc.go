// SPDX-License-Identifier: BSD-2-Clause

// Package direct reads and writes sockets without telling Go's scheduler of each system
// call.
//
// The sockets of package net are non-blocking, so that a read(2) or write(2) lasts a few
// microseconds. Package syscall prepares the scheduler for one that lasts longer, and its
// monitor then looks after it and may hand the processor to another thread. For short
// questions and answers that costs as much as the call itself. Waiting for a socket is left
// to the runtime's poller, so that deadlines and Close work as they do for a net.Conn.
package direct
