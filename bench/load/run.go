// SPDX-License-Identifier: BSD-2-Clause

package load

import (
	"context"
	"errors"
	"time"
)

// Plan says how long and how fast the questions are asked. Without Duration and Count nothing would end; one is needed.
type Plan struct {
	// Duration is the time after which no further question is asked; 0 is no limit.
	Duration time.Duration
	// Count is the number of questions; 0 is no limit.
	Count int
	// Rate is the number of questions a second over all connections; 0 asks as fast as answers come.
	Rate float64
	// Patience bounds the wait for an answer, and for those that are outstanding at the end; 0 is a minute.
	Patience time.Duration
}

// Result is what a run saw.
type Result struct {
	// Asked is the number of questions sent, answered or not.
	Asked int
	// Accepted, Refused and Temporary are the answers.
	Accepted, Refused, Temporary int
	// Failed is the number of connections that broke or were not answered in time; the first reason is in Err.
	Failed int
	Err    error
	// Elapsed is the time from the first question to the last answer.
	Elapsed time.Duration
	// Latency holds the time of each answer, from when its question was sent, or was due if there is a rate.
	Latency *Histogram
	// CPU is the processor time of the thread that asked.
	CPU time.Duration
}

// Answered is the number of answers.
func (r *Result) Answered() int { return r.Accepted + r.Refused + r.Temporary }

// PerSecond is the number of answers a second.
func (r *Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Answered()) / r.Elapsed.Seconds()
}

// Share is the part of one processor that asking took, 0 to 1.
func (r *Result) Share() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return r.CPU.Seconds() / r.Elapsed.Seconds()
}

var (
	errNoEnd    = errors.New("load without a duration and a count would not end")
	errNoConn   = errors.New("load over no connection")
	errSilent   = errors.New("no answer in time")
	errClosed   = errors.New("the server closed the connection")
	errOverlong = errors.New("the server sent more than a reply can hold")
)

// Run asks over all connections until the plan or ctx ends, and waits for what is outstanding. The connections stay
// open and can be used again, those that failed excepted, which are closed. One Run at a time may use a connection.
// The error concerns the machine (epoll, descriptors); what the server does wrong is in the result.
func Run(ctx context.Context, conns []*Conn, p Plan) (*Result, error) {
	switch {
	case p.Duration <= 0 && p.Count <= 0:
		return nil, errNoEnd
	case len(conns) == 0:
		return nil, errNoConn
	case p.Patience <= 0:
		p.Patience = time.Minute
	}
	return run(ctx, conns, p)
}

// DialAll opens n connections with dial, or none.
func DialAll(ctx context.Context, n int, dial func(context.Context) (*Conn, error)) ([]*Conn, error) {
	conns := make([]*Conn, 0, n)
	for range n {
		c, err := dial(ctx)
		if err != nil {
			CloseAll(conns)
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// CloseAll closes the connections.
func CloseAll(conns []*Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}
