// SPDX-License-Identifier: BSD-2-Clause

package unit

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"

	"rcptgate/kit/exit"
)

// inherit takes the sockets that systemd has opened (systemd.socket(5)), by the names that
// units have for theirs; those that no unit names are under "".
func (h *Host) inherit() error {
	named := map[string]bool{}
	for i := range h.units {
		named[h.units[i].Socket] = true
	}
	h.inherited = map[string][]net.Listener{}
	for _, file := range activation.Files(true) {
		name := file.Name()
		ln, err := net.FileListener(file)
		_ = file.Close() // ln has its own
		if err != nil {
			return exit.With(exit.Unavailable, fmt.Errorf("take the socket %q that systemd opened: %w", name, err))
		}
		if !named[name] {
			name = ""
		}
		h.inherited[name] = append(h.inherited[name], ln)
		if name != "" && len(h.inherited[name]) > 1 {
			return exit.With(exit.Unavailable, fmt.Errorf("systemd opened more than one socket named %q", name))
		}
	}
	return nil
}

// Inherited gives the sockets that systemd has opened under a name, once.
func (h *Host) Inherited(name string) []net.Listener {
	list := h.inherited[name]
	delete(h.inherited, name)
	return list
}

// closeInherited is for sockets that no front took.
func (h *Host) closeInherited() {
	for _, list := range h.inherited {
		for _, ln := range list {
			_ = ln.Close()
		}
	}
}
