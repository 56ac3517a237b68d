package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// copier copies one tree into the private root, with owners, modes, times, extended
// attributes, holes and hard links, several folders at once. Contents are shared
// by reflinks where the file system can; nothing else is ever shared.
type copier struct {
	to     string          // the private root
	record *record         // what is written down of it
	base   bool            // the tree's own state counts: it is brought back
	layer  bool            // whiteouts remove, and what is there is replaced
	links  bool            // a link count above one says nothing: all the store's files have it
	skip   map[string]bool // places inside that something else will cover

	group   *errgroup.Group
	noClone atomic.Bool
	mu      sync.Mutex
	first   map[fileID]string // where a file's first name is inside
	names   []link            // further names
	lost    lost
}

type fileID struct{ dev, ino uint64 }

// link is a further name of a file, and what making it changes.
type link struct {
	first, name string
	parent      unix.Stat_t
}

// lost counts what could not be copied.
type lost struct{ capabilities, special, deep int }

// deepest is the longest path inside, in bytes, at which this engine looks: with
// what stands before it here or outside it stays below PATH_MAX. Sessions can make
// longer ones.
const deepest = unix.PathMax / 2

func (l *lost) add(more lost) {
	l.capabilities += more.capabilities
	l.special += more.special
	l.deep += more.deep
}

// tree copies the folder or file source to the place at inside the private root,
// where the folders on the way are; "" is the root itself.
func (c *copier) tree(ctx context.Context, source, at string) (lost, error) {
	c.first = map[fileID]string{}
	err := c.all(ctx, source, filepath.Join(c.to, at), at)
	if err != nil {
		err = fmt.Errorf("copying %s: %w", source, err)
	}
	return c.lost, err
}

func (c *copier) all(ctx context.Context, from, to, at string) error {
	src, err := openDir(filepath.Dir(from))
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openDir(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * goruntime.GOMAXPROCS(0))
	c.group = group
	err = c.entry(gctx, src, dst, filepath.Base(from), filepath.Base(to), at, 0)
	if werr := group.Wait(); err == nil || werr != nil && errors.Is(err, context.Canceled) {
		err = werr
	}
	if err != nil {
		return err
	}
	return c.link()
}

func openDir(name string) (int, error) {
	return unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// entry copies one name of the folder src to the folder dst; at is its place
// inside, and dev the device that the folder is on, 0 at the top.
func (c *copier) entry(ctx context.Context, src, dst int, from, name, at string, dev uint64) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, from, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if dev != 0 && gone(err) == errGone {
			return nil
		}
		return fmt.Errorf("reading %s: %w", at, err)
	}
	if c.base {
		c.record.setBase(at, &st)
	}
	kind := st.Mode & unix.S_IFMT
	if c.layer && dev != 0 {
		gone := kind == unix.S_IFCHR && st.Rdev == 0
		if err := c.makeWay(at, kind); err != nil || gone {
			return err
		}
	}
	var err error
	switch kind {
	case unix.S_IFDIR:
		if dev != 0 && dev != st.Dev && pseudo(src, from) {
			return nil
		}
		err = c.folder(ctx, src, dst, from, name, at, &st)
	case unix.S_IFREG:
		err = c.file(src, dst, from, name, at, &st)
	case unix.S_IFLNK:
		err = c.symlink(src, dst, from, name, &st)
	default:
		err = c.special(src, dst, from, name, &st)
	}
	if dev != 0 && errors.Is(err, errGone) {
		c.record.forget(at)
		return nil
	}
	if err != nil && kind != unix.S_IFDIR {
		return fmt.Errorf("copying %s: %w", at, err)
	}
	return err
}

// errGone is what happens to an entry that is removed, replaced or made again after
// its name was read: somebody works there. It is left out.
var errGone = errors.New("it changes while it is copied")

// gone is errGone for errors that tell of that, and else err.
func gone(err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EINVAL:
		return errGone
	}
	return err
}

// twice is errGone where a name is there already, because it was read twice.
func (c *copier) twice(err error) error {
	if err == unix.EEXIST && !c.layer {
		return errGone
	}
	return err
}

// makeWay removes what a layer replaces: all but a folder below a folder.
func (c *copier) makeWay(at string, kind uint32) error {
	var there unix.Stat_t
	p := filepath.Join(c.to, at)
	if err := unix.Lstat(p, &there); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	if kind == unix.S_IFDIR && there.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	return runtime.RemoveAll(p)
}

// pseudo reports whether a folder is the top of a file system that the kernel
// makes up.
func pseudo(dir int, name string) bool {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	return slices.Contains([]int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC,
		unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.SECURITYFS_MAGIC}, int64(st.Type))
}

// folder copies a folder, on a goroutine of its own where one is free.
func (c *copier) folder(ctx context.Context, src, dst int, from, name, at string, st *unix.Stat_t) error {
	in, err := unix.Openat(src, from, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reading %s: %w", at, gone(err))
	}
	if err := unix.Mkdirat(dst, name, 0o700); err != nil && (err != unix.EEXIST || !c.layer) {
		unix.Close(in)
		return fmt.Errorf("making %s: %w", at, c.twice(err))
	}
	out, err := unix.Openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(in)
		return fmt.Errorf("making %s: %w", at, err)
	}
	work := func() error {
		defer unix.Close(out)
		dir := os.NewFile(uintptr(in), at)
		defer dir.Close()
		return c.fill(ctx, dir, out, at, *st)
	}
	if c.group.TryGo(work) {
		return nil
	}
	return work()
}

