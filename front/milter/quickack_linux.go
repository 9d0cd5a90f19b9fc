// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// quickAck has the kernel acknowledge at once what has been read from a TCP
// connection. Linux delays an acknowledgement by 40 ms, in the hope that an answer
// will carry it, and forgets TCP_QUICKACK (tcp(7)) with the next answer. Setting it
// just before waiting for a frame that depends on it costs one system call for
// senders who write twice, as Sendmail does, and none for those who write once.
type quickAck struct {
	raw syscall.RawConn
	set func(fd uintptr) // made once: a closure a call would be an allocation
}

func newQuickAck(nc net.Conn) *quickAck {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return &quickAck{raw: raw, set: func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}}
}

// now acknowledges; without effect on anything but TCP. That the connection has gone
// shows at the next read.
func (q *quickAck) now() {
	if q != nil {
		_ = q.raw.Control(q.set)
	}
}
