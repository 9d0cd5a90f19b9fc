// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"rcptgate/check/quota/dovecot"
	"rcptgate/check/quota/wire"
)

// open makes the store of a section.
func (a *Agent) open(c *StoreConfig) (store, error) {
	switch c.Type {
	case "exec":
		return &program{c}, nil
	case "doveadm":
		return &service{config: c, pool: dovecot.Doveadm(c.Address.Network, c.Address.Address, c.QuotaRoot)}, nil
	case "policy":
		return &service{config: c, pool: dovecot.Policy(c.Address.Network, c.Address.Address)}, nil
	}
	p, err := c.place()
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case "mbox":
		return &mbox{c, p}, nil
	case "maildir", "maildirsize":
		return &maildir{config: c, place: p, now: a.now, counter: &counter{ignore: c.Ignore, now: a.now, counts: &a.counts, cache: newDirCache(maxCache)}}, nil
	}
	return &list{config: c, place: p, now: a.now}, nil
}

// place is where mailboxes lie. Everything is opened below root (openat2(2) with
// RESOLVE_BENEATH, or its like): no name and no link leads out of it.
type place struct{ root, rel string }

// within gives the root, and the name below it.
func (p *place) within(m mailbox) (root *os.Root, name string, err error) {
	name, ok := m.path(p.rel)
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	root, err = os.OpenRoot(p.root)
	if errors.Is(err, fs.ErrNotExist) { // not mounted: nothing about the mailbox
		err = fmt.Errorf("the folder root is missing: %s", p.root)
	}
	return root, name, err
}

// mbox is a file a mailbox, whose size counts.
type mbox struct {
	config *StoreConfig
	place
}

func (s *mbox) look(_ context.Context, m mailbox, _ int64) (wire.Answer, error) {
	root, name, err := s.within(m)
	if err == nil {
		defer func() { _ = root.Close() }()
		var info fs.FileInfo
		if info, err = root.Stat(name); err == nil {
			if !info.Mode().IsRegular() {
				return wire.Answer{}, fmt.Errorf("%s is not a file", name)
			}
			a := wire.NewAnswer(wire.Room)
			a.Used, a.Hard = info.Size(), s.config.limit()
			return a, nil
		}
	}
	return unknownIfAbsent(err)
}

// unknownIfAbsent makes of an error the answer for a mailbox that does not exist, if that is
// what it says: also if a file stands where the name has a folder.
func unknownIfAbsent(err error) (wire.Answer, error) {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) {
		return wire.NewAnswer(wire.Unknown), nil
	}
	return wire.Answer{}, err
}

// service is a Dovecot that is asked over one of its sockets.
type service struct {
	config *StoreConfig
	pool   *dovecot.Pool
}

func (s *service) look(ctx context.Context, m mailbox, size int64) (wire.Answer, error) {
	user := m.expand(s.config.User)
	if wire.CheckUser(user) != nil || strings.ContainsAny(user, "*?") { // doveadm takes these as a pattern
		return wire.NewAnswer(wire.Unknown), nil
	}
	return s.pool.Ask(ctx, user, size)
}

// program is a program that is run for each question.
type program struct{ config *StoreConfig }

const (
	maxOutput  = 4 << 10
	exitNoUser = 67 // EX_NOUSER, sysexits.h
	pipeTime   = 200 * time.Millisecond
)

func (s *program) look(ctx context.Context, m mailbox, _ int64) (wire.Answer, error) {
	user := m.expand(s.config.User)
	if !isElement(m.local) || (m.domain != "" && !isElement(m.domain)) || !isElement(user) {
		return wire.NewAnswer(wire.Unknown), nil
	}
	args := make([]string, len(s.config.Command))
	for i, arg := range s.config.Command {
		args[i] = m.expand(arg)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) // #nosec G204 -- of the configuration
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = group, pipeTime
	var out output
	cmd.Stdout = &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = group() // it left children that hold the pipe
	}
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return wire.Answer{}, ctx.Err()
	case errors.As(err, &ended) && ended.ExitCode() == exitNoUser:
		return wire.NewAnswer(wire.Unknown), nil
	case err != nil:
		return wire.Answer{}, fmt.Errorf("run %s: %w", args[0], err)
	}
	a, err := wire.ParseCGI(out.Bytes(), user)
	if err != nil {
		return wire.Answer{}, fmt.Errorf("the output of %s: %w", args[0], err)
	}
	return a, nil
}

// output keeps the beginning of what a program prints.
type output struct{ bytes.Buffer }

// Write keeps what there is space for, and is content with the rest.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	_, _ = o.Buffer.Write(p[:min(n, maxOutput-o.Len())])
	return n, nil
}
