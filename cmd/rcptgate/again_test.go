// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A process of this name runs one command line of rcptgate after the other; see TestMain.
const againName = "rcptgate-again"

// again runs command lines in one process: to start one for each costs much more than what
// most of them do. Its zero value is ready; the process starts with the first command.
type again struct {
	mu    sync.Mutex
	dir   string   // where the process starts, and keeps what the commands print
	env   []string // its environment
	cmd   *exec.Cmd
	asks  io.WriteCloser
	codes *json.Decoder
}

// order is one command line, and the files that take its output.
type order struct {
	Dir, Stdout, Stderr string
	Args                []string
}

// run runs rcptgate in dir.
func (a *again) run(dir string, args ...string) (code int, stdout, stderr []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		if err := a.start(); err != nil {
			return 0, nil, nil, err
		}
	}
	o := order{dir, filepath.Join(a.dir, "stdout"), filepath.Join(a.dir, "stderr"), args}
	if err := json.NewEncoder(a.asks).Encode(o); err != nil {
		return 0, nil, nil, err
	}
	err = a.codes.Decode(&code)
	stdout, outErr := os.ReadFile(o.Stdout)
	stderr, errErr := os.ReadFile(o.Stderr)
	return code, stdout, stderr, errors.Join(err, outErr, errErr)
}

func (a *again) start() (err error) {
	a.cmd = exec.Command(againName)
	a.cmd.Dir, a.cmd.Env = a.dir, a.env
	if a.asks, err = a.cmd.StdinPipe(); err != nil {
		return err
	}
	codes, back, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = back.Close() }()
	a.codes, a.cmd.ExtraFiles = json.NewDecoder(codes), []*os.File{back}
	return a.cmd.Start()
}

// stop ends the process.
func (a *again) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd != nil && a.cmd.Process != nil {
		_ = a.asks.Close()
		_ = a.cmd.Wait()
	}
}

// againMain is that process. It reads orders, and writes exit codes to file descriptor 3.
func againMain() {
	orders, codes := json.NewDecoder(os.Stdin), os.NewFile(3, "codes")
	unix.CloseOnExec(3)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			return // the test has ended
		}
		code, err := o.obey()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Fprintln(codes, code)
	}
}

func (o *order) obey() (code int, err error) {
	if err := os.Chdir(o.Dir); err != nil {
		return 0, err
	}
	for i, name := range []string{o.Stdout, o.Stderr} {
		f, err := os.Create(name)
		if err != nil {
			return 0, err
		}
		if err := unix.Dup3(int(f.Fd()), i+1, 0); err != nil {
			return 0, err
		}
		_ = f.Close()
	}
	return run(context.Background(), units(), o.Args, os.Stdout, os.Stderr), nil
}
