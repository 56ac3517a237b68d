// Package host holds the ways to reach a host: a folder of this machine, commands
// through ssh or sudo, a bundle, a container image. Nothing is written there, not even
// access times where the kernel allows that, and no link is ever followed. What a host
// is made of isn't known here.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// Dir is a host whose root is a folder of this machine.
type Dir struct {
	name string // as it was given, for messages
	root *os.File
	skip map[string]bool // folders that are left out, relative to the root
	live bool            // the root is the running system's own
}

var _ snapshot.Host = (*Dir)(nil)

// Folder opens the host below root. The folders in skip, absolute paths of this
// machine such as the store, are left out as if they weren't there.
func Folder(root string, skip ...string) (*Dir, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("opening host %s: %w", root, err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	f, err := os.OpenFile(abs, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening host %s: %w", root, err)
	}
	// Extended attributes have no *at call before Linux 6.13: they go through here.
	if _, err := os.Stat(procFD(int(f.Fd()))); err != nil {
		f.Close()
		return nil, fmt.Errorf("opening host %s: /proc is needed to read extended attributes: %w", root, err)
	}
	d := &Dir{name: root, root: f, live: abs == "/", skip: map[string]bool{}}
	for _, s := range skip {
		if real, err := filepath.EvalSymlinks(s); err == nil {
			s = real
		}
		if rel, err := filepath.Rel(abs, s); err == nil && filepath.IsLocal(rel) && rel != "." {
			d.skip[rel] = true
		}
	}
	return d, nil
}

// Close releases the root.
func (d *Dir) Close() error { return d.root.Close() }

// Read implements snapshot.Host. Not even the folders on the way may be links.
func (d *Dir) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	at := parents{root: d.root}
	defer at.close()
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.readOne(&at, p, fn); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) readOne(at *parents, p string, fn func(string, io.Reader, error) error) error {
	f, err := d.open(at, p)
	if err != nil {
		return fn(p, nil, &fs.PathError{Op: "open", Path: "/" + p, Err: err})
	}
	defer f.Close()
	return fn(p, opened{f}, nil)
}

// opened is a file that tells whether it was written to.
type opened struct{ *os.File }

var _ snapshot.Stamped = opened{}

// Stamp implements snapshot.Stamped.
func (o opened) Stamp() (snapshot.Stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(o.Fd()), &st); err != nil {
		return snapshot.Stamp{}, err
	}
	return change(&st), nil
}

var errNotRegular = errors.New("not a regular file")

func (d *Dir) open(at *parents, p string) (*os.File, error) {
	dir, name := split(p)
	parent, err := at.open(dir)
	if err != nil {
		return nil, err
	}
	// A FIFO or a device must neither block nor act: NONBLOCK, then look.
	fd, err := openQuiet(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		if err == nil {
			err = errNotRegular
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), p), nil
}

// openQuiet opens without touching the access time, where we are the owner or
// root (open(2), O_NOATIME).
func openQuiet(parent int, name string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(parent, name, flags|unix.O_NOATIME, 0) })
	if err == unix.EPERM {
		fd, err = retry(func() (int, error) { return unix.Openat(parent, name, flags, 0) })
	}
	return fd, err
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// parents opens the folders that hold files, component by component and without
// following a link, which is stricter than os.Root; it keeps the last one open.
type parents struct {
	root *os.File
	dir  string
	fd   int
	held bool
}

func (p *parents) open(dir string) (int, error) {
	if dir == "." {
		return int(p.root.Fd()), nil
	}
	if p.held && p.dir == dir {
		return p.fd, nil
	}
	p.close()
	at, owned := int(p.root.Fd()), false
	for name := range strings.SplitSeq(dir, "/") {
		if name == "" || name == "." || name == ".." {
			return -1, unix.EINVAL
		}
		fd, err := retry(func() (int, error) {
			return unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if owned {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at, owned = fd, true
	}
	p.dir, p.fd, p.held = dir, at, true
	return at, nil
}

func (p *parents) close() {
	if p.held {
		unix.Close(p.fd)
		p.held = false
	}
}

// split cuts the last element off a path relative to the root.
func split(p string) (dir, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return ".", p
}
