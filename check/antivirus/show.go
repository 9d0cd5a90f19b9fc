// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rcptgate"
	"rcptgate/metric"
	"rcptgate/view"
)

// bounds are those of the histogram of scan times.
func bounds() []time.Duration {
	return []time.Duration{
		time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 10 * time.Second, 30 * time.Second,
	}
}

// counts are what outlives configurations.
type counts struct {
	results [classes]atomic.Uint64
	buckets [9]atomic.Uint64 // one more than bounds
	took    atomic.Int64     // nanoseconds

	mu   sync.Mutex
	last []finding // the latest first
}

// finding is one infected message.
type finding struct {
	at            time.Time
	virus         string
	client        netip.Addr
	sender, queue string
}

// findingsMax bounds the infected messages that are shown.
const findingsMax = 20

func (c *counts) add(what class, took time.Duration) {
	c.results[what].Add(1)
	c.took.Add(int64(took))
	i := 0
	for _, b := range bounds() {
		if took <= b {
			break
		}
		i++
	}
	c.buckets[i].Add(1)
}

// remember keeps an infected message for people to see.
func (c *counts) remember(q *rcptgate.Query) {
	f := finding{time.Now(), q.Message.Virus, q.Client, rcptgate.CleanText(q.Sender), rcptgate.CleanText(q.QueueID)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = append([]finding{f}, c.last[:min(len(c.last), findingsMax-1)]...)
}

// status is what there is to say of one server.
type status struct {
	name, version, why   string
	up, known, blind     bool
	busy                 int
	proven               int64
	signatures, tested   time.Time
	scans, found, failed uint64
}

// status gives the servers' state; nil is no pool.
func (p *pool) status() (out []status) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		out = append(out, status{
			name: s.name, version: s.version.Text, why: s.why, up: s.usable(), known: s.known, blind: s.proven == 0 && s.trials == 0, busy: s.busy, proven: s.proven,
			signatures: s.version.Signatures, tested: s.tested, scans: s.scans.Load(), found: s.found.Load(), failed: s.failures.Load(),
		})
	}
	return out
}

func (u *live) servers() []status { return u.active.Load().status() }

func (u *live) metrics() []metric.Family {
	c := &u.counts
	return []metric.Family{
		{Kind: metric.Counter, Name: "antivirus_messages_total", Help: "Messages at their end, by what the virus scan said.", Labels: []string{"result"}, Read: func(emit metric.Emit) {
			for i := range classes {
				emit(float64(c.results[i].Load()), i.String())
			}
		}},
		{Kind: metric.Histogram, Name: "antivirus_seconds", Help: "How long the scan of a message took, the wait for a server included.", Fill: func(emit metric.EmitBuckets) {
			h := metric.Buckets{Bounds: bounds(), Sum: time.Duration(c.took.Load())}
			for i := range c.buckets {
				h.Counts = append(h.Counts, c.buckets[i].Load())
			}
			emit(h)
		}},
		metric.Each(metric.Gauge, "antivirus_up", "1 if messages are given to the virus scanner, 0 while it does not answer or does not find the test file.", "server", u.servers,
			func(s *status) (float64, string) { return metric.Bool(s.up), s.name }),
		metric.Each(metric.Gauge, "antivirus_busy", "Scans in progress.", "server", u.servers, func(s *status) (float64, string) { return float64(s.busy), s.name }),
		metric.Each(metric.Counter, "antivirus_scans_total", "Messages given to the virus scanner.", "server", u.servers, func(s *status) (float64, string) { return float64(s.scans), s.name }),
		metric.Each(metric.Counter, "antivirus_errors_total", "Scans that said nothing.", "server", u.servers, func(s *status) (float64, string) { return float64(s.failed), s.name }),
		metric.Each(metric.Gauge, "antivirus_looks_into_bytes", "Largest message in which the self-test found the test file; 0 before.", "server", u.servers,
			func(s *status) (float64, string) { return float64(s.shown()), s.name }),
		metric.Each(metric.Gauge, "antivirus_signature_age_seconds", "Age of the virus scanner's official signatures; -1 if it does not say.", "server", u.servers,
			func(s *status) (float64, string) {
				if s.signatures.IsZero() {
					return -1, s.name
				}
				return time.Since(s.signatures).Seconds(), s.name
			}),
	}
}

// shown is the size that was proven; 0 if the self-test is off.
func (s *status) shown() int64 {
	if s.proven == math.MaxInt64 {
		return 0
	}
	return s.proven
}

// show is the servers and the infected messages.
func (u *live) show() []view.Table {
	p := u.active.Load()
	if p == nil {
		return nil
	}
	t := serversTable()
	for _, s := range p.status() {
		attention, matter := "", ""
		switch {
		case s.known && !s.up && s.blind:
			matter = "antivirus blind " + s.name
			attention = "virus scanner " + s.name + " is not used: " + s.why
		case s.known && !s.up:
			matter = "antivirus down " + s.name
			attention = "virus scanner " + s.name + " is not used: " + s.why
		case s.known && s.proven < int64(p.cfg.MaxSize):
			matter = "antivirus limit " + s.name
			attention = fmt.Sprintf("virus scanner %s does not search messages of max_size: %s", s.name, s.why)
		}
		t.Add(attention, s.name, s.up, s.shown(), s.tested, s.busy, s.scans, s.found, s.failed, s.version, s.why)
		t.About(matter)
	}
	found := foundTable()
	u.counts.mu.Lock()
	defer u.counts.mu.Unlock()
	for _, f := range u.counts.last {
		client := ""
		if f.client.IsValid() {
			client = f.client.String()
		}
		found.Add("", f.at, f.virus, client, f.sender, f.queue)
	}
	return []view.Table{t, found}
}

// serversTable is the table "antivirus" without rows.
func serversTable() view.Table {
	return view.Table{
		Name: "antivirus", Title: "Virus scanners",
		Doc: "the servers of [antivirus]; shown if there is one",
		Columns: view.Explained(
			"server", "Server", "its address",
			"up", "Used", "no: it failed or did not find the test virus, and no message is scanned there",
			"looks_into", "Looks into", "how large a message may be for the server to find the test virus in it, in octets; 0: not tested",
			"tested", "Tested", "when the test virus was last sent",
			"busy", "Busy", "scans in progress",
			"scans", "Scans", "messages scanned",
			"infected", "Infected", "messages with a virus",
			"failed", "Failed", "scans that failed",
			"version", "Version", "the server's version and that of its signatures",
			"error", "Error", "why it is not used, or not for large messages",
		),
	}
}

// foundTable is the table "antivirus-found" without rows.
func foundTable() view.Table {
	return view.Table{
		Name: "antivirus-found", Title: "Infected messages", Empty: "none since the daemon started",
		Doc: "the last infected messages",
		Columns: view.Explained(
			"time", "Time", "when",
			"virus", "Virus", "its name",
			"client", "Client", "who sent it",
			"sender", "Sender", "the reverse-path",
			"queue", "Queue", "the MTA's queue id",
		),
	}
}
