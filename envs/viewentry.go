package envs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// A build is foreign code: links that it leaves in a view must lead the sync nowhere. So
// each call has one folder's descriptor and a name in it, and follows no link.

// lstat says what a folder has by a name.
func lstat(dir *os.File, name string) (st unix.Stat_t, exists bool, err error) {
	err = unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return st, false, nil
	}
	return st, err == nil, err
}

func open(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openFolder(dir *os.File, name string) (*os.File, error) {
	return open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

func readlink(dir *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// kinds are those of what is synced: sockets, fifos and devices are no sources.
var kinds = map[uint32]byte{unix.S_IFREG: 'f', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l'}

// seeing is what the state says of a path. A copy's ctime isn't known yet.
func seeing(name string, st unix.Stat_t) seen {
	s := seen{kind: kinds[st.Mode&unix.S_IFMT], name: name}
	if s.kind == 'f' {
		s.size, s.mtime, s.ctime = st.Size, unix.TimespecToNsec(st.Mtim), unix.TimespecToNsec(st.Ctim)
	}
	return s
}

// entry syncs one path, of which the last sync saw old: zero for nothing. In the old
// state it stands just before.
func (y *syncer) entry(ctx context.Context, src, dst *os.File, rel string, old seen) error {
	name := path.Base(rel)
	wrap := func(err error) error {
		if err == nil || errors.As(err, new(*stateError)) || err == ctx.Err() {
			return err
		}
		return fmt.Errorf("%s: %w", rel, cause(err))
	}
	st, here, err := lstat(src, name)
	if err != nil {
		return wrap(err)
	}
	now := seeing(name, st)
	if !here || now.kind == 0 || rel == ".git" || rel == "dist" || rel == y.skip {
		if old.kind == 0 {
			return nil
		}
		return wrap(y.vanished(dst, old)) // since it was listed, or it is a source no more
	}
	there, exists, err := lstat(dst, name)
	if err != nil {
		return wrap(err)
	}
	if exists && there.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		if err := runtime.RemoveAll(filepath.Join(y.view.Dir, rel)); err != nil {
			return wrap(err)
		}
		exists = false
	}
	if old.kind == 'd' && now.kind != 'd' {
		if err := y.old.skip(); err != nil {
			return err
		}
	}
	if !exists && old.kind != now.kind {
		if err := y.note(rel); err != nil {
			return wrap(err)
		}
	}
	switch now.kind {
	case 'd':
		return y.folder(ctx, src, dst, rel, st.Mode, there, exists, old.kind == 'd')
	case 'l':
		return wrap(y.link(src, dst, rel, now, exists))
	}
	return wrap(y.file(src, dst, rel, now, old, st.Mode, there, exists))
}

func (y *syncer) copied(rel string) {
	y.changed++
	y.progress.Report(snapshot.Event{Stage: "syncing", Item: rel, Done: int64(y.changed), Unit: "files"})
}

func (y *syncer) folder(ctx context.Context, src, dst *os.File, rel string, mode uint32, there unix.Stat_t, exists, known bool) error {
	name := path.Base(rel)
	if !exists {
		y.changed++
		if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
	}
	// The owner can always write: the next sync has to.
	if want := mode&0o777 | 0o700; !exists || there.Mode&0o777 != want {
		if err := unix.Fchmodat(int(dst.Fd()), name, want, 0); err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
	}
	in, err := openFolder(src, name)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	defer in.Close()
	out, err := openFolder(dst, name)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	defer out.Close()
	y.now.put(seen{kind: 'd', name: name})
	return y.dir(ctx, in, out, rel, known)
}

func (y *syncer) link(src, dst *os.File, rel string, now seen, exists bool) error {
	target, err := readlink(src, now.name)
	if err != nil {
		return err
	}
	y.now.put(now)
	if exists {
		if is, err := readlink(dst, now.name); err != nil || is == target {
			return err
		}
		if err := unix.Unlinkat(int(dst.Fd()), now.name, 0); err != nil {
			return err
		}
	}
	y.copied(rel)
	return unix.Symlinkat(target, int(dst.Fd()), now.name)
}

// file copies a file unless the copy is what a copy would be. Of the project's file size
// and times tell that, of the copy the ctime; where only the ctime moved, as on a new
// owner or link, contents are compared.
func (y *syncer) file(src, dst *os.File, rel string, now, old seen, mode uint32, there unix.Stat_t, exists bool) error {
	y.newest = max(y.newest, now.mtime)
	now.copied = unix.TimespecToNsec(there.Ctim)
	if exists && old.kind == 'f' && now.size == old.size && now.mtime == old.mtime && there.Size == now.size {
		same := !y.verify && now.ctime == old.ctime && now.copied == old.copied && now.ctime < y.old.at-int64(slack)
		if !same {
			var err error
			if same, err = sameContent(src, dst, now.name); err != nil {
				return err
			}
			y.touched = y.touched || same
		}
		if same {
			return y.keep(dst, now, mode, there)
		}
	}
	y.copied(rel)
	if exists {
		if err := unix.Unlinkat(int(dst.Fd()), now.name, 0); err != nil {
			return err
		}
	}
	now, err := y.copy(src, dst, now.name)
	y.now.put(now)
	return err
}

// keep leaves a copy as it is, but for its mode.
func (y *syncer) keep(dst *os.File, now seen, mode uint32, there unix.Stat_t) error {
	if there.Mode&0o7777 != mode&0o777 {
		y.changed++
		if err := unix.Fchmodat(int(dst.Fd()), now.name, mode&0o777, 0); err != nil {
			return err
		}
		st, _, err := lstat(dst, now.name)
		if err != nil {
			return err
		}
		now.copied = unix.TimespecToNsec(st.Ctim)
	}
	y.now.put(now)
	return nil
}

// copy copies a file, as a reflink where the file system can. At first its time is the
// source's. Later it is that of the sync, or make would take what was built from another
// content for newer: a source may have been restored, or changed while a build ran.
func (y *syncer) copy(src, dst *os.File, name string) (now seen, err error) {
	in, err := open(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return now, err
	}
	defer in.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return now, errors.Join(err, errors.New("it changed while it was read"))
	}
	now = seeing(name, st)
	out, err := open(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return now, err
	}
	defer out.Close()
	if y.plain || unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
		y.plain = true
		if _, err := io.Copy(out, in); err != nil {
			return now, err
		}
	}
	mtime := now.mtime
	if y.old != nil {
		mtime = y.head.at
	}
	// UTIME_OMIT: nobody asks when a copy was read.
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}
	if err := errors.Join(unix.Fchmod(int(out.Fd()), st.Mode&0o777), unix.UtimesNanoAt(int(dst.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW),
		unix.Fstat(int(out.Fd()), &st)); err != nil {
		return now, err
	}
	now.copied = unix.TimespecToNsec(st.Ctim)
	return now, nil
}

// sameContent reports whether a file is the same in both folders.
func sameContent(src, dst *os.File, name string) (bool, error) {
	a, err := open(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := open(dst, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, nil //nolint:nilerr // a build took the right to read it away
	}
	defer b.Close()
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err1 := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		switch {
		case !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case err1 == io.EOF || err1 == io.ErrUnexpectedEOF:
			return true, nil
		case err1 != nil || err2 != nil:
			return false, errors.Join(err1, err2)
		}
	}
}
