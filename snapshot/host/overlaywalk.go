package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// Files implements snapshot.Host.
func (o *Overlay) Files(ctx context.Context, dir string, fn func(snapshot.File, error) error) error {
	w := o.walk(ctx, func(path string, _, after *snapshot.File, err error) error {
		switch {
		case after != nil:
			return fn(*after, err)
		case err != nil:
			return fn(snapshot.File{Path: path}, err)
		}
		return fs.SkipDir
	})
	if dir == "." {
		return w.root()
	}
	if !snapshot.ValidPath(dir) {
		return nil
	}
	at := overlayParents{o: o}
	defer at.close()
	up, name := split(dir)
	err := at.open(up)
	if absent(err) {
		return nil
	}
	if err != nil {
		return fn(snapshot.File{Path: dir}, fmt.Errorf("reading /%s: %w", up, err))
	}
	before, below := o.find(dir)
	if !at.below {
		before, below = nil, nil
	}
	in := at.upper
	if in != nil {
		if _, _, err := o.look(int(in.Fd()), name); err == unix.ENOENT {
			in = nil
		}
	}
	if in == nil && before == nil {
		return nil
	}
	if err := w.visit(in, name, dir, before, below, true, strings.Count(dir, "/")); err != fs.SkipDir {
		return err
	}
	return nil
}

// Changes calls fn for every path that may not be as in the lower root, each folder
// before what is in it: before is nil for what was added, after for what was removed.
// Folders are among them that are as they were, but for what is in them. The contents of
// files are not compared.
func (o *Overlay) Changes(ctx context.Context, fn func(before, after *snapshot.File) error) error {
	return o.walk(ctx, func(path string, before, after *snapshot.File, err error) error {
		switch {
		case err != nil:
			return err
		case before == after:
			return fs.SkipDir
		}
		return fn(before, after)
	}).root()
}

// overlayWalk goes through both layers at once. see is told of each path: before is what
// the lower root has there, after what the overlay shows, the same pointer where that is
// the lower root's. Folders for which it answers SkipDir are not entered.
type overlayWalk struct {
	ctx context.Context //nolint:containedctx // lives as long as one walk
	o   *Overlay
	see func(path string, before, after *snapshot.File, err error) error
	up  *walk // what is read from the upper folder
}

func (o *Overlay) walk(ctx context.Context, see func(path string, before, after *snapshot.File, err error) error) *overlayWalk {
	up := &walk{dir: o.upper, begun: time.Now(), links: newLinker(), buf: make([]byte, 64<<10)}
	return &overlayWalk{ctx: ctx, o: o, see: see, up: up}
}

