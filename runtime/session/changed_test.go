package session

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a session did to a real overlay is counted file by file.
func TestChanged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting an overlay needs root")
	}
	dir := t.TempDir()
	// An overlay can't lie on one, as in a container.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	shell := func(at, script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = at
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	shell(dir, `mkdir -p lower/doc/sub lower/etc lower/lib merged
		for f in doc/a doc/b doc/sub/c etc/conf etc/other lib/x lib/y; do echo $f >lower/$f; done
		ln -s /etc/conf lower/absolute; ln -s /nowhere/at/all lower/dangling; ln -s lib lower/folder`)
	for _, test := range []struct {
		script string
		want   int
	}{
		{"true", 0},
		{"echo >new; echo >>etc/conf; rm etc/other", 3},
		{"mkdir -p a/b/c; touch etc", 0},
		{"chmod 600 etc/conf; ln -s conf etc/link; mkfifo etc/pipe", 3},
		{"rm -r doc", 3},
		{"rm -r doc; mkdir doc; echo >doc/a", 3},
		{"rm -r lib; mkdir lib; echo >lib/x; echo >lib/y; echo >lib/z", 3},
		{"rm -r lib; echo >lib", 1},
		{"mv doc docs", 6},
		{"rm absolute dangling folder", 3},
		{"mkdir -p run/stead; echo >run/stead/point; echo >etc/mounted", 0},
	} {
		shell(dir, "rm -rf upper work; mkdir upper work")
		options := "lowerdir=" + filepath.Join(dir, "lower") + ",upperdir=" + filepath.Join(dir, "upper") + ",workdir=" + filepath.Join(dir, "work")
		if err := unix.Mount("overlay", filepath.Join(dir, "merged"), "overlay", 0, options); err != nil {
			t.Fatal(err)
		}
		shell(filepath.Join(dir, "merged"), test.script)
		if err := unix.Unmount(filepath.Join(dir, "merged"), 0); err != nil {
			t.Fatal(err)
		}
		upper, err := os.OpenRoot(filepath.Join(dir, "upper"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := Changed(upper, []string{"run", "run/stead", "run/stead/point", "etc/mounted"}, filepath.Join(dir, "lower"))
		upper.Close()
		if err != nil || n != test.want {
			t.Errorf("%s: got %d %v, want %d", test.script, n, err, test.want)
		}
	}
}

// What is too deep for paths and descriptors is counted as far as paths go.
func TestChangedDeep(t *testing.T) {
	if dir := os.Getenv("CHANGED"); dir != "" {
		upper, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		// A file at the top and in each of 2048 folders with a path below 4096 bytes, and the
		// next folder.
		if n, err := Changed(upper, nil, t.TempDir()); err != nil || n != 2050 {
			t.Errorf("got %d, %v", n, err)
		}
		return
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := 0; i < 5000 && err == nil; i++ {
		next := -1
		err = errors.Join(unix.Mknodat(at, "f", unix.S_IFREG|0o600, 0), unix.Mkdirat(at, "d", 0o700))
		if err == nil {
			next, err = unix.Openat(at, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		unix.Close(at)
		at = next
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(at)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n 50 && exec "$@"`, "sh", os.Args[0], "-test.run=^TestChangedDeep$")
	cmd.Env = append(os.Environ(), "CHANGED="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
