package envs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whoever has no home gets a folder that nobody else could have made.
func TestPrivateHome(t *testing.T) {
	dir, uid := t.TempDir(), os.Getuid()
	for range 2 {
		home, err := privateHome(dir, uid)
		info, serr := os.Stat(home)
		if err != nil || serr != nil || filepath.Dir(home) != dir || info.Mode().Perm() != 0o700 {
			t.Fatalf("got %s, %v, %v", home, err, serr)
		}
	}
	home, err := privateHome(dir, uid)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := privateHome(dir, uid); !errors.As(err, new(*HomeError)) {
			t.Errorf("%s: got %s, %v", what, got, err)
		}
	}
	refused("open to others", os.Chmod(home, 0o755))
	refused("a file", errors.Join(os.Remove(home), os.WriteFile(home, nil, 0o600)))
	refused("a link", errors.Join(os.Remove(home), os.Symlink(t.TempDir(), home)))
	if uid == 0 {
		refused("another user's", errors.Join(os.Remove(home), os.Mkdir(home, 0o700), os.Chown(home, 1234, 1234)))
	}
	if _, err := privateHome(filepath.Join(dir, "nowhere"), uid); !errors.As(err, new(*HomeError)) {
		t.Errorf("got %v", err)
	}
	if t.Setenv("HOME", "/somewhere"); homeless() {
		t.Error("HOME doesn't count")
	}
	if t.Setenv("HOME", ""); homeless() {
		t.Error("an account doesn't count")
	}
}
