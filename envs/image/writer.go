package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// writer makes entries below one folder. Every name is created in a folder that
// was itself opened without following a link, one component at a time, so that no
// entry of a tree, however it is named, leads out of it. (os.Root gives the same
// promise, but sets neither the times of links nor extended attributes.)
type writer struct {
	top      *os.File
	open     map[string]*os.File // folders at hand, by path
	owners   store.Owners        // those that are set on disk
	uid, gid uint32              // the owners of what is made here
	buf      []byte
}

// maxOpenDirs bounds the descriptors that a writer holds.
const maxOpenDirs = 128

func newWriter(dir string, owners store.Owners) (*writer, error) {
	top, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &writer{top: top, open: map[string]*os.File{}, owners: owners, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
		buf: make([]byte, 64<<10)}, nil
}

func (w *writer) Close() error {
	w.forget()
	return w.top.Close()
}

func (w *writer) forget() {
	for p, d := range w.open {
		d.Close()
		delete(w.open, p)
	}
}

// LinkError says that an entry would be reached through something that is no
// folder.
type LinkError struct{ Path, Parent string }

func (e *LinkError) Error() string {
	return fmt.Sprintf("%q lies below %q, which is no folder", "/"+e.Path, "/"+e.Parent)
}

// dir returns the descriptor of a folder, making it and those above it.
func (w *writer) dir(p string) (int, error) {
	if p == "." {
		return int(w.top.Fd()), nil
	}
	if d, ok := w.open[p]; ok {
		return int(d.Fd()), nil
	}
	parent, err := w.dir(path.Dir(p))
	if err != nil {
		return -1, err
	}
	base := path.Base(p)
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, base, flags, 0)
	if errors.Is(err, unix.ENOENT) {
		if err = unix.Mkdirat(parent, base, 0o755); err == nil || errors.Is(err, unix.EEXIST) {
			fd, err = unix.Openat(parent, base, flags, 0)
		}
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, &LinkError{Path: p, Parent: p}
	}
	if err != nil {
		return -1, &os.PathError{Op: "mkdir", Path: "/" + p, Err: err}
	}
	if len(w.open) >= maxOpenDirs {
		w.forget()
	}
	w.open[p] = os.NewFile(uintptr(fd), p)
	return fd, nil
}

// at returns where an entry is made: its folder and its name there.
func (w *writer) at(p string) (dirfd int, base string, err error) {
	dirfd, err = w.dir(path.Dir(p))
	var link *LinkError
	if errors.As(err, &link) {
		link.Path = p
	}
	return dirfd, path.Base(p), err
}

// file writes a regular file with the content of r, leaving holes where it is
// zero, and returns the SHA-256 of the content. Exactly f.Size bytes must come.
func (w *writer) file(f snapshot.File, r io.Reader) (string, error) {
	dirfd, base, err := w.at(f.Path)
	if err != nil {
		return "", err
	}
	fd, err := unix.Openat(dirfd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", &os.PathError{Op: "create", Path: "/" + f.Path, Err: err}
	}
	out := os.NewFile(uintptr(fd), f.Path)
	defer out.Close()
	digest, err := w.copy(out, r, f.Size)
	if err != nil {
		return "", fmt.Errorf("writing %q: %w", "/"+f.Path, err)
	}
	if err := w.metadata(fd, dirfd, base, f); err != nil {
		return "", fmt.Errorf("writing %q: %w", "/"+f.Path, err)
	}
	return digest, nil
}

