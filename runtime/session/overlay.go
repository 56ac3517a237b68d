package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// upperTries is how often a lock is tried for that somebody has for a moment only: what
// this process forks for another session has its descriptors until it executes something.
const upperTries = 100

// TakeUpper locks a kept upper folder for one session at a time. It returns nil where
// there is none.
func TakeUpper(upper string) (*os.File, error) {
	if upper == "" {
		return nil, nil
	}
	lock, err := TakeLock(filepath.Join(upper, "lock"))
	for range upperTries {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(5 * time.Millisecond)
		lock, err = TakeLock(filepath.Join(upper, "lock"))
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &runtime.Error{Op: "entering the session kept in " + upper, Code: runtime.CodeEngine,
			Err: errors.New("it is running already"), Remedy: "end it first, or start one under another name"}
	}
	return lock, err
}

// EscapeOption puts a backslash before the characters of set in a path, as overlay's
// options need it.
func EscapeOption(p, set string) string {
	var b strings.Builder
	for i := range len(p) {
		if strings.IndexByte(set, p[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// LikeRoot gives a new upper folder, which will be seen as /, the mode and owner of the
// root filesystem's own.
func LikeRoot(dir, root string) error {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return fmt.Errorf("reading %s: %w", root, err)
	}
	if err := os.Chown(dir, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(dir, st.Mode&0o7777)
}
