// Package session is what engines share of a session on this machine: a folder with
// a lock, an anchor whose end is the end of all its processes, signals, streams, a
// terminal, cgroups, and what this program does when a session starts it again. It
// starts no session itself.
package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// A session is a folder of this prefix and a lock file beside it.
const (
	Prefix     = "stead-session-"
	lockSuffix = ".lock"
)

// Folder is a session's own folder. The session's name on this machine is the
// folder's: that of its cgroup or container too.
type Folder struct {
	ID   string
	Dir  string
	lock *os.File // held while the session lives
}

// NewFolder makes a folder in scratch, with subfolders of those names. Its lock
// file exists and is locked before the folder does, so that Sweep never meets a
// living session without a lock.
func NewFolder(scratch string, subfolders ...string) (*Folder, error) {
	return NewFolderPrefix(Prefix, scratch, subfolders...)
}

// NewFolderPrefix makes a folder of another prefix, which only SweepPrefix with
// the same clears: for an engine that has more to do than to remove it.
func NewFolderPrefix(prefix, scratch string, subfolders ...string) (*Folder, error) {
	f := &Folder{ID: prefix + strings.ToLower(rand.Text()[:16])}
	f.Dir = filepath.Join(scratch, f.ID)
	var err error
	if f.lock, err = TakeLock(f.Dir + lockSuffix); err != nil {
		return nil, err
	}
	for _, name := range append([]string{""}, subfolders...) {
		if err := os.Mkdir(f.Path(name), 0o700); err != nil {
			return nil, errors.Join(err, f.Remove(nil))
		}
	}
	return f, nil
}

// Path is the path of a file in the folder.
func (f *Folder) Path(name string) string { return filepath.Join(f.Dir, name) }

// Remove removes the folder, and by clear, which may be nil, what the engine has
// elsewhere under the session's name. Its processes are gone.
func (f *Folder) Remove(clear func(id string) error) error {
	defer f.lock.Close()
	return remove(f.Dir, clear)
}

// Leave leaves the folder to the next Sweep.
func (f *Folder) Leave() error { return f.lock.Close() }

// remove clears a session of which the lock is held. What the engine can't clear
// stays for the next time.
func remove(dir string, clear func(id string) error) error {
	var err error
	if clear != nil {
		err = clear(filepath.Base(dir))
	}
	if err == nil {
		err = removeAll(dir)
	}
	if err != nil {
		return fmt.Errorf("clearing the session %s: %w", dir, err)
	}
	return os.Remove(dir + lockSuffix)
}

// removeAll removes a folder, what it has side by side: to remove even an empty one
// takes a disk's file system long.
func removeAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var parts errgroup.Group
	parts.SetLimit(4)
	for _, entry := range entries {
		parts.Go(func() error { return runtime.RemoveAll(filepath.Join(dir, entry.Name())) })
	}
	if err := parts.Wait(); err != nil {
		return err
	}
	return runtime.RemoveAll(dir)
}

// Sweep removes the folders in scratch of sessions whose process is gone.
func Sweep(ctx context.Context, scratch string, clear func(id string) error) error {
	return SweepPrefix(ctx, Prefix, scratch, clear)
}

// SweepPrefix is Sweep for folders of NewFolderPrefix.
func SweepPrefix(ctx context.Context, prefix, scratch string, clear func(id string) error) error {
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
		lock, err := TakeLock(path)
		if err != nil {
			continue // it lives
		}
		errs = append(errs, remove(strings.TrimSuffix(path, lockSuffix), clear))
		lock.Close()
	}
	return errors.Join(errs...)
}

// TakeLock makes and locks a file, or returns EWOULDBLOCK where another process
// has it. A file that was removed before it was locked is made again.
func TakeLock(path string) (*os.File, error) {
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
