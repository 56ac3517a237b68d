package chroot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// conflictSuffix is what the session's version of a file is called where somebody
// else changed the file in the meantime.
const conflictSuffix = ".stead-conflict"

// bringer brings back what a session changed in one mount. What changed outside in
// the meantime always stays.
type bringer struct {
	record  *record
	root    string   // the private root
	target  string   // the mount's place inside, without the leading slash
	source  *os.Root // the folder outside, or that of the file
	name    string   // the file's name in it; "" for a folder
	skip    map[string]bool
	noClone atomic.Bool

	conflicts []string
	special   int
	deep      int
}

// bringBack brings back what the session changed in all mounts, the inner ones
// apart from the outer.
func (r *record) bringBack(ctx context.Context, root string) (notes []string, err error) {
	skip := map[string]bool{}
	for _, m := range r.Mounts {
		skip[strings.TrimPrefix(m.Target, "/")] = true
	}
	for i, m := range r.Mounts {
		if m.ReadOnly || covered(r.Mounts[i+1:], m.Target) {
			continue
		}
		b := &bringer{record: r, root: root, target: strings.TrimPrefix(m.Target, "/"), skip: skip}
		if err := b.mount(ctx, m); err != nil {
			return notes, fmt.Errorf("bringing back what the session changed in %s: %w", m.Source, err)
		}
		notes = append(notes, b.notes(m.Source)...)
	}
	return notes, nil
}

func covered(later []runtime.Mount, target string) bool {
	for _, m := range later {
		if m.Target == target {
			return true
		}
	}
	return false
}

func (b *bringer) notes(source string) []string {
	const most = 5
	var list []string
	for i, p := range b.conflicts {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more in %s", len(b.conflicts)-most, source))
			break
		}
		list = append(list, p)
	}
	if b.special > 0 {
		list = append(list, fmt.Sprintf("%d sockets, pipes or devices that the session made in %s stay behind", b.special, source))
	}
	if b.deep > 0 {
		list = append(list, fmt.Sprintf("%d files or folders that the session made in %s stay behind: their path is too long", b.deep, source))
	}
	return list
}

func (b *bringer) mount(ctx context.Context, m runtime.Mount) error {
	var st, out unix.Stat_t
	inside := filepath.Join(b.root, b.target)
	if err := unix.Lstat(inside, &st); err != nil {
		return nil // the session removed what it can't remove elsewhere
	}
	if err := unix.Stat(m.Source, &out); err != nil {
		return nil // gone, with all that could be brought back to it
	}
	folder := out.Mode&unix.S_IFMT == unix.S_IFDIR
	if folder != (st.Mode&unix.S_IFMT == unix.S_IFDIR) || !folder && out.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	dir := m.Source
	if !folder {
		p, err := filepath.EvalSymlinks(m.Source)
		if err != nil {
			return err
		}
		dir, b.name = filepath.Dir(p), filepath.Base(p)
	}
	source, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer source.Close()
	b.source = source
	if !folder {
		return b.entry(ctx, b.target, false)
	}
	return b.folder(ctx, b.target, &st, false)
}

// outside is the path in source of what is at a place inside.
func (b *bringer) outside(at string) string {
	if b.name != "" {
		return b.name
	}
	if at == b.target {
		return "."
	}
	return strings.TrimPrefix(at, b.target+"/")
}

// folder compares a folder that both sides have. moved says that it isn't the one
// that was copied there, so that the times of what is in it tell nothing.
func (b *bringer) folder(ctx context.Context, at string, st *unix.Stat_t, moved bool) error {
	moved = moved || b.record.moved(at, st)
	entries, err := os.ReadDir(filepath.Join(b.root, at))
	if err != nil {
		return err
	}
	here := make(map[string]bool, len(entries))
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		here[e.Name()] = true
		place := path.Join(at, e.Name())
		if len(place) > deepest {
			b.deep++
			continue
		}
		if !b.skip[place] {
			if err := b.entry(ctx, place, moved); err != nil {
				return err
			}
		}
	}
	if !moved && !b.record.changed(st) {
		return nil
	}
	there, err := b.listOutside(at)
	if err != nil {
		return err
	}
	for _, name := range there {
		if place := path.Join(at, name); !here[name] && !b.skip[place] {
			if _, err := b.remove(place); err != nil {
				return err
			}
		}
	}
	return b.likeInside(at, st)
}

func (b *bringer) listOutside(at string) ([]string, error) {
	f, err := b.source.Open(b.outside(at))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// likeInside gives a folder outside the owner, mode and time of the one inside.
func (b *bringer) likeInside(at string, st *unix.Stat_t) error {
	name := b.outside(at)
	return errors.Join(b.source.Lchown(name, int(st.Uid), int(st.Gid)), b.source.Chmod(name, fileMode(st.Mode)),
		b.source.Chtimes(name, time.Time{}, time.Unix(st.Mtim.Sec, st.Mtim.Nsec)))
}

func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// lstat is the state of what is outside; ok is false for nothing.
func (b *bringer) lstat(at string) (st unix.Stat_t, touched, ok bool, err error) {
	base, had := b.record.base[hashOf([]byte(at))]
	fi, err := b.source.Lstat(b.outside(at))
	if errors.Is(err, fs.ErrNotExist) {
		return st, had, false, nil
	}
	if err != nil {
		return st, false, false, err
	}
	dir, err := b.source.Open(path.Dir(b.outside(at)))
	if err != nil {
		return st, false, false, err
	}
	defer dir.Close()
	if err := unix.Fstatat(int(dir.Fd()), fi.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, false, false, err
	}
	return st, !had || stateOf(&st) != base, true, nil
}

// entry brings back one entry, and what is below it.
func (b *bringer) entry(ctx context.Context, at string, moved bool) error {
	inside := filepath.Join(b.root, at)
	var st unix.Stat_t
	if err := unix.Lstat(inside, &st); err != nil {
		return err
	}
	folder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !folder && !moved && !b.record.changed(&st) {
		return nil
	}
	out, touched, exists, err := b.lstat(at)
	if err != nil {
		return err
	}
	outFolder := exists && out.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case folder && outFolder:
		return b.folder(ctx, at, &st, moved)
	case folder && !moved && !b.record.moved(at, &st) && !exists:
		// Removed outside, and here still what it was: only what changed comes back.
		return b.below(ctx, at, &st)
	case folder && exists && touched:
		return b.conflict(ctx, at, &st)
	case folder:
		if exists {
			if err := b.source.Remove(b.outside(at)); err != nil {
				return err
			}
		}
		return b.newFolder(ctx, at, &st)
	case outFolder:
		if gone, err := b.remove(at); err != nil || !gone {
			return errors.Join(err, b.conflict(ctx, at, &st))
		}
	case exists:
		fine, err := b.alike(at, &st, &out)
		if err != nil || fine {
			return err
		}
		if touched {
			return b.conflict(ctx, at, &st)
		}
	}
	return b.put(at, &st, b.outside(at))
}

