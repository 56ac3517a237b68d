package session

import (
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
		for f in doc/a doc/b doc/sub/c etc/conf etc/other lib/x lib/y; do echo $f >lower/$f; done`)
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
		n, err := Changed(os.DirFS(filepath.Join(dir, "upper")), []string{"run", "run/stead", "run/stead/point", "etc/mounted"}, filepath.Join(dir, "lower"))
		if err != nil || n != test.want {
			t.Errorf("%s: got %d %v, want %d", test.script, n, err, test.want)
		}
	}
}
