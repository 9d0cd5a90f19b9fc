// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A witness is a filter of a few lines that speaks just enough of the milter protocol (version 6) to write down what an
// MTA sends and to refuse the recipients whose local part begins with "nobody". It proves the lab without the gate.
type witness struct {
	symbols string // macros asked for at RCPT, empty for the MTA's own list
	reject  bool   // SMFIP_RCPT_REJ: also show the recipients the MTA has refused

	listener net.Listener
	mu       sync.Mutex
	seen     []string
}

func startWitness(t *testing.T, network, addr, symbols string, reject bool) *witness {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{symbols: symbols, reject: reject, listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(c)
		}
	}()
	return w
}

func (w *witness) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, fmt.Sprintf(format, args...))
}

// all returns what was seen, one line each.
func (w *witness) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.seen, "\n")
}

func (w *witness) serve(c net.Conn) {
	defer c.Close()
	for {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:4])-1)
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		if head[4] == 'Q' {
			return // not noted: the end of one connection arrives amid the beginning of the next
		}
		if reply := w.answer(head[4], body); reply != nil {
			frame := binary.BigEndian.AppendUint32(nil, uint32(len(reply)))
			if _, err := c.Write(append(frame, reply...)); err != nil {
				return
			}
		}
	}
}

// answer notes one command and returns the reply, nil where none is due.
func (w *witness) answer(cmd byte, body []byte) []byte {
	args := strings.Split(strings.TrimSuffix(string(body), "\x00"), "\x00")
	switch cmd {
	case 'O':
		u := binary.BigEndian.Uint32
		w.note("O version=%d actions=%#x protocol=%#x", u(body), u(body[4:]), u(body[8:]))
		reply := append([]byte{'O'}, body[:4]...)
		actions, protocol := uint32(0), uint32(0)
		if w.reject {
			protocol |= 0x800
		}
		if w.symbols != "" {
			actions |= 0x100
		}
		reply = binary.BigEndian.AppendUint32(reply, actions)
		reply = binary.BigEndian.AppendUint32(reply, protocol)
		if w.symbols != "" {
			reply = binary.BigEndian.AppendUint32(reply, 3) // SMFIM_ENVRCPT
			reply = append(append(reply, w.symbols...), 0)
		}
		return reply
	case 'D':
		w.note("D %q", args)
		return nil
	case 'A', 'K':
		w.note("%c", cmd)
		return nil
	case 'R':
		w.note("R %q", args)
		if strings.HasPrefix(args[0], "<nobody") {
			return []byte("y550 5.1.1 nobody lives at 100%% of this address\x00")
		}
	default:
		w.note("%c %q", cmd, args)
	}
	return []byte{'c'}
}