// fill copies the entries of a folder and then all that the folder itself has.
func (c *copier) fill(ctx context.Context, dir *os.File, out int, at string, st unix.Stat_t) error {
	if c.layer && opaque(int(dir.Fd())) {
		if err := clearDir(filepath.Join(c.to, at)); err != nil {
			return err
		}
	}
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			place := path.Join(at, name)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if c.skip[place] {
				continue
			}
			if len(place) > deepest {
				c.mu.Lock()
				c.lost.deep++
				c.mu.Unlock()
				continue
			}
			if err := c.entry(ctx, int(dir.Fd()), out, name, name, place, st.Dev); err != nil {
				return err
			}
		}
		if err == io.EOF || errors.Is(err, unix.ENOENT) { // of a folder that has been removed
			break
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", at, err)
		}
	}
	if err := c.attributes(int(dir.Fd()), out, &st); err != nil {
		return fmt.Errorf("copying %s: %w", at, err)
	}
	var made unix.Stat_t
	if err := unix.Fstat(out, &made); err != nil {
		return err
	}
	c.record.setDir(at, made.Ino)
	return times(out, ".", &st)
}

func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, runtime.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// opaque reports whether an overlay shows nothing of lower layers in a folder.
func opaque(fd int) bool {
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var value [1]byte
		if n, err := unix.Fgetxattr(fd, name, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}

func (c *copier) file(src, dst int, from, name, at string, st *unix.Stat_t) error {
	if c.links || st.Nlink > 1 {
		id := fileID{st.Dev, st.Ino}
		c.mu.Lock()
		first, known := c.first[id]
		if known {
			var parent unix.Stat_t
			unix.Fstat(src, &parent)
			c.names = append(c.names, link{first, at, parent})
		} else {
			c.first[id] = at
		}
		c.mu.Unlock()
		if known {
			return nil
		}
	}
	in, err := unix.Openat(src, from, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	defer unix.Close(in)
	out, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return c.twice(err)
	}
	defer unix.Close(out)
	if err := copyContent(in, out, st, &c.noClone); err != nil {
		return err
	}
	if err := c.attributes(in, out, st); err != nil {
		return err
	}
	return times(dst, name, st)
}

// link makes the further names of files, when all first ones are there.
func (c *copier) link() error {
	for _, l := range c.names {
		switch err := os.Link(filepath.Join(c.to, l.first), filepath.Join(c.to, l.name)); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist):
			c.record.forget(l.name) // the first one vanished, or this name was read twice
			continue
		case err != nil:
			return err
		}
		if err := times(unix.AT_FDCWD, filepath.Join(c.to, path.Dir(l.name)), &l.parent); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) symlink(src, dst int, from, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(src, from, buf)
	if err != nil {
		return gone(err)
	}
	if err := unix.Symlinkat(string(buf[:n]), dst, name); err != nil {
		return c.twice(err)
	}
	if err := unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return times(dst, name, st)
}

// special makes FIFOs and devices again. A socket's other end is a process
// outside: only another name of it can lead there.
func (c *copier) special(src, dst int, from, name string, st *unix.Stat_t) error {
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		err = gone(unix.Linkat(src, from, dst, name, 0))
	} else if err = unix.Mknodat(dst, name, st.Mode, int(st.Rdev)); err == nil {
		err = errors.Join(unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW),
			unix.Fchmodat(dst, name, st.Mode&0o7777, 0), times(dst, name, st))
	}
	if err == unix.EPERM || err == unix.EXDEV || err == unix.EACCES {
		c.mu.Lock()
		c.lost.special++
		c.mu.Unlock()
		return nil
	}
	return c.twice(err)
}

// attributes gives out the owner, extended attributes and mode of in, in this
// order: each clears something of those after it.
func (c *copier) attributes(in, out int, st *unix.Stat_t) error {
	if err := unix.Fchown(out, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("giving it its owner: %w", err)
	}
	names, err := listXattrs(in)
	if err != nil {
		return err
	}
	for _, name := range names {
		if copyXattr(in, out, name) != nil && name == "security.capability" {
			c.mu.Lock()
			c.lost.capabilities++
			c.mu.Unlock()
		}
	}
	if err := unix.Fchmod(out, st.Mode&0o7777); err != nil {
		return fmt.Errorf("giving it its mode: %w", err)
	}
	return nil
}

// listXattrs names the extended attributes that a copy has, too.
func listXattrs(fd int) ([]string, error) {
	var buf [512]byte
	list := buf[:]
	n, err := unix.Flistxattr(fd, list)
	if err == unix.ERANGE {
		list = make([]byte, 1<<16) // XATTR_LIST_MAX
		n, err = unix.Flistxattr(fd, list)
	}
	if err != nil || n == 0 {
		if err == unix.EOPNOTSUPP {
			err = nil
		}
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	return slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "user.overlay.")
	}), nil
}

func copyXattr(in, out int, name string) error {
	value := make([]byte, 1<<16) // XATTR_SIZE_MAX
	n, err := unix.Fgetxattr(in, name, value)
	if err != nil {
		return err
	}
	return unix.Fsetxattr(out, name, value[:n], 0)
}

func times(dir int, name string, st *unix.Stat_t) error {
	err := unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("giving %s its time: %w", name, err)
	}
	return nil
}
