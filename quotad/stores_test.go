// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcptgate/check/quota/wire"
)

func TestMbox(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "mail")
	put(t, filepath.Join(root, "ann"), strings.Repeat("x", 1000))
	put(t, filepath.Join(root, "full"), strings.Repeat("x", 2049))
	put(t, filepath.Join(root, ".hidden"), "x")
	put(t, filepath.Join(root, "-n"), "x")
	put(t, filepath.Join(dir, "secret"), "x")
	for name, target := range map[string]string{"out": "../secret", "absolute": filepath.Join(dir, "secret"), "inside": "ann", "gone": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, _, log := open(t, section("mbox", root, root+"/{local}", `limit = "2KB"`))
	says(t, one(a, "ann"), wire.Room, 1000, 2048)
	says(t, one(a, "ANN@Example.ORG"), wire.Room, 1000, 2048)
	says(t, one(a, "full"), wire.Full, 2049, 2048)
	says(t, one(a, "inside"), wire.Room, 1000, 2048)
	for _, name := range []string{"bob", "gone", "../secret", "..", ".", ".hidden", "-n", "a/b", "", "@", "ann@", "@example.org", strings.Repeat("a", 256), "a\x00b", "a\nb", "ann\r\n", "%2e%2e"} {
		says(t, one(a, name), wire.Unknown, wire.NotKnown, wire.NotKnown)
	}
	if log.String() != "" {
		t.Errorf("logged about names that have no mailbox:\n%s", log)
	}
	for _, name := range []string{"out", "absolute", "folder", "pipe"} {
		if got := one(a, name); got.State != wire.Error || got.Why != whyStore {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if !strings.Contains(log.String(), "escapes") {
		t.Errorf("nobody hears of a link that leads out:\n%s", log)
	}
}

// A message that does not fit is full for its size, and others fit. Grace is for the last
// message below the limit.
func TestSizes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, filepath.Join(root, "ann"), strings.Repeat("x", 900))
	put(t, filepath.Join(root, "brim"), strings.Repeat("x", 1024))
	ask := func(a *Agent, user string, size int64) wire.State {
		return a.Ask(context.Background(), user, size).State
	}
	a, _, _ := open(t, section("mbox", root, "{local}", `limit = "1KB"`))
	for size, want := range map[int64]wire.State{0: wire.Room, 124: wire.Room, 125: wire.Full, 1 << 62: wire.Full} {
		if got := ask(a, "ann", size); got != want {
			t.Errorf("size %d: %v", size, got)
		}
	}
	if got := ask(a, "brim", 0); got != wire.Full {
		t.Errorf("at its limit: %v", got)
	}
	if got := plainly(one(a, "brim")); got.State != wire.Room { // size > quota, as the CGI has it
		t.Errorf("at its limit, plainly: %v", got)
	}
	a, _, _ = open(t, section("mbox", root, "{local}", "limit = \"1KB\"\ngrace = \"1KB\""))
	for size, want := range map[int64]wire.State{124: wire.Room, 1148: wire.Room, 1149: wire.Full} {
		if got := ask(a, "ann", size); got != want {
			t.Errorf("size %d with grace: %v", size, got)
		}
	}
	if got := ask(a, "brim", 0); got != wire.Full {
		t.Errorf("at its limit, grace is over: %v", got)
	}
	a, _, _ = open(t, section("mbox", root, "{local}", ""))
	says(t, a.Ask(context.Background(), "ann", 1<<60), wire.Room, 900, wire.NotKnown)
}

// A store without a limit says how much is used, and leaves the limit to whoever knows it; a
// limit of 0 is none.
func TestNoLimit(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, filepath.Join(root, "mbox"), "12345")
	box(t, filepath.Join(root, "maildir"), 2)
	put(t, filepath.Join(root, "maildir/maildirsize"), "\n200 2\n")
	for kind, used := range map[string]int64{"mbox": 5, "maildir": 200, "maildirsize": 200} {
		name := strings.TrimSuffix(kind, "size")
		for config, want := range map[string]int64{"": wire.NotKnown, `limit = "0B"`: 0, `limit = "7KB"`: 7 << 10} {
			a, _, _ := open(t, section(kind, root, name, config))
			got := one(a, "ann")
			says(t, got, wire.Room, used, want)
			if json := string(wire.AppendJSON(nil, "ann", &got)); strings.Contains(json, `"hard"`) != (want >= 0) {
				t.Errorf("%s %s: %s", kind, config, json)
			}
		}
	}
}

// An answer is kept for a second, and no longer.
func TestAnswersAreKeptForASecond(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, filepath.Join(root, "ann"), "12345")
	a, at, _ := open(t, section("mbox", root, "{local}", ""))
	says(t, one(a, "ann"), wire.Room, 5, wire.NotKnown)
	put(t, filepath.Join(root, "ann"), "1234567")
	at.add(999 * time.Millisecond)
	says(t, one(a, "ann"), wire.Room, 5, wire.NotKnown)
	at.add(time.Millisecond)
	says(t, one(a, "ann"), wire.Room, 7, wire.NotKnown)
}

func TestStoresByDomain(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, filepath.Join(root, "a/ann"), "1")
	put(t, filepath.Join(root, "b/ann"), "22")
	a, _, _ := open(t, section("mbox", root, "a/{local}", `domains = ["example.org", "Example.net"]`)+section("mbox", root, "b/{local}", `domains = ["example.com"]`))
	for user, used := range map[string]int64{"ann@example.org": 1, "ann@EXAMPLE.NET": 1, "ann@example.com": 2, "ann@sub.example.org": -1, "ann": -1} {
		if got := one(a, user); got.Used != used {
			t.Errorf("%s: %+v", user, got)
		}
	}
	a, _, _ = open(t, section("mbox", root, "a/{local}", "fold = false"))
	says(t, one(a, "Ann"), wire.Unknown, -1, -1)
}