func (w *writer) copy(out *os.File, r io.Reader, size int64) (string, error) {
	h := sha256.New()
	var n int64
	hole := false
	for n < size {
		k, err := io.ReadFull(r, w.buf[:min(int64(len(w.buf)), size-n)])
		b := w.buf[:k]
		h.Write(b)
		n += int64(k)
		if hole = k >= 4096 && store.IsZero(b); hole {
			if _, err := out.Seek(int64(k), io.SeekCurrent); err != nil {
				return "", err
			}
		} else if _, err := out.Write(b); err != nil {
			return "", err
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", fmt.Errorf("after %d of %d bytes: %w", n, size, err)
		}
	}
	if hole {
		if err := out.Truncate(size); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// chowns reports whether an entry gets other owners than what it is made with. What
// can't be held stays as it is: the manifest knows.
func (w *writer) chowns(f snapshot.File) bool {
	return (f.UID != w.uid || f.GID != w.gid) && w.owners.Holds(f.UID, f.GID)
}

// metadata sets owner, mode, attributes and time, in that order: a new owner
// clears special bits and capabilities, and everything else moves the time.
func (w *writer) metadata(fd, dirfd int, base string, f snapshot.File) error {
	if w.chowns(f) {
		if err := unix.Fchown(fd, int(f.UID), int(f.GID)); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, f.Mode); err != nil {
		return err
	}
	for name, value := range f.Xattrs {
		if !w.owners.HoldsAttribute(name, value) {
			continue // the manifest holds it
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return setTime(dirfd, base, f.MTime)
}

func setTime(dirfd int, base string, sec int64) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec}}
	return unix.UtimesNanoAt(dirfd, base, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// symlink makes a symbolic link; its target is data.
func (w *writer) symlink(f snapshot.File) error {
	dirfd, base, err := w.at(f.Path)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(f.Target, dirfd, base); err != nil {
		return &os.PathError{Op: "symlink", Path: "/" + f.Path, Err: err}
	}
	if w.chowns(f) {
		if err := unix.Fchownat(dirfd, base, int(f.UID), int(f.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "chown", Path: "/" + f.Path, Err: err}
		}
	}
	return setTime(dirfd, base, f.MTime)
}

// fifo makes a named pipe.
func (w *writer) fifo(f snapshot.File) error {
	dirfd, base, err := w.at(f.Path)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(dirfd, base, unix.S_IFIFO|f.Mode&0o777, 0); err != nil {
		return &os.PathError{Op: "mkfifo", Path: "/" + f.Path, Err: err}
	}
	if w.chowns(f) {
		if err := unix.Fchownat(dirfd, base, int(f.UID), int(f.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "chown", Path: "/" + f.Path, Err: err}
		}
	}
	return unix.Fchmodat(dirfd, base, f.Mode, 0)
}

// hardlink gives the file at old, made by this writer before, a second name.
func (w *writer) hardlink(old, p string) error {
	olddir, oldbase, err := w.at(old)
	if err != nil {
		return err
	}
	// Both descriptors have to stay open: opening the second may drop the first.
	keep, err := unix.FcntlInt(uintptr(olddir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(keep)
	dirfd, base, err := w.at(p)
	if err != nil {
		return err
	}
	if err := unix.Linkat(keep, oldbase, dirfd, base, 0); err != nil {
		return &os.LinkError{Op: "link", Old: "/" + old, New: "/" + p, Err: err}
	}
	return nil
}

// folder makes a folder, or takes the one that is there; its mode and owner are
// set by finish, when nothing more is made in it.
func (w *writer) folder(p string) error {
	_, err := w.dir(p)
	return err
}

// finish sets mode, owner and attributes of the folders among the entries.
func (w *writer) finish(entries []snapshot.File) error {
	for i := len(entries) - 1; i >= 0; i-- { // children first: a folder may be unreadable
		f := entries[i]
		if f.Type != snapshot.Dir {
			continue
		}
		if err := w.finishFolder(f); err != nil {
			return fmt.Errorf("finishing %q: %w", "/"+f.Path, err)
		}
	}
	return nil
}

func (w *writer) finishFolder(f snapshot.File) error {
	pathfd, err := w.dir(f.Path)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(pathfd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if w.chowns(f) {
		if err := unix.Fchown(fd, int(f.UID), int(f.GID)); err != nil {
			return err
		}
	}
	mode := f.Mode
	if !w.owners.Any() {
		mode |= 0o700 // the manifest holds the real one; the store must stay removable
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	for name, value := range f.Xattrs {
		if !w.owners.HoldsAttribute(name, value) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}
