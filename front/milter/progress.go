// SPDX-License-Identifier: BSD-2-Clause

package milter

import (
	"sync"
	"time"

	"rcptgate/front/milter/wire"
)

// progressEvery is how often an MTA that waits for the end of a message hears that the
// filter is still busy. Sendmail waits 10 s for each word.
const progressEvery = 3 * time.Second

var progressFrame = []byte{0, 0, 0, 1, wire.ReplyProgress}

// progress says "still busy" to the MTA until it is stopped.
type progress struct {
	c     *conn
	timer *time.Timer

	mu   sync.Mutex // held to write, and to end it
	done bool
	err  error // of a write
}

// begin starts it, where the MTA knows the word.
func (c *conn) beginProgress() *progress {
	p := &progress{c: c, done: c.version < 6}
	if !p.done {
		p.mu.Lock()
		p.timer = time.AfterFunc(progressEvery, p.say)
		p.mu.Unlock()
	}
	return p
}

func (p *progress) say() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	_ = p.c.nc.SetWriteDeadline(time.Now().Add(p.c.l.srv.config.FrameTime.Std()))
	_, p.err = p.c.nc.Write(progressFrame)
	_ = p.c.nc.SetWriteDeadline(time.Time{})
	if p.err != nil {
		p.done = true
		return
	}
	p.timer.Reset(progressEvery)
}

// stop ends it, and reports that the MTA could not be written to.
func (p *progress) stop() error {
	if p.timer == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	p.timer.Stop()
	return p.err
}
