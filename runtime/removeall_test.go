package runtime

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// deep makes folders in dir, one in the other, each with a file and a link to outside.
func deep(t *testing.T, dir, outside string, levels int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := 0; i < levels && err == nil; i++ {
		next := -1
		err = errors.Join(unix.Mknodat(at, "file", unix.S_IFREG|0o600, 0), unix.Symlinkat(outside, at, "link"), unix.Mkdirat(at, "d", 0o700))
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
}

// A tree that is deeper than descriptors and paths go is removed, and nothing that
// it has links to.
func TestRemoveAll(t *testing.T) {
	if dir := os.Getenv("REMOVEALL"); dir != "" {
		if err := RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir, outside := filepath.Join(t.TempDir(), "dir"), t.TempDir()
	kept := filepath.Join(outside, "kept")
	if err := errors.Join(os.WriteFile(kept, nil, 0o600), os.MkdirAll(filepath.Join(dir, "other"), 0o700)); err != nil {
		t.Fatal(err)
	}
	deep(t, dir, outside, 6000)
	deep(t, filepath.Join(dir, "other"), outside, 200)
	for i := range 1500 {
		if err := os.WriteFile(filepath.Join(dir, "other", string(rune('一'+i))), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n 100 && exec "$@"`, "sh", self, "-test.run=^TestRemoveAll$")
	cmd.Env = append(os.Environ(), "REMOVEALL="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Lstat(kept); err != nil {
		t.Errorf("gone with it: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(outside, link), RemoveAll(filepath.Join(link, "none")), RemoveAll(link), RemoveAll(link)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(kept); err != nil {
		t.Errorf("gone with a link: %v", err)
	}
}

// What can't be removed is named, and the rest is gone.
func TestRemoveAllRest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("what root can't remove, only root can make")
	}
	dir := filepath.Join(t.TempDir(), "dir")
	point := filepath.Join(dir, "a", "point")
	if err := errors.Join(os.MkdirAll(point, 0o700), os.WriteFile(filepath.Join(dir, "a", "file"), nil, 0), os.MkdirAll(filepath.Join(dir, "z", "z"), 0)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting: %v", err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)
	if err := RemoveAll(dir); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v, want EBUSY", err)
	}
	entries, err := os.ReadDir(dir)
	inner, innerErr := os.ReadDir(filepath.Join(dir, "a"))
	if err != nil || innerErr != nil || len(entries) != 1 || len(inner) != 1 {
		t.Errorf("left: %v %v, %v %v", entries, err, inner, innerErr)
	}
}
