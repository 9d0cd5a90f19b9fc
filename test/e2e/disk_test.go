// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// loopFile is a file system in a file, as root may have one.
type loopFile struct {
	t          testing.TB
	image, dir string
}

// newLoopFile mounts an ext4 at dir that becomes read-only with its first error, as Debian's file systems do. The test is
// skipped where that is not possible: in most containers.
func newLoopFile(t testing.TB, dir string) *loopFile {
	t.Helper()
	f := &loopFile{t, filepath.Join(lab.NewDir(t, "disk"), "image"), dir}
	if err := os.WriteFile(f.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(f.image, 32<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/mkfs.ext4", "-q", f.image).CombinedOutput(); err != nil {
		t.Skipf("no file system in a file: %v: %s", err, out)
	}
	if out, err := f.mount(); err != nil {
		t.Skipf("no file system can be mounted: %v: %s", err, out)
	}
	t.Cleanup(f.unmount)
	return f
}

func (f *loopFile) mount() ([]byte, error) {
	return exec.Command("/bin/mount", "-o", "loop,errors=remount-ro", f.image, f.dir).CombinedOutput()
}

func (f *loopFile) unmount() { _ = exec.Command("/bin/umount", "--lazy", f.dir).Run() }

// breaks has the kernel find an error on the file system, which makes it read-only under all who use it.
func (f *loopFile) breaks() {
	f.t.Helper()
	device, err := exec.Command("/bin/findmnt", "--noheadings", "--output", "SOURCE", f.dir).Output()
	if err != nil {
		f.t.Fatal(err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(string(bytes.TrimSpace(device))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("a test"), 0o200); err != nil {
		f.t.Skipf("this kernel cannot break a file system to order: %v", err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, "x"), nil, 0o600); err == nil {
		f.t.Fatal("the file system is not read-only")
	}
}

// The file system of the state directory becomes read-only under the running daemon: mail flows as before, the postmaster
// hears of it, and once the directory can be written to it is used again without a restart.
func TestStateBecomesReadOnly(t *testing.T) {
	lab.Need(t)
	sim := lab.StartScripted(t)
	g := lab.NewGate(t)
	disk := newLoopFile(t, filepath.Join(g.Dir, "state"))
	g.Configure(section("sim.test", "smtp:"+sim.Hop()))
	g.Run()
	s := open(t, cases.Bare(g, nil))
	expect(t, s, "before@sim.test", 250, "")
	g.MustCommand(0, "status")
	disk.breaks()
	expect(t, s, "after@sim.test", 250, "")
	expect(t, s, "before@sim.test", 250, "")
	expect(t, s, "nobody@sim.test", 550, "5.1.1")
	if !g.Logged(`level=warn msg="disk store unavailable`) {
		t.Error("the log does not say it")
	}
	if out := g.MustCommand(1, "status"); !strings.Contains(out, "attention      disk store unavailable") || !strings.Contains(out, "state          ready") {
		t.Errorf("status does not say it:\n%s", out)
	}
	if out := g.MustCommand(75, "cache", "forget", "before@sim.test"); !strings.Contains(out, "disk store is not available") {
		t.Errorf("forgetting does not say that the disk has not:\n%s", out)
	}
	sim.Forget()
	expect(t, s, "before@sim.test", 250, "")
	if sim.Asked("before@sim.test") == 0 {
		t.Error("what was forgotten was answered without the server")
	}

	disk.unmount() // the directory below it is empty, and can be written to
	within(t, told, "the state directory is used again", func() bool {
		_, _, code := g.Command("status")
		return code == 0
	})
	expect(t, s, "late@sim.test", 250, "")
	s.Close()
	g.Restart()
	sim.Forget()
	again := open(t, cases.Bare(g, nil))
	defer again.Close()
	expect(t, again, "late@sim.test", 250, "")
	if sim.Asked("late@sim.test") > 0 {
		t.Error("what was learnt afterwards is not on disk")
	}
}
