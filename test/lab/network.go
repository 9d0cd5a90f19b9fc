// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Network is a network of a test's own (network_namespaces(7)): a loopback interface with every port free, 53 too, and
// with addresses that are not the loopback's, from which clients can come. Unix sockets are common to all networks.
type Network struct {
	t    testing.TB
	file *os.File
}

// NewNetwork makes a network whose loopback interface has further addresses: "192.0.2.9", "2001:db8::9".
func NewNetwork(t testing.TB, addresses ...string) *Network {
	t.Helper()
	Need(t)
	n := &Network{t: t}
	n.on(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() {
		var err error
		if n.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			t.Fatalf("making a network: %v", err)
		}
		if err := loopback(addresses); err != nil {
			t.Fatalf("making a network: %v", err)
		}
	})
	t.Cleanup(func() { _ = n.file.Close() })
	return n
}

// loopback brings the loopback interface of this thread's network up and gives it further addresses (netdevice(7)).
func loopback(addresses []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was sent on it
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	for i, addr := range addresses {
		ip := netip.MustParseAddr(addr)
		if ip.Is6() {
			if err := addInet6(ip); err != nil {
				return fmt.Errorf("address %s: %w", addr, err)
			}
			continue
		}
		alias, err := unix.NewIfreq(fmt.Sprintf("lo:%d", i+1))
		if err != nil {
			return err
		}
		if err := alias.SetInet4Addr(ip.AsSlice()); err != nil {
			return fmt.Errorf("address %s: %w", addr, err)
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, alias); err != nil {
			return fmt.Errorf("address %s: %w", addr, err)
		}
	}
	return nil
}

// addInet6 gives the loopback interface an IPv6 address. Its request is struct in6_ifreq of linux/ipv6.h.
func addInet6(addr netip.Addr) error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was sent on it
	request := struct {
		addr   [16]byte
		length uint32
		index  int32
	}{addr.As16(), 128, int32(lo.Index)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// Do has f work in the network: the sockets that it opens and the programs that it starts belong there. Goroutines that
// it starts do not.
func (n *Network) Do(f func()) {
	n.t.Helper()
	n.on(func() error { return unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET) }, f)
}

// on runs f on a thread that enter has put somewhere else, and brings the thread back.
func (n *Network) on(enter func() error, f func()) {
	n.t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		n.t.Fatalf("finding the network: %v", err)
	}
	defer func() {
		defer home.Close() //nolint:errcheck // only its number is used
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			return // the thread stays locked, and ends with the goroutine
		}
		runtime.UnlockOSThread()
	}()
	if err := enter(); err != nil {
		n.t.Fatalf("entering a network: %v", err)
	}
	f()
}
