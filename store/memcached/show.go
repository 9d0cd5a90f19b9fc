// SPDX-License-Identifier: BSD-2-Clause

package memcached

import "rcptgate/metric"

// Metrics are about the servers, and about what one store writes to them.
func Metrics(c *Client, s *Store) []metric.Family {
	per := func(kind metric.Kind, name, help string, of func(*ServerStats) float64) metric.Family {
		return metric.Each(kind, name, help, "server", c.Stats, func(s *ServerStats) (float64, string) { return of(s), s.Name })
	}
	return []metric.Family{
		per(metric.Gauge, "memcached_up", "0: the server is dead and is not asked.", func(s *ServerStats) float64 { return metric.Bool(s.Alive) }),
		per(metric.Counter, "memcached_hits_total", "Keys found, leases included.", func(s *ServerStats) float64 { return float64(s.Hits) }),
		per(metric.Counter, "memcached_misses_total", "Keys not found.", func(s *ServerStats) float64 { return float64(s.Misses) }),
		per(metric.Counter, "memcached_errors_total", "Questions without a usable reply.", func(s *ServerStats) float64 { return float64(s.Errors) }),
		{
			Kind: metric.Counter, Name: "memcached_bad_values_total", Labels: []string{"server", "why"},
			Help: "Values that were not believed: mac, not sealed with a key of ours; form, not as documented.",
			Read: func(emit metric.Emit) {
				for _, st := range c.Stats() {
					emit(float64(st.BadMAC), st.Name, "mac")
					emit(float64(st.BadForm), st.Name, "form")
				}
			},
		},
		{
			Kind: metric.Histogram, Name: "memcached_seconds", Labels: []string{"server"},
			Help: "How long questions to a server took, failed ones included.",
			Fill: func(emit metric.EmitBuckets) {
				for _, st := range c.Stats() {
					emit(metric.Buckets{Bounds: LatencyBounds[:], Counts: st.Latency.Counts[:], Sum: st.Latency.Sum}, st.Name)
				}
			},
		},
		metric.Level("memcached_queue", "Records not yet written to memcached.", func() float64 { return float64(s.Queue().Waiting) }),
		metric.Count("memcached_queue_dropped_total", "Records not written to memcached because the queue was full.", func() float64 { return float64(s.Queue().Dropped) }),
		metric.Count("memcached_writes_failed_total", "Records not written to memcached because no server took them.", func() float64 { return float64(s.Queue().Failed) }),
		metric.Level("memcached_tombstones", "Forgotten patterns that all gateways are to know.", func() float64 { return float64(s.Tombstones()) }),
	}
}