// newFolder makes a folder and brings all that is in it.
func (b *bringer) newFolder(ctx context.Context, at string, st *unix.Stat_t) error {
	if err := b.source.Mkdir(b.outside(at), 0o700); err != nil {
		return err
	}
	return b.folder(ctx, at, st, true)
}

// below brings what changed below a folder that was removed outside; nothing of it
// makes the folder again where nothing changed.
func (b *bringer) below(ctx context.Context, at string, st *unix.Stat_t) error {
	any := errors.New("changed")
	err := filepath.WalkDir(filepath.Join(b.root, at), func(p string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(p, &st)
		}
		if err == nil && b.record.changed(&st) || errors.Is(err, unix.ENAMETOOLONG) {
			err = any
		}
		return err
	})
	if err != any {
		return err
	}
	return b.newFolder(ctx, at, st)
}

// alike reports whether what is outside is already what the session has.
func (b *bringer) alike(at string, st, out *unix.Stat_t) (bool, error) {
	if st.Mode&unix.S_IFMT != out.Mode&unix.S_IFMT {
		return false, nil
	}
	dir, err := b.source.Open(path.Dir(b.outside(at)))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), path.Base(b.outside(at)))
	return same(filepath.Join(b.root, at), st, name, out)
}

// conflict puts the session's version beside what was changed outside.
func (b *bringer) conflict(ctx context.Context, at string, st *unix.Stat_t) error {
	name := b.outside(at) + conflictSuffix
	for i := 2; ; i++ {
		if _, err := b.source.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s%s-%d", b.outside(at), conflictSuffix, i)
	}
	b.conflicts = append(b.conflicts, fmt.Sprintf("%s was changed outside while the session ran: it stays, and the session's version is %s",
		b.outside(at), name))
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return b.put(at, st, name)
	}
	if err := b.source.Mkdir(name, 0o700); err != nil {
		return err
	}
	beside, err := b.source.OpenRoot(name)
	if err != nil {
		return err
	}
	defer beside.Close()
	c := &bringer{record: b.record, root: b.root, target: at, source: beside, skip: b.skip}
	err = c.folder(ctx, at, st, true)
	b.special += c.special
	b.deep += c.deep
	return err
}

// put copies one file out, under a name beside and then by renaming.
func (b *bringer) put(at string, st *unix.Stat_t, name string) error {
	inside := filepath.Join(b.root, at)
	temporary := path.Join(path.Dir(name), ".stead-"+strings.ToLower(rand.Text()[:12]))
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = b.putFile(inside, st, temporary)
	case unix.S_IFLNK:
		var target string
		if target, err = readlink(inside); err == nil {
			err = b.source.Symlink(target, temporary)
		}
		if err == nil {
			err = b.source.Lchown(temporary, int(st.Uid), int(st.Gid))
		}
	default:
		b.special++
		return nil
	}
	if err == nil {
		err = b.source.Rename(temporary, name)
	}
	if err != nil {
		b.source.Remove(temporary)
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func (b *bringer) putFile(inside string, st *unix.Stat_t, name string) (err error) {
	in, err := openFile(inside)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := b.source.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := copyContent(in, int(out.Fd()), st, &b.noClone); err != nil {
		return err
	}
	c := &copier{}
	if err := c.attributes(in, int(out.Fd()), st); err != nil {
		return err
	}
	return b.source.Chtimes(name, time.Unix(st.Atim.Sec, st.Atim.Nsec), time.Unix(st.Mtim.Sec, st.Mtim.Nsec))
}

// remove removes what the session removed, but nothing that was made or changed
// outside since. gone is false where something had to stay.
func (b *bringer) remove(at string) (gone bool, err error) {
	if b.skip[at] {
		return false, nil
	}
	st, touched, exists, err := b.lstat(at)
	if err != nil || !exists {
		return err == nil, err
	}
	_, had := b.record.base[hashOf([]byte(at))]
	if touched {
		if had {
			b.conflicts = append(b.conflicts, b.outside(at)+
				" was changed outside while the session removed it: it stays")
		}
		return false, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return true, b.source.Remove(b.outside(at))
	}
	there, err := b.listOutside(at)
	if err != nil {
		return false, err
	}
	all := true
	for _, name := range there {
		gone, err := b.remove(path.Join(at, name))
		if err != nil {
			return false, err
		}
		all = all && gone
	}
	if !all {
		return false, nil
	}
	return true, b.source.Remove(b.outside(at))
}
