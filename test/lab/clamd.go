// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// ClamdSignature is the name under which the lab's clamd finds the EICAR test file.
const ClamdSignature = "Lab.Eicar.UNOFFICIAL"

// Eicar is the EICAR test file, made of two halves so that no file of the repository is one.
func Eicar() string {
	tail := []byte("*H+H$!ELIF-TSET-SURIVITNA-DRADNATS")
	slices.Reverse(tail)
	return `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-` + string(tail)
}

// ClamdOptions says how a virus scanner is configured.
type ClamdOptions struct {
	// Name is used in messages; default "clamd".
	Name string
	// Conf are further lines of clamd.conf, which come after the lab's own.
	Conf string
}

// A Clamd is a running ClamAV daemon that knows one signature: a fragment of the EICAR test
// file. No official signatures are fetched.
type Clamd struct {
	*Process
	// Socket is its unix socket, Port its TCP port on 127.0.0.1.
	Socket string
	Port   int

	t    testing.TB
	opts ClamdOptions
	dir  string
}

const clamdConf = `DatabaseDirectory %[1]s/db
LocalSocket %[2]s
TCPAddr 127.0.0.1
TCPSocket %[3]d
TemporaryDirectory %[1]s/tmp
Foreground yes
User root
LogFile %[1]s/clamd.log
LogTime yes
MaxThreads 4
SelfCheck 0
%[4]s
`

// StartClamd starts a scanner.
func StartClamd(t testing.TB, o ClamdOptions) *Clamd {
	t.Helper()
	Need(t, ClamavKit)
	if o.Name == "" {
		o.Name = "clamd"
	}
	dir := NewDir(t, o.Name)
	c := &Clamd{Socket: filepath.Join(dir, "clamd.ctl"), Port: FreePort(t), t: t, opts: o, dir: dir}
	for _, sub := range []string{"db", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.Signatures(true)
	c.Configure(o.Conf)
	c.Start()
	return c
}

// Configure replaces the further lines of clamd.conf; they hold from the next start.
func (c *Clamd) Configure(conf string) {
	c.t.Helper()
	write(c.t, c.dir, "clamd.conf", fmt.Sprintf(clamdConf, c.dir, c.Socket, c.Port, conf))
}

// Signatures has the database know the test file, or something else only. It holds from the
// next start or Reload.
func (c *Clamd) Signatures(eicar bool) {
	c.t.Helper()
	name, fragment := "Lab.Eicar", Eicar()[30:60]
	if !eicar {
		name, fragment = "Lab.Other", "nothing that is ever sent by this lab"
	}
	write(c.t, c.dir, "db/test.ndb", name+":0:*:"+hex.EncodeToString([]byte(fragment))+"\n")
}

// Start starts a scanner that has ended, on the same sockets.
func (c *Clamd) Start() {
	c.t.Helper()
	_ = os.Remove(c.Socket) // a killed one leaves it
	cmd := exec.Command(ClamavKit.Path("usr/sbin/clamd"), "-c", filepath.Join(c.dir, "clamd.conf"))
	cmd.Env = ClamavKit.environment()
	c.Process = Start(c.t, c.opts.Name, c.dir, cmd)
	c.WaitFor(c.t, func() error {
		if reply, err := c.Say("PING", time.Minute); err != nil || reply != "PONG" {
			return fmt.Errorf("PING: %q, %w", reply, err)
		}
		return nil
	})
}

// Say sends a command and gives the answer.
func (c *Clamd) Say(command string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // nothing is pending
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write([]byte("z" + command + "\x00")); err != nil {
		return "", err
	}
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	return strings.TrimRight(string(buf[:n]), "\x00"), err
}

// Reload has the scanner read its signatures again.
func (c *Clamd) Reload() {
	c.t.Helper()
	if reply, err := c.Say("RELOAD", time.Minute); err != nil || reply != "RELOADING" {
		c.t.Errorf("RELOAD: %q, %v", reply, err)
	}
}
