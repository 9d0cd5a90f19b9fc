// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"crypto/md5" //nolint:gosec // spreads keys as libketama does; nothing secret hangs on it
	"encoding/binary"
	"slices"
	"sort"
	"strconv"
)

// A server has 160 points on the ring: 40 hashes of 16 octets give four each.
const hashesPerServer = 40

// ring says which server is responsible for a key. It is libketama's: the points of a
// server are the four little-endian 32-bit words of md5(NAME "-" I), I from 0 to 39; a
// key belongs to the first point that is not below the first such word of md5(KEY), or
// to the lowest of all.
type ring struct {
	servers []*server
	points  []point // sorted
}

type point struct {
	at     uint32
	server *server
}

func newRing(servers []*server) *ring {
	r := &ring{servers: servers}
	for _, s := range servers {
		for i := range hashesPerServer {
			sum := md5.Sum([]byte(s.name + "-" + strconv.Itoa(i))) //nolint:gosec // as above
			for w := 0; w < len(sum); w += 4 {
				r.points = append(r.points, point{binary.LittleEndian.Uint32(sum[w:]), s})
			}
		}
	}
	slices.SortFunc(r.points, func(a, b point) int {
		switch {
		case a.at != b.at && a.at < b.at:
			return -1
		case a.at != b.at:
			return 1
		case a.server.name < b.server.name: // the same on every gateway, however its list is sorted
			return -1
		}
		return 1
	})
	return r
}

// pick gives the living server responsible for key, nil when none lives. The keys of a
// dead one go to the server with the next point, so that each of the others gets a share.
func (r *ring) pick(key string) *server {
	if len(r.points) == 0 {
		return nil
	}
	sum := md5.Sum([]byte(key)) //nolint:gosec // as above
	at := binary.LittleEndian.Uint32(sum[:])
	first := sort.Search(len(r.points), func(i int) bool { return r.points[i].at >= at })
	for i := range r.points {
		if s := r.points[(first+i)%len(r.points)].server; s.alive.Load() {
			return s
		}
	}
	return nil
}
