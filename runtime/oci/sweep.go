package oci

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// A session is a folder of this prefix and a lock file beside it.
const (
	prefix     = "stead-session-"
	lockSuffix = ".lock"
)

// takeLock makes and locks a file, or returns EWOULDBLOCK where another process
// has it. A file that was removed before it was locked is made again.
func takeLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return f, nil
		}
		f.Close()
	}
}

// clear removes all that the session had. Its processes are gone.
func (s *session) clear() error {
	if s.anchor != nil {
		s.anchor.wait()
	}
	if s.changes != nil {
		s.changes.Close()
	}
	if s.kept != nil {
		s.kept.Close()
	}
	err := remove(s.dir)
	s.lock.Close()
	return err
}

// remove clears a session of which the lock is held.
func remove(dir string) error {
	err := errors.Join(removeCgroup(filepath.Base(dir)), os.RemoveAll(dir))
	if err != nil {
		return fmt.Errorf("clearing the session %s: %w", dir, err)
	}
	return os.Remove(dir + lockSuffix)
}

// Sweep clears the sessions in scratch whose process is gone.
func (e *Engine) Sweep(ctx context.Context, scratch string) error {
	entries, err := os.ReadDir(scratch)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var errs []error
	for _, entry := range entries {
		name := entry.Name()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !strings.HasPrefix(name, prefix) || !strings.HasSuffix(name, lockSuffix) {
			continue
		}
		path := filepath.Join(scratch, name)
		lock, err := takeLock(path)
		if err != nil {
			continue // it lives
		}
		errs = append(errs, remove(strings.TrimSuffix(path, lockSuffix)))
		lock.Close()
	}
	sweepCgroups()
	return errors.Join(errs...)
}

// changed counts the files in the upper folder that the session put there, and
// the whiteouts for those it removed.
func (s *session) changed() (int, error) {
	made := map[string]bool{}
	for _, p := range s.made {
		made[p] = true
	}
	n := 0
	err := fs.WalkDir(s.changes.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case made[p] && d.IsDir():
			return fs.SkipDir
		case !d.IsDir() && !made[p]:
			n++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("counting what the session changed: %w", err)
	}
	return n, nil
}

// failure is what the runtime logged about a session that it could not start, or
// nil where it logged no error.
func (s *session) failure() error {
	f, err := os.Open(s.path("log"))
	if err != nil {
		return nil
	}
	defer f.Close()
	text := ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			text = entry.Msg
		}
	}
	if text == "" {
		return nil
	}
	code := runtime.CodeEngine
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory") &&
		strings.Contains(text, "exec"):
		code = runtime.CodeNotFound
	case strings.Contains(text, "exec") && (strings.Contains(text, "permission denied") ||
		strings.Contains(text, "exec format error")):
		code = runtime.CodeNotExecutable
	}
	return &runtime.Error{Op: "starting the command", Code: code, Err: errors.New(text)}
}
