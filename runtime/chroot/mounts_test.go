package chroot_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/chroot"
	"github.com/stead-env/stead/runtime/enginetest"
)

// files makes files below dir: "path: content", "path -> target" and "path/".
func files(t *testing.T, dir string, list ...string) {
	t.Helper()
	for _, line := range list {
		name, content, file := strings.Cut(line, ": ")
		from, target, link := strings.Cut(line, " -> ")
		var err error
		switch {
		case link:
			err = os.Symlink(target, filepath.Join(dir, from))
		case file:
			if err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err == nil {
				err = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
			}
		default:
			err = os.MkdirAll(filepath.Join(dir, line), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listing is the reverse of files, sorted.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		switch {
		case err != nil || rel == ".":
		case d.IsDir():
			list = append(list, rel+"/")
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(p)
			list = append(list, rel+" -> "+target)
		default:
			var data []byte
			data, err = os.ReadFile(p)
			list = append(list, rel+": "+string(data))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

func working(t *testing.T, root, scratch, project, script string) runtime.Spec {
	t.Helper()
	return runtime.Spec{Name: "acme@1", Root: root, Scratch: scratch, Dir: "/work", Umask: 0o022,
		Command: []string{"bash", "-c", script}, Env: []string{"PATH=/bin"},
		Mounts: []runtime.Mount{{Source: project, Target: "/work"}}}
}

func run(t *testing.T, spec runtime.Spec) runtime.Result {
	t.Helper()
	var errs bytes.Buffer
	res, err := chroot.New().Run(t.Context(), spec, runtime.Stdio{Err: &errs})
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("%q: %v, exit code %d\n%s", spec.Command, err, res.ExitCode, errs.String())
	}
	return res
}

// What a session changes in a project arrives there, and nothing else is touched.
func TestBringBack(t *testing.T) {
	if !confine(t) {
		return
	}
	root, project, git := enginetest.Root(t), t.TempDir(), t.TempDir()
	files(t, project, "same: 1", "changed: old", "removed: x", "dir/file: 2", "gone/a: 1", "gone/b/c: 1", "moved/x: 3", "moved/sub/y: 4",
		"one/f: one", "two/f: two", "link -> same", "became/file: x", "mode: m", ".git/", "touched: same")
	files(t, git, "HEAD: ref")
	past := time.Unix(1_000_000_000, 0)
	for _, name := range []string{"one/f", "two/f", "same", "touched"} { // equal size and time
		if err := os.Chtimes(filepath.Join(project, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	state := func(name string) [2]int64 {
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(project, name), &st); err != nil {
			t.Fatal(err)
		}
		return [2]int64{int64(st.Ino), st.Ctim.Nano()}
	}
	same, sub := state("same"), state("dir/file")
	spec := working(t, root, t.TempDir(), project, `set -e
		echo -n new >changed; rm removed; rm -r gone; mkdir made made/deep; echo -n n >made/deep/new
		ln -s there made/link; rm link; ln -s elsewhere link; chmod 755 mode; touch -d @1000000000 touched
		mv() { cp -a "$1" "$2"; rm -r "$1"; }
		echo x >.git/HEAD; rm -r became; echo -n file >became; mkdir -p /work/made/empty`)
	spec.Mounts = append(spec.Mounts, runtime.Mount{Source: git, Target: "/work/.git", ReadOnly: true})
	if res := run(t, spec); res.Changed != 0 {
		t.Errorf("%d files changed outside the mounts, want none", res.Changed)
	}
	want := "became: file\nchanged: new\ndir/\ndir/file: 2\nlink -> elsewhere\nmade/\nmade/deep/\nmade/deep/new: n\nmade/empty/\nmade/link -> there\n" +
		"mode: m\nmoved/\nmoved/sub/\nmoved/sub/y: 4\nmoved/x: 3\none/\none/f: one\nsame: 1\ntouched: same\ntwo/\ntwo/f: two"
	if got := strings.ReplaceAll(listing(t, project), ".git/\n", ""); got != want {
		t.Errorf("the project has\n%s\nwant\n%s", got, want)
	}
	if got := listing(t, git); got != "HEAD: ref" {
		t.Errorf("what was mounted read-only has %s", got)
	}
	if fi, err := os.Stat(filepath.Join(project, "mode")); err != nil || fi.Mode() != 0o755 {
		t.Errorf("mode: %v, %v", fi.Mode(), err)
	}
	if state("same") != same || state("dir/file") != sub {
		t.Error("a file that nobody changed was written")
	}
}

// Renamed folders take along files that look as if nothing had happened to them.
func TestBringBackRenamed(t *testing.T) {
	if !confine(t) {
		return
	}
	root, project := enginetest.Root(t), t.TempDir()
	files(t, project, "one/f: one", "two/f: two", "moved/sub/y: 4")
	run(t, working(t, withProgram(t, root, "mv"), t.TempDir(), project,
		"mv one three && mv two one && mv three two && mv moved went"))
	if got, want := listing(t, project), "one/\none/f: two\ntwo/\ntwo/f: one\nwent/\nwent/sub/\nwent/sub/y: 4"; got != want {
		t.Errorf("the project has\n%s\nwant\n%s", got, want)
	}
}

// withProgram adds a program that needs no library that isn't there.
func withProgram(t *testing.T, root, name string) string {
	t.Helper()
	data, err := os.ReadFile("/bin/" + name)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "bin", name), data, 0o755)
	}
	out, _ := exec.Command("ldd", "/bin/"+name).Output()
	for _, lib := range strings.Fields(string(out)) {
		if data, rerr := os.ReadFile(lib); rerr == nil && strings.HasPrefix(lib, "/") {
			os.MkdirAll(filepath.Dir(filepath.Join(root, lib)), 0o755)
			err = os.WriteFile(filepath.Join(root, lib), data, 0o755)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// What was changed outside while a session ran stays, and the session's is kept.
func TestConflicts(t *testing.T) {
	if !confine(t) {
		return
	}
	root, project := enginetest.Root(t), t.TempDir()
	files(t, project, "both: old", "removed-here: old", "removed-there: old", "dir/inner: old", "only-there: old", "dir2/x: old")
	spec := working(t, root, t.TempDir(), project, `
		echo -n inside >both; echo -n inside >made; rm removed-here; echo -n inside >removed-there; rm -r dir dir2; mkdir newdir; echo -n i >newdir/f
		echo ready; read line`)
	in, feed, _ := os.Pipe()
	out, ready, _ := os.Pipe()
	defer in.Close()
	var res runtime.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err = chroot.New().Run(t.Context(), spec, runtime.Stdio{In: in, Out: ready})
	}()
	out.Read(make([]byte, 16))
	files(t, project, "both: outside", "made: outside", "removed-here: outside", "dir/inner: outside", "only-there: new", "newdir: a file", "fresh: f")
	os.Remove(filepath.Join(project, "removed-there"))
	feed.Close()
	<-done
	if err != nil || res.ExitCode != 1 {
		t.Fatalf("%v, exit code %d", err, res.ExitCode)
	}
	want := "both.stead-conflict: inside\nboth: outside\ndir/\ndir/inner: outside\nfresh: f\nmade.stead-conflict: inside\nmade: outside\n" +
		"newdir.stead-conflict/\nnewdir.stead-conflict/f: i\nnewdir: a file\nonly-there: new\nremoved-here: outside\nremoved-there: inside"
	if got := listing(t, project); got != want {
		t.Errorf("the project has\n%s\nwant\n%s", got, want)
	}
	notes := strings.Join(res.Notes, "\n")
	for _, name := range []string{"both", "made", "removed-here", "dir/inner", "newdir"} {
		if !strings.Contains(notes, name+" was changed outside while the session") {
			t.Errorf("nothing is said of %s:\n%s", name, notes)
		}
	}
}

// A killed stead takes its session along, and the next one brings back what that
// changed: with and without the guard, which foreign code may kill.
func TestKilled(t *testing.T) {
	if !confine(t) {
		return
	}
	for _, guard := range []bool{true, false} {
		root, project, scratch := enginetest.Root(t), t.TempDir(), t.TempDir()
		files(t, project, "changed: old", "removed: x")
		spec := working(t, root, scratch, project,
			"trap '' TERM HUP; (setsid sleep 600 &); echo -n new >changed; rm removed; echo ready; while :; do sleep 600; done")
		spec.UID, spec.GID = 1234, 1234
		if err := os.Chmod(project, 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(filepath.Join(project, "changed"), 0o666)
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		self, _ := os.Executable()
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "ENGINETEST_SPEC="+string(text))
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 16))
		if !guard {
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
			for _, task := range tasks {
				more, _ := os.ReadFile(task)
				children = append(children, more...)
			}
			for _, pid := range strings.Fields(string(children)) {
				exec.Command("kill", "-KILL", pid, fmt.Sprint(cmd.Process.Pid)).Run()
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if err := chroot.New().Sweep(t.Context(), scratch); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, project); got != "changed: new" {
			t.Errorf("guard %v: the project has %q", guard, got)
		}
		if left, _ := os.ReadDir(scratch); len(left) != 0 {
			t.Errorf("guard %v: left: %v", guard, left)
		}
	}
	statuses, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, name := range statuses {
		text, _ := os.ReadFile(name)
		if bytes.Contains(text, []byte("\nUid:\t1234\t")) && !bytes.Contains(text, []byte("State:\tZ")) {
			t.Errorf("left: %s", text)
		}
	}
}

// Two ways out of a chroot that root has: changing the root once more, and what is
// still open from before.
func TestNoWayOut(t *testing.T) {
	if !confine(t) {
		return
	}
	const program = `#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
int main(int argc, char **argv) {
	int fd, i;
	for (fd = 3; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) != -1) printf("fd %d\n", fd);
	mkdir("/tmp/x", 0755);
	chroot("/tmp/x");
	for (i = 0; i < 100; i++) chdir("..");
	chroot(".");
	fd = open(argv[1], O_RDONLY);
	if (fd >= 0) printf("out\n");
	if (mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0)) == 0) printf("device\n");
	return 0;
}
`
	root, dir, secret := enginetest.Root(t), t.TempDir(), filepath.Join(t.TempDir(), "secret")
	files(t, dir, "out.c: "+program)
	files(t, filepath.Dir(secret), "secret: s")
	if out, err := exec.Command("gcc", "-static", "-o", filepath.Join(dir, "out"), filepath.Join(dir, "out.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	inherited, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	spec := working(t, root, t.TempDir(), dir, "")
	spec.Command = []string{"/work/out", secret}
	var out bytes.Buffer
	if res, err := chroot.New().Run(t.Context(), spec, runtime.Stdio{Out: &out}); err != nil || res.ExitCode != 0 || out.Len() > 0 {
		t.Errorf("%v, exit code %d: %q", err, res.ExitCode, out.String())
	}
}
