package host

import (
	"context"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// Read implements snapshot.Host.
func (o *Overlay) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	at := overlayParents{o: o}
	defer at.close()
	below := parents{root: o.lower.root}
	defer below.close()
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := o.readOne(&at, &below, p, fn); err != nil {
			return err
		}
	}
	return nil
}

func (o *Overlay) readOne(at *overlayParents, below *parents, p string, fn func(string, io.Reader, error) error) error {
	f, stamp, err := o.open(at, below, p)
	if err != nil {
		return fn(p, nil, &fs.PathError{Op: "open", Path: "/" + p, Err: err})
	}
	defer f.Close()
	if stamp == (snapshot.Stamp{}) {
		return fn(p, opened{f}, nil)
	}
	return fn(p, same{f, stamp}, nil)
}

// open opens a file. stamp is zero for one of the upper folder, which can tell itself
// whether it was written to.
func (o *Overlay) open(at *overlayParents, below *parents, p string) (f *os.File, stamp snapshot.Stamp, err error) {
	if !snapshot.ValidPath(p) {
		return nil, stamp, unix.EINVAL
	}
	dir, name := split(p)
	if err := at.open(dir); err != nil {
		return nil, stamp, err
	}
	if at.upper != nil {
		st, k, err := o.look(int(at.upper.Fd()), name)
		switch {
		case err == unix.ENOENT: // below, then
		case err != nil:
			return nil, stamp, err
		case k == covers || o.made[p]:
			return nil, stamp, unix.ENOENT
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			return nil, stamp, errNotRegular
		default:
			fd, err := openQuiet(int(at.upper.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
			if err != nil {
				return nil, stamp, err
			}
			return os.NewFile(uintptr(fd), p), stamp, nil
		}
	}
	entry, _ := o.find(p)
	if !at.below || entry == nil {
		return nil, stamp, unix.ENOENT
	}
	if entry.Type != snapshot.Regular {
		return nil, stamp, errNotRegular
	}
	f, err = o.lower.open(below, p)
	return f, entry.Change, err
}

// lowerStamp stands for a content that never changes.
func lowerStamp(f *snapshot.File) (s snapshot.Stamp) {
	if sum, err := hex.DecodeString(f.Digest); err == nil {
		copy(s[:], sum)
	}
	return s
}

// overlayParents opens the folders that hold files, and keeps the last one open.
type overlayParents struct {
	o     *Overlay
	dir   string
	held  bool
	upper *os.File // nil where the upper folder has none
	below bool     // what lies below is seen through it
}

func (a *overlayParents) open(dir string) error {
	if a.held && a.dir == dir {
		return nil
	}
	a.close()
	upper, err := a.o.upper.root, error(nil)
	below, p := true, ""
	if dir == "." {
		dir = ""
	}
	for name := range strings.SplitSeq(dir, "/") {
		if name == "" {
			break
		}
		p = strings.TrimPrefix(p+"/"+name, "/")
		var next *os.File
		next, below, err = a.o.step(upper, below, name, p)
		if upper != nil && upper != a.o.upper.root {
			upper.Close()
		}
		if err != nil {
			return err
		}
		upper = next
	}
	if dir == "" {
		dir = "."
	}
	a.dir, a.upper, a.below, a.held = dir, upper, below, true
	return nil
}

// step goes one folder down.
func (o *Overlay) step(upper *os.File, below bool, name, p string) (*os.File, bool, error) {
	if below {
		entry, _ := o.find(p)
		below = entry != nil && entry.Type == snapshot.Dir
	}
	if upper != nil {
		st, k, err := o.look(int(upper.Fd()), name)
		switch {
		case err == unix.ENOENT: // below, then
		case err != nil:
			return nil, false, err
		case k == covers || o.made[p]:
			return nil, false, unix.ENOENT
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return nil, false, unix.ENOTDIR
		default:
			fd, err := openQuiet(int(upper.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
			if err != nil {
				return nil, false, err
			}
			return os.NewFile(uintptr(fd), p), below && k != alone, nil
		}
	}
	if !below {
		return nil, false, unix.ENOENT
	}
	return nil, true, nil
}

func (a *overlayParents) close() {
	if a.held && a.upper != nil && a.upper != a.o.upper.root {
		a.upper.Close()
	}
	a.held = false
}
