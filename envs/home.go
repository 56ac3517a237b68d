package envs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/mitchellh/go-homedir"
)

// homeDir is the user's home folder, or what stands in for one.
func homeDir() (string, error) {
	if homeless() {
		return privateHome(os.TempDir(), os.Getuid())
	}
	home, err := homedir.Dir()
	if err != nil {
		return "", &HomeError{err}
	}
	return home, nil
}

// homeless reports whether nobody knows of a home: a CI container may run jobs under
// any number, which has no account there.
func homeless() bool {
	if os.Getenv("HOME") != "" {
		return false
	}
	id := strconv.Itoa(os.Getuid())
	passwd, err := readBounded("/etc/passwd", maxConfig)
	if err == nil && record(passwd, 2, id) != nil {
		return false
	}
	return record(getent(context.Background(), id), 2, id) == nil
}

// privateHome is a folder in a temporary one that is the user's alone.
func privateHome(temporary string, uid int) (string, error) {
	dir := filepath.Join(temporary, "stead-home-"+strconv.Itoa(uid))
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", &HomeError{err}
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", &HomeError{err}
	}
	// Everybody can make one there.
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != uid || info.Mode().Perm()&0o077 != 0 {
		return "", &HomeError{fmt.Errorf("%s isn't a folder of this user's alone", dir)}
	}
	return dir, nil
}

// HomeError says that nobody knows where the user's home folder is.
type HomeError struct{ err error }

func (e *HomeError) Error() string { return fmt.Sprintf("finding the home folder: %v", e.err) }

// Unwrap returns the cause.
func (e *HomeError) Unwrap() error { return e.err }

// Hint says how to go on.
func (e *HomeError) Hint() string { return "set HOME to a folder of this user's" }