const csv = `User,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace
root,ok,ok,18308880,0,0,,274759,0,0,
ann,ok,ok,100,1000,2000,,10,0,0,
bob,soft,ok,1500,1000,2000,6days,10,0,0,
carl,soft,ok,1500,1000,2000,none,10,0,0,
dora,ok,soft,1,0,0,,1000,500,1000,
#1005,ok,ok,500,0,0,,5,0,0,
`

func TestList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "quotas.csv")
	put(t, name, csv)
	a, at, log := open(t, "[[store]]\ntype = \"file\"\npath = \""+name+"\"\nuser = \"{local}\"\n")
	says(t, one(a, "root"), wire.Room, 18308880<<10, 0)
	says(t, one(a, "ann@example.org"), wire.Room, 100<<10, 2000<<10)
	says(t, one(a, "bob"), wire.Room, 1500<<10, 2000<<10)
	says(t, one(a, "carl"), wire.Full, 1500<<10, 1000<<10) // the grace of the soft limit is over
	says(t, one(a, "dora"), wire.Full, 1<<10, 0)           // no inode left
	says(t, one(a, "nobody"), wire.Unknown, -1, -1)

	// Another file in its place is followed; simple lines are known by themselves.
	put(t, name+".new", "# octets\nann 10 20\nBob@example.org 30 20 15\n\ncut 1 2")
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	at.add(time.Minute)
	if got := one(a, "ann"); got.State != wire.Room || got.Used != 10 || got.Hard != 20 || got.Age < 50*time.Second {
		t.Errorf("%+v", got)
	}
	says(t, one(a, "cut"), wire.Unknown, -1, -1) // the last line is being written

	// A mistake makes all unknown, and is logged with its line.
	put(t, name, "ann 10 20\nann ten 20\n")
	at.add(time.Minute)
	if got := one(a, "ann"); got.State != wire.Error || !strings.Contains(log.String(), "line 2") {
		t.Errorf("%+v\n%s", got, log)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	at.add(time.Minute)
	if got := one(a, "ann"); got.State != wire.Error {
		t.Errorf("without the file: %+v", got)
	}
	for _, bad := range []string{"ann\n", "ann 1\n", "ann 1 2 3 4\n", "ann -1 2\n", "ann 1 x\n", "User,BlockUsed,X\n", csv + "x,ok\n", csv + "x,ok,ok,-1,0,0,,1,0,0,\n"} {
		if got, err := parseList([]byte(bad), true); err == nil {
			t.Errorf("%q was taken as %v", bad, got)
		}
	}
}

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "quota-of")
	put(t, name, "#!/bin/sh\n"+text+"\n")
	if err := os.Chmod(name, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestExec(t *testing.T) {
	t.Parallel()
	program := script(t, `case $1 in
ann@example.org) echo "OK $1 1234 209715200";;
bob) echo "OVERQUOTA $1 300000000 209715200";;
carl) exit 67;;
dora) echo "OK eve 1 2";;
eve) echo "segmentation fault";;
fred) echo "OK fred 1 2"; exit 1;;
gina) echo "OK gina  200";;
huge) head -c 1000000 /dev/zero;;
env) echo "OK env $(env | grep -c SECRET) 5";;
*) echo "OK $1 0 0";;
esac`)
	a, _, _ := open(t, "[[store]]\ntype = \"exec\"\ncommand = [\""+program+"\", \"{user}\"]\n")
	says(t, one(a, "ann@example.org"), wire.Room, 1234, 209715200)
	says(t, one(a, "bob"), wire.Full, 300000000, 209715200)
	says(t, one(a, "carl"), wire.Unknown, -1, -1)
	says(t, one(a, "nobody"), wire.Unknown, -1, -1)
	says(t, one(a, "gina"), wire.Room, -1, 200)
	for _, user := range []string{"dora", "eve", "fred", "huge"} {
		if got := one(a, user); got.State != wire.Error {
			t.Errorf("%s: %+v", user, got)
		}
	}
	for _, user := range []string{"-rf", "$(touch x)@-o", ".x", "a/b"} {
		says(t, one(a, user), wire.Unknown, -1, -1)
	}
	says(t, one(a, "$(reboot)"), wire.Unknown, -1, -1) // an argument, and no shell that reads it
	t.Run("environment", func(t *testing.T) {
		if got := one(a, "env"); got.Used != 0 && got.State != wire.Unknown {
			t.Errorf("the program sees our environment: %+v", got)
		}
	})
}

// A program that takes too long ends with its children.
func TestExecEndsWithItsGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := script(t, "sleep 600 & echo $! >"+dir+"/child; wait")
	a, _, _ := open(t, "[[store]]\ntype = \"exec\"\ncommand = [\""+program+"\"]\n")
	b := a.active.Load().stores[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := b.store.look(ctx, mailbox{user: "ann", local: "ann"}, 0)
		done <- err
	}()
	var pid int
	for begin := time.Now(); pid == 0; time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(filepath.Join(dir, "child"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		if time.Since(begin) > 30*time.Second {
			t.Fatal("the program does not start")
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	for begin := time.Now(); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("process %d is alive", pid)
		}
	}
}

// alive reports whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(text), ") Z ")
}
