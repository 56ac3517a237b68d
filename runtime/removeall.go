package runtime

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// removeDepth is how far RemoveAll goes down with a descriptor for each level.
const removeDepth = 64

// RemoveAll is os.RemoveAll for what foreign code made: a tree may be deeper than
// descriptors and paths go. What lies too deep is moved to the top and removed
// there. Links are removed, never followed.
func RemoveAll(dir string) error {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	defer parent.Close()
	r := &remover{}
	if err := r.entry(parent, filepath.Base(dir), 0); err != nil {
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	return nil
}

// remover removes one tree.
type remover struct {
	top *os.File // nil above the tree
}

// entry removes one name of a folder, and what is in it.
func (r *remover) entry(in *os.File, name string, depth int) error {
	fd := int(in.Fd())
	wrap := func(err error) error { return &os.PathError{Op: "unlinkat", Path: name, Err: err} }
	err := unix.Unlinkat(fd, name, 0)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM, unix.EACCES: // a folder, perhaps
	default:
		return wrap(err)
	}
	switch dirErr := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); dirErr {
	case nil, unix.ENOENT:
		return nil
	case unix.ENOTEMPTY, unix.EEXIST:
	case unix.ENOTDIR:
		return wrap(err)
	default:
		return wrap(dirErr)
	}
	if depth >= removeDepth && unix.Renameat(fd, name, int(r.top.Fd()), "deep-"+rand.Text()) == nil {
		return nil // its turn comes in the next pass through the top
	}
	dir, err := openFolder(fd, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if r.top == nil {
		r.top = dir
	}
	if err := r.clear(dir, depth+1); err != nil {
		return err
	}
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return wrap(err)
	}
	return nil
}

// clear removes what is in a folder. Another pass finds what was moved there, and
// what a file system left out because the folder changed while it was read.
func (r *remover) clear(dir *os.File, depth int) error {
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		var first error
		empty := true
		for {
			names, err := dir.Readdirnames(512)
			for _, name := range names {
				empty = false
				if err := r.entry(dir, name, depth); err != nil && first == nil {
					first = err // the others can go
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		if first != nil || empty {
			return first
		}
	}
}

func openFolder(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "openat", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