func (w *overlayWalk) root() error {
	fd, err := openQuiet(int(w.o.upper.root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", w.o.upper.name, err)
	}
	dir := os.NewFile(uintptr(fd), ".")
	defer dir.Close()
	f := w.up.file(".", &st)
	if f.Xattrs, err = w.xattrs(procFD(fd) + "/."); err != nil {
		return fmt.Errorf("reading %s: %w", w.o.upper.name, err)
	}
	w.o.unheld(&w.o.top, &f)
	if err := w.report(".", &w.o.top, &f, nil); err != nil {
		return skipped(err)
	}
	return w.enter(dir, ".", w.o.entries, true, 0)
}

// skipped makes of SkipDir that nothing else is to do.
func skipped(err error) error {
	if err == fs.SkipDir {
		return nil
	}
	return err
}

// enter goes through a folder: what is in the upper one, which may be nil, and entries of
// the lower root, of which shown tells whether they are seen.
func (w *overlayWalk) enter(upper *os.File, path string, entries []snapshot.File, shown bool, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var names []string
	if upper != nil {
		var err error
		if names, err = upper.Readdirnames(-1); err != nil {
			return w.report(path, nil, nil, err)
		}
		slices.Sort(names)
	}
	prefix := path + "/"
	if path == "." {
		prefix = ""
	}
	for len(names) > 0 || len(entries) > 0 {
		var before *snapshot.File
		var below []snapshot.File
		var in *os.File
		name := ""
		if len(entries) > 0 {
			name = entries[0].Path[len(prefix):]
		}
		if len(names) > 0 && (len(entries) == 0 || names[0] <= name) {
			name, names, in = names[0], names[1:], upper
		}
		if len(entries) > 0 && entries[0].Path == prefix+name {
			n := 1 + inside(entries[1:], entries[0].Path)
			before, below, entries = &entries[0], entries[1:n], entries[n:]
		}
		if err := skipped(w.visit(in, name, prefix+name, before, below, shown, depth+1)); err != nil {
			return err
		}
	}
	return nil
}

// visit reports one path, and what is below it.
func (w *overlayWalk) visit(upper *os.File, name, path string, before *snapshot.File, below []snapshot.File, shown bool, depth int) error {
	if upper == nil {
		return w.lower(path, before, below, shown, depth)
	}
	if !snapshot.ValidPath(path) || depth >= maxDepth {
		return w.report(path, before, nil, fmt.Errorf("its path is longer, or deeper, than can be kept"))
	}
	st, k, err := w.o.look(int(upper.Fd()), name)
	switch {
	case err != nil:
		return w.report(path, before, nil, err)
	case k == covers || w.o.made[path]:
		if before == nil {
			return nil
		}
		return w.lower(path, before, below, false, depth)
	}
	f := w.up.file(path, &st)
	if f.Link != "" {
		f.Link = "/" + f.Link // the lower root has groups of the same names
	}
	if f.Type == snapshot.Dir {
		return w.folder(upper, name, f, before, below, shown && k != alone, depth)
	}
	if f.Type == snapshot.Symlink {
		f.Target, err = readlink(int(upper.Fd()), name)
	} else {
		f.Xattrs, err = w.xattrs(procFD(int(upper.Fd())) + "/" + name)
	}
	w.o.unheld(before, &f)
	if err := skipped(w.report(path, before, &f, err)); err != nil {
		return err
	}
	return w.gone(path, below, depth)
}

// folder reports a folder of the upper one, and what is below it.
func (w *overlayWalk) folder(upper *os.File, name string, f snapshot.File, before *snapshot.File, below []snapshot.File, shown bool, depth int) error {
	fd, err := openQuiet(int(upper.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return w.report(f.Path, before, &f, err)
	}
	dir := os.NewFile(uintptr(fd), f.Path)
	defer dir.Close()
	f.Xattrs, err = w.xattrs(procFD(fd) + "/.")
	w.o.unheld(before, &f)
	if err := w.report(f.Path, before, &f, err); err != nil {
		return err
	}
	return w.enter(dir, f.Path, below, shown && before != nil && before.Type == snapshot.Dir, depth)
}

// lower reports a path that only the lower root has.
func (w *overlayWalk) lower(path string, before *snapshot.File, below []snapshot.File, shown bool, depth int) error {
	var after *snapshot.File
	if shown {
		after = before
	}
	if err := w.report(path, before, after, nil); err != nil {
		return err
	}
	return w.enter(nil, path, below, shown, depth)
}

// gone reports what lies below a path that is no folder any more.
func (w *overlayWalk) gone(path string, below []snapshot.File, depth int) error {
	return w.enter(nil, path, below, false, depth)
}

func (w *overlayWalk) xattrs(path string) (map[string]string, error) {
	return xattrs(w.up.buf, func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(attr string, b []byte) (int, error) { return unix.Lgetxattr(path, attr, b) })
}

func (w *overlayWalk) report(path string, before, after *snapshot.File, err error) error {
	if err != nil && !errors.As(err, new(*fs.PathError)) {
		err = &fs.PathError{Op: "read", Path: "/" + path, Err: err}
	}
	return w.see(path, before, after, err)
}
