// SPDX-License-Identifier: BSD-2-Clause

package sim

import (
	"strings"
	"time"
)

// err counts an error against the client, as Postfix does, and says reply.
func (c *session) err(stage Stage, reply string) bool {
	c.errors++
	return c.say(stage, reply)
}

// say sends the reply to a command, or does what the behaviour has for the stage.
func (c *session) say(stage Stage, reply string) bool {
	b := c.behaviour()
	if !c.patience(b) || !c.sleep(b.Delays[stage]) {
		return false
	}
	c.said[stage]++
	if fault, ok := b.Faults[stage]; ok && c.said[stage] > fault.After && (fault.First == 0 || c.number <= fault.First) {
		return c.fail(fault, reply)
	}
	return c.send(wire(reply))
}

// patience is what Postfix loses with a client that errs.
func (c *session) patience(b *Behaviour) bool {
	p := &b.Postfix
	switch {
	case p.HardLimit > 0 && c.errors >= p.HardLimit:
		c.srv.cut.Add(1)
		_ = c.send("421 4.7.0 " + c.srv.cfg.Name + " Error: too many errors\r\n")
		return false
	case p.SoftLimit > 0 && c.errors > p.SoftLimit:
		c.srv.delayed.Add(1)
		return c.sleep(p.Sleep)
	}
	return true
}

// wire writes "250 a\nb" as "250-a", "250 b".
func wire(reply string) string {
	if !strings.Contains(reply, "\n") {
		return reply + "\r\n"
	}
	code, text, _ := strings.Cut(reply, " ")
	lines := strings.Split(text, "\n")
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = code + sep + lines[i]
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// send writes what is kept back after it, and flushes when no command waits.
func (c *session) send(s string) bool {
	_, err := c.w.WriteString(s + c.held)
	c.held = ""
	if err == nil && (c.r.Buffered() == 0 || c.behaviour().FlushEach) {
		err = c.w.Flush()
	}
	return err == nil
}

func (c *session) fail(f Fault, reply string) bool {
	right := wire(reply)
	switch f.Kind {
	case Say:
		ok := c.send(wire(f.Reply))
		if strings.HasPrefix(f.Reply, "421") {
			_ = c.w.Flush()
			return false
		}
		return ok
	case Hang:
		return c.hang()
	case HalfLine:
		_, _ = c.w.WriteString(right[:2])
		_ = c.w.Flush()
	case Drip:
		return c.drip(f, right)
	case EndlessLine:
		return c.endless("250 ", strings.Repeat("x", 1000))
	case EndlessLines:
		return c.endless("", "250-and so on\r\n")
	case Garbage:
		_, _ = c.w.WriteString("\x16\x03\x01\x00 this is not a reply\r\n")
		_ = c.w.Flush()
		return true
	case MixedCodes:
		return c.send("250-yes\r\n550 no\r\n")
	case Swap:
		c.held = right
		return true
	case LateStray:
		if !c.send(right) || !c.sleep(every(f)) {
			return false
		}
		ok := c.send(right)
		c.srv.strays.Add(1)
		return ok
	case Before:
		_, _ = c.w.WriteString(wire(f.Reply))
		_ = c.w.Flush()
		return c.sleep(f.Every) && c.send(right)
	case Stray:
		return c.send(right + right)
	}
	_ = c.w.Flush() // Drop: what was said before still arrives
	return false
}

func every(f Fault) time.Duration {
	if f.Every == 0 {
		return 100 * time.Millisecond
	}
	return f.Every
}

func (c *session) drip(f Fault, s string) bool {
	for i := range len(s) {
		if c.w.WriteByte(s[i]) != nil || c.w.Flush() != nil || !c.sleep(every(f)) {
			return false
		}
	}
	return true
}

// endless sends until the client has had enough, at most 16 MiB.
func (c *session) endless(first, again string) bool {
	_, err := c.w.WriteString(first)
	for sent := 0; err == nil && sent < 16<<20; sent += len(again) {
		_, err = c.w.WriteString(again)
	}
	return false
}
