// Package store is this machine's store: blobs by digest, unpacked trees and
// root filesystems, all of which can be made again from a lock and its sources.
// Several processes use one store at once. It knows no package format and
// reaches no network.
package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// Store is a folder. Its layout:
//
//	blobs/sha256/HEX[.zst]   package files, deltas, indexes
//	trees/NAME/              one unpacked package: manifest, root/
//	roots/NAME/              one root filesystem: manifest, root/
//	layers/NAME/             tools for one root: manifest, root/, and what they are
//	kept/NAME/               a named session and what it changed, which nothing can make again
//	sole/                    names of the blobs that no archive and no remote is known to hold
//	cache/                   what saves reading something twice; never trusted alone
//	locks/                   one file for each item that is being made
//	work/                    what is being made; a killed process leaves only this
//
// Trees, roots and layers that an ordinary user made have the name of their id mapping as a
// suffix.
type Store struct {
	dir    string
	owners Owners

	mu   sync.Mutex
	work string       // this process's folder under work/, made when first needed
	hold *flock.Flock // tells others that the folder is in use
}

// Format is the version of this layout, for caches of it: what another version kept is of
// no use.
const Format = 1

// BlobsDir is the folder of the blobs in a store. They are checked when they are used,
// so whoever keeps a copy needs no trust.
const BlobsDir = "blobs"

// WideError says that others can reach into a store: it holds years-old setuid
// programs.
type WideError struct {
	Dir  string
	Mode fs.FileMode
}

func (e *WideError) Error() string {
	return fmt.Sprintf("opening store %s: its mode is %04o, so other users could run the old setuid programs in it",
		e.Dir, e.Mode.Perm())
}

// Hint says how to go on.
func (e *WideError) Hint() string { return "chmod 0700 " + e.Dir }

// OwnerError says that a store belongs to somebody else.
type OwnerError struct {
	Dir string
	UID uint32
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("opening store %s: it belongs to uid %d", e.Dir, e.UID)
}

// Hint says how to go on.
func (e *OwnerError) Hint() string { return "STEAD_STORE=FOLDER names one of your own" }

// Open opens the store at dir, making it where it isn't there, and clears what
// killed processes left.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, &WideError{Dir: dir, Mode: fi.Mode()}
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != uint32(os.Geteuid()) {
		return nil, &OwnerError{Dir: dir, UID: st.Uid}
	}
	s := &Store{dir: dir}
	if s.owners, err = ReadOwners(); err != nil {
		return nil, fmt.Errorf("opening store %s: %w", dir, err)
	}
	for _, sub := range []string{"blobs/sha256", "trees", "roots", "layers", "cache", "locks", "sole", "work"} {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("opening store: %w", err)
		}
	}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("clearing store %s: %w", dir, err)
	}
	return s, nil
}

// Dir is the folder of the store.
func (s *Store) Dir() string { return s.dir }

// Owners are the owners that this process's files in the store can have.
func (s *Store) Owners() Owners { return s.owners }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// Close removes this process's folder of unfinished work.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold == nil {
		return nil
	}
	err := removeAll(s.work)
	err = errors.Join(err, os.Remove(s.hold.Path()), s.hold.Unlock())
	s.work, s.hold = "", nil
	return err
}

// WorkDir makes a new folder, on the store's own file system, that belongs to
// this process and vanishes with it. The caller removes or renames it.
func (s *Store) WorkDir(kind string) (string, error) {
	work, err := s.workDir()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(work, kind+"-")
}

func (s *Store) workDir() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work != "" {
		return s.work, nil
	}
	var name [8]byte
	if _, err := rand.Read(name[:]); err != nil {
		return "", err
	}
	dir := s.path("work", hex.EncodeToString(name[:]))
	hold := flock.New(dir + ".lock")
	err := s.exclusive("work", func() error { // so that no sweep runs between the two
		if err := hold.Lock(); err != nil {
			return err
		}
		return os.Mkdir(dir, 0o700)
	})
	if err != nil {
		return "", fmt.Errorf("making a work folder in store %s: %w", s.dir, err)
	}
	s.work, s.hold = dir, hold
	return dir, nil
}

// sweep removes the work folders whose process is gone.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path("work"))
	if err != nil || len(entries) == 0 {
		return err
	}
	var dead []*flock.Flock
	err = s.exclusive("work", func() error {
		for _, e := range entries {
			name := s.path("work", e.Name())
			if strings.HasSuffix(name, ".lock") {
				if _, err := os.Lstat(strings.TrimSuffix(name, ".lock")); err == nil {
					continue // met under the folder's own name
				}
				name = strings.TrimSuffix(name, ".lock")
			}
			l := flock.New(name + ".lock")
			if ok, err := l.TryLock(); err == nil && ok {
				dead = append(dead, l)
			}
		}
		return nil
	})
	for _, l := range dead {
		gone := removeAll(strings.TrimSuffix(l.Path(), ".lock"))
		if errors.Is(gone, fs.ErrPermission) && !s.owners.Any() {
			err = errors.Join(err, l.Unlock()) // a process in a user namespace made it, and the next one clears it
			continue
		}
		err = errors.Join(err, gone)
		if e := os.Remove(l.Path()); !errors.Is(e, fs.ErrNotExist) { // or another one swept it, just before
			err = errors.Join(err, e)
		}
		err = errors.Join(err, l.Unlock())
	}
	return err
}

// exclusive runs fn under a lock of the whole store, for an instant.
func (s *Store) exclusive(name string, fn func() error) error {
	l := flock.New(s.path("locks", name+".lock"))
	if err := l.Lock(); err != nil {
		return err
	}
	defer l.Unlock() //nolint:errcheck // closing the descriptor releases it
	return fn()
}

// Lock waits until no other process works on the item and returns what releases
// it.
func (s *Store) Lock(ctx context.Context, kind, name string) (release func(), err error) {
	l := flock.New(s.path("locks", kind+"-"+name+".lock"))
	if _, err := l.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return nil, fmt.Errorf("waiting for %s %s: %w", kind, name, err)
	}
	return func() { l.Unlock() }, nil //nolint:errcheck // closing the descriptor releases it
}

// removeAll is os.RemoveAll for trees that hold folders without write permission,
// as an ordinary user meets them.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walk := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(walk, os.RemoveAll(dir))
}

// Remember keeps a line that saves work; it may be lost at any time.
func (s *Store) Remember(key, value string) error {
	dir, err := s.WorkDir("cache")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	tmp := filepath.Join(dir, "new")
	if err := os.WriteFile(tmp, []byte(remembered(key, value)+"\n"+value), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.path("cache", key))
}

// Recall returns what Remember kept.
func (s *Store) Recall(key string) (string, error) {
	data, err := os.ReadFile(s.path("cache", key))
	if err != nil {
		return "", err
	}
	sum, value, _ := strings.Cut(string(data), "\n")
	if sum != remembered(key, value) {
		return "", fmt.Errorf("reading %s of the cache: its sum is wrong", key)
	}
	return value, nil
}

// remembered is the sum of what Remember keeps: nobody syncs it.
func remembered(key, value string) string {
	sum := sha256.Sum256([]byte(key + "\x00" + value))
	return hex.EncodeToString(sum[:])
}
