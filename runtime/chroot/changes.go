package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// own are the folders that a session has of its own: what is in them is no change
// of the root.
var own = []string{"dev", "proc", "sys"}

// changes tells what a session changed outside its mounts, from the private root
// and the layers that it was made of.
type changes struct {
	record *record
	root   string
	base   layers
	skip   map[string]bool
	upper  string // where changes are kept, in overlay's form; "" only counts

	count int
	seen  map[fileID]string // the first name of files with several, which count once
}

// changes counts the files that the session made, changed or removed outside its
// mounts, and brings them to the upper folder of one that is kept.
func (r *record) changes(ctx context.Context, root string) (int, error) {
	c := &changes{record: r, root: root, base: r.Layers, skip: map[string]bool{}, seen: map[fileID]string{}}
	for _, name := range own {
		c.skip[name] = true
	}
	for _, m := range r.Mounts {
		c.skip[strings.TrimPrefix(m.Target, "/")] = true
	}
	for _, made := range r.Made {
		c.skip[made] = true
	}
	if r.Upper != "" {
		c.upper = filepath.Join(r.Upper, "upper")
	}
	var st unix.Stat_t
	if err := unix.Lstat(root, &st); err != nil {
		return 0, err
	}
	if err := c.folder(ctx, "", &st, false); err != nil {
		return 0, fmt.Errorf("looking for what the session changed: %w", err)
	}
	return c.count, nil
}

func (c *changes) folder(ctx context.Context, at string, st *unix.Stat_t, moved bool) error {
	moved = moved || c.record.moved(at, st)
	changed := moved || c.record.changed(st)
	entries, err := os.ReadDir(filepath.Join(c.root, at))
	if err != nil {
		return err
	}
	var dirs []string
	if changed {
		dirs = c.base.dirs(at)
		if err := c.removed(at, dirs); err != nil {
			return err
		}
	}
	if changed && c.upper != "" {
		if err := c.keepFolder(at, st); err != nil {
			return err
		}
	}
	for _, e := range entries {
		place := path.Join(at, e.Name())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.skip[place] {
			continue
		}
		if len(place) > deepest {
			c.count++ // what is in it isn't kept
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(c.root, place), &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = c.folder(ctx, place, &st, moved)
		} else if moved || c.record.changed(&st) {
			err = c.file(place, &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removed finds the names that a folder of the root has, and the session's no
// longer.
func (c *changes) removed(at string, dirs []string) error {
	list, err := names(dirs)
	if err != nil {
		return err
	}
	for _, name := range list {
		place := path.Join(at, name)
		var st unix.Stat_t
		if c.skip[place] || unix.Lstat(filepath.Join(c.root, place), &st) != unix.ENOENT || find(dirs, name) == "" {
			continue
		}
		c.count++
		if c.upper != "" {
			if err := c.whiteout(place); err != nil {
				return err
			}
		}
	}
	return c.drop(at)
}

// drop removes from a kept folder what earlier sessions made there and this one
// removed.
func (c *changes) drop(at string) error {
	if c.upper == "" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(c.upper, at))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		place := path.Join(at, e.Name())
		var st unix.Stat_t
		if c.skip[place] || unix.Lstat(filepath.Join(c.root, place), &st) != unix.ENOENT ||
			find([]string{filepath.Join(c.upper, at)}, e.Name()) == "" {
			continue
		}
		if err := runtime.RemoveAll(filepath.Join(c.upper, place)); err != nil {
			return err
		}
	}
	return nil
}

// file looks at a file to which something was done.
func (c *changes) file(at string, st *unix.Stat_t) error {
	name := filepath.Join(c.root, at)
	if base := find(c.base.dirs(path.Dir(at)), path.Base(at)); base != "" {
		var was unix.Stat_t
		if err := unix.Lstat(base, &was); err != nil {
			return err
		}
		fine, err := same(name, st, base, &was)
		if err == nil && fine && c.upper != "" {
			err = runtime.RemoveAll(filepath.Join(c.upper, at)) // what an earlier session made of it
		}
		if err != nil || fine {
			return err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	first := ""
	if st.Nlink > 1 {
		id := fileID{st.Dev, st.Ino}
		if first = c.seen[id]; first == "" {
			c.seen[id] = at
		}
	}
	if first == "" {
		c.count++
	}
	if c.upper == "" {
		return nil
	}
	return c.keep(at, path.Base(at), first)
}

// keepFolder makes a folder in the upper one, with those above it.
func (c *changes) keepFolder(at string, st *unix.Stat_t) error {
	if at != "" {
		parent := path.Dir("/" + at)[1:]
		var above unix.Stat_t
		if err := unix.Lstat(filepath.Join(c.root, parent), &above); err != nil {
			return err
		}
		if err := c.keepFolder(parent, &above); err != nil {
			return err
		}
	}
	kept := filepath.Join(c.upper, at)
	var there unix.Stat_t
	if err := unix.Lstat(kept, &there); err == nil && there.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := runtime.RemoveAll(kept); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	in, err := openDir(filepath.Join(c.root, at))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := openDir(kept)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	return errors.Join((&copier{}).attributes(in, out, st), times(out, ".", st))
}

// keep copies a file to the upper folder. first is another name of it that is there
// already, or "".
func (c *changes) keep(at, name, first string) error {
	parent := path.Dir("/" + at)[1:]
	var above unix.Stat_t
	if err := unix.Lstat(filepath.Join(c.root, parent), &above); err != nil {
		return err
	}
	if err := c.keepFolder(parent, &above); err != nil {
		return err
	}
	if err := runtime.RemoveAll(filepath.Join(c.upper, at)); err != nil {
		return err
	}
	in, err := openDir(filepath.Join(c.root, parent))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := openDir(filepath.Join(c.upper, parent))
	if err != nil {
		return err
	}
	defer unix.Close(out)
	if first != "" {
		return errors.Join(os.Link(filepath.Join(c.upper, first), filepath.Join(c.upper, at)), times(out, ".", &above))
	}
	one := &copier{to: c.upper, record: newRecord(), first: map[fileID]string{}}
	return errors.Join(one.entry(context.Background(), in, out, name, name, at, 0), times(out, ".", &above))
}

// whiteout hides what the root has at a place, as overlay does: Linux before 5.8
// wants CAP_MKNOD for it.
func (c *changes) whiteout(at string) error {
	kept := filepath.Join(c.upper, at)
	if err := runtime.RemoveAll(kept); err != nil {
		return err
	}
	parent := path.Dir("/" + at)[1:]
	var above unix.Stat_t
	if err := unix.Lstat(filepath.Join(c.root, parent), &above); err != nil {
		return err
	}
	if err := c.keepFolder(parent, &above); err != nil {
		return err
	}
	if err := unix.Mknod(kept, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("keeping that %s was removed: %w", at, err)
	}
	return nil
}
