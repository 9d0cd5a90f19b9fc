// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// Kept is a listener whose unix socket is created again when its name is gone. Connections
// that were accepted before go on. Why: docs/decisions/0506-removed-files.md.
type Kept struct {
	open func() (*Socket, error)
	name string
	log  *slog.Logger

	mu     sync.Mutex
	socket *Socket       // nil while there is none
	change chan struct{} // closed when socket has changed
	closed bool

	quit chan struct{}
	done chan struct{}
}

// keep opens a socket and looks after it until Close. The error is that of the first
// opening; the listener works nevertheless, as soon as a later one succeeds, and must be
// closed either way. Name stands in the log: "admin socket /path".
func keep(name string, every time.Duration, log *slog.Logger, open func() (*Socket, error)) (*Kept, error) {
	k := &Kept{
		open: open, name: name, log: log, change: make(chan struct{}),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	var err error
	k.socket, err = open()
	go k.watch(every, err)
	return k, err
}

// watch looks now and then. why is the trouble that has been logged already.
func (k *Kept) watch(every time.Duration, why error) {
	defer close(k.done)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-k.quit:
			return
		case <-ticker.C:
		}
		old := k.current()
		if old != nil && !old.Gone() {
			continue
		}
		if old != nil && why == nil {
			k.log.Warn("a socket was removed or replaced, creating it again", "socket", k.name)
		}
		fresh, err := k.open()
		if err != nil {
			if why == nil {
				k.log.Error("cannot re-create the removed socket, retrying", "socket", k.name, "error", err)
			}
			why = err
			continue
		}
		why = nil
		k.put(fresh)
		if old != nil {
			_ = old.Close()
		}
		k.log.Info("listening again", "socket", k.name)
	}
}

func (k *Kept) current() *Socket {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.socket
}

func (k *Kept) put(s *Socket) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.socket = s
	close(k.change)
	k.change = make(chan struct{})
}

// Accept waits for a connection, on whichever socket there is.
func (k *Kept) Accept() (net.Conn, error) {
	for {
		k.mu.Lock()
		socket, change, closed := k.socket, k.change, k.closed
		k.mu.Unlock()
		switch {
		case closed:
			return nil, net.ErrClosed
		case socket == nil:
			<-change
			continue
		}
		conn, err := socket.Accept()
		if err == nil || k.current() == socket && !k.isClosed() {
			return conn, err
		}
	}
}

func (k *Kept) isClosed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}

// Close ends it, the watch included.
func (k *Kept) Close() error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return net.ErrClosed
	}
	k.closed = true
	k.mu.Unlock()
	close(k.quit)
	<-k.done // from here on no socket is created
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.change)
	if k.socket == nil {
		return nil
	}
	return k.socket.Close()
}

// Addr names the socket.
func (k *Kept) Addr() net.Addr {
	if s := k.current(); s != nil {
		return s.Addr()
	}
	return &net.UnixAddr{Name: k.name, Net: "unix"}
}
