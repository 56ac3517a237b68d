package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

const (
	maxDepth = 400  // a descriptor is held for each level
	batch    = 1024 // names read from a folder at a time
)

// Files implements snapshot.Host. A folder that turns out to be unreadable after
// it was reported comes a second time, with err set.
func (d *Dir) Files(ctx context.Context, dir string, fn func(snapshot.File, error) error) error {
	w := &walk{ctx: ctx, dir: d, fn: fn, begun: time.Now(), links: newLinker(), buf: make([]byte, 64<<10)}
	if dir == "." {
		return w.root()
	}
	at := parents{root: d.root}
	defer at.close()
	up, name := split(dir)
	parent, err := at.open(up)
	if absent(err) {
		return nil
	}
	if err != nil {
		return fn(snapshot.File{Path: dir}, fmt.Errorf("reading /%s: %w", up, err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(parent, &st); err != nil {
		return fmt.Errorf("reading /%s: %w", up, err)
	}
	err = w.visit(parent, procFD(parent)+"/", name, dir, st.Dev, strings.Count(dir, "/"))
	if err == fs.SkipDir {
		return nil
	}
	return err
}

// absent tells the errors of a path that isn't there, or whose parent is no
// folder (any more).
func absent(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
}

type walk struct {
	ctx   context.Context
	begun time.Time
	dir   *Dir
	fn    func(snapshot.File, error) error
	links *linker
	buf   []byte
}

func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (w *walk) root() error {
	fd, err := openQuiet(int(w.dir.root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("reading host %s: %w", w.dir.name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return fmt.Errorf("reading host %s: %w", w.dir.name, err)
	}
	return w.enter(fd, w.file(".", &st), st.Dev, 0)
}

// visit reports one name of the folder open at parent, and what is below it.
func (w *walk) visit(parent int, proc, name, path string, dev uint64, depth int) error {
	if w.dir.skip[path] {
		return nil
	}
	var st unix.Stat_t
	_, err := retry(func() (int, error) {
		return 0, unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	})
	if absent(err) {
		return nil
	}
	if err != nil {
		return w.report(snapshot.File{Path: path}, err)
	}
	f := w.file(path, &st)
	switch f.Type {
	case snapshot.Symlink:
		f.Target, err = readlink(parent, name)
		if err == unix.ENOENT {
			return nil
		}
		return w.report(f, err)
	case snapshot.Dir:
		return w.folder(parent, name, f, &st, dev, depth)
	}
	f.Xattrs, err = xattrs(w.buf, func(b []byte) (int, error) { return unix.Llistxattr(proc+name, b) },
		func(attr string, b []byte) (int, error) { return unix.Lgetxattr(proc+name, attr, b) })
	if err == unix.ENOENT {
		return nil
	}
	return w.report(f, err)
}

// folder opens and enters a folder, unless another kind of file system begins
// there; a trigger of autofs is recognized without setting it off.
func (w *walk) folder(parent int, name string, f snapshot.File, st *unix.Stat_t, dev uint64, depth int) error {
	if depth >= maxDepth {
		return w.report(f, fmt.Errorf("more than %d folders deep", maxDepth))
	}
	if st.Dev != dev {
		foreign, err := isForeign(parent, name, f.Path)
		if err != nil || foreign {
			return w.report(f, err)
		}
	}
	fd, err := openQuiet(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if absent(err) {
		return nil
	}
	if err != nil {
		return w.report(f, err)
	}
	return w.enter(fd, f, st.Dev, depth)
}

// enter reports the folder open at fd and its content, and closes fd.
func (w *walk) enter(fd int, f snapshot.File, dev uint64, depth int) error {
	file := os.NewFile(uintptr(fd), f.Path)
	defer file.Close()
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var err error
	f.Xattrs, err = xattrs(w.buf, func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(attr string, b []byte) (int, error) { return unix.Fgetxattr(fd, attr, b) })
	if err := w.report(f, err); err != nil {
		if err == fs.SkipDir {
			return nil
		}
		return err
	}
	prefix, proc := f.Path+"/", procFD(fd)+"/"
	if f.Path == "." {
		prefix = ""
	}
	for {
		names, err := file.Readdirnames(batch)
		slices.Sort(names)
		for _, name := range names {
			err := w.visit(fd, proc, name, prefix+name, dev, depth+1)
			if err != nil && err != fs.SkipDir {
				return err
			}
		}
		switch {
		case err == io.EOF || errors.Is(err, unix.ENOENT):
			return nil
		case err != nil:
			return w.report(f, err)
		}
	}
}

func (w *walk) report(f snapshot.File, err error) error {
	if err != nil {
		err = &fs.PathError{Op: "read", Path: "/" + f.Path, Err: err}
	}
	return w.fn(f, err)
}

var types = map[uint32]snapshot.Type{
	unix.S_IFREG: snapshot.Regular, unix.S_IFDIR: snapshot.Dir, unix.S_IFLNK: snapshot.Symlink,
	unix.S_IFIFO: snapshot.FIFO, unix.S_IFSOCK: snapshot.Socket,
	unix.S_IFCHR: snapshot.Char, unix.S_IFBLK: snapshot.Block,
}

func (w *walk) file(path string, st *unix.Stat_t) snapshot.File {
	f := snapshot.File{Path: path, Type: types[st.Mode&unix.S_IFMT], Mode: st.Mode & 0o7777,
		UID: st.Uid, GID: st.Gid,
		MTime: st.Mtim.Sec} // tv_nsec counts up from it, so this is the floor before 1970 too
	// Where a file system counts whole seconds, a file that was written to just now can be
	// written to again without a trace.
	if st.Ctim.Nsec != 0 || w.begun.Sub(time.Unix(st.Ctim.Sec, 0)) > 2*time.Second {
		f.Change = change(st)
	}
	if f.Type == snapshot.Regular {
		f.Size = st.Size
		if st.Nlink > 1 {
			f.Link = w.links.group(path, inode{st.Dev, st.Ino}, uint64(st.Nlink))
		}
	}
	return f
}

// change is what must stay the same for a file to count as unread since.
func change(st *unix.Stat_t) snapshot.Stamp {
	return stamp(inode{st.Dev, st.Ino}, st.Size, [2]int64{st.Mtim.Sec, st.Mtim.Nsec}, [2]int64{st.Ctim.Sec, st.Ctim.Nsec})
}

func readlink(parent int, name string) (string, error) {
	b := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(parent, name, b)
		if err != nil {
			return "", err
		}
		if n < len(b) {
			return string(b[:n]), nil
		}
		b = make([]byte, 2*len(b))
	}
}
