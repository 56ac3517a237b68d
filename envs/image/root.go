package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// RootfsError says that a lock didn't lead to the root filesystem that it names.
type RootfsError struct {
	Want, Got string
	Path      string // the first path that differs; "" where the other side isn't known
}

func (e *RootfsError) Error() string {
	s := fmt.Sprintf("the root filesystem came out as %s instead of %s", e.Got, e.Want)
	if e.Path != "" {
		s += fmt.Sprintf("; the first path that differs is %q", "/"+e.Path)
	}
	return s
}

// MakeRoot makes the root filesystem of a lock from the trees of its packages, which
// may come in any order, and its delta. jobs bounds what runs at once.
func MakeRoot(ctx context.Context, st *store.Store, l *lock.Lock, trees []Tree, name string, jobs int) (_ *store.Pending, err error) {
	root, err := st.Begin(store.Roots, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Discard())
		}
	}()
	b, err := newRootBuilder(ctx, st, l, trees, root.Root())
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := b.lay(ctx, jobs); err != nil {
		return nil, err
	}
	if err := b.delta.files(ctx, b.file); err != nil {
		return nil, err
	}
	m, err := apply(b.manifest, b.added, nil)
	if err != nil {
		return nil, err
	}
	if got := m.Digest(); got != l.Rootfs.Digest {
		return nil, &RootfsError{Want: l.Rootfs.Digest, Got: got, Path: firstDifference(st, l.Rootfs.Digest, m)}
	}
	if err := b.w.finish(m); err != nil {
		return nil, err
	}
	return root, root.WriteManifest(m)
}

// Outcome computes what MakeRoot would arrive at, without making anything.
func Outcome(base *Base, d *Delta) (store.Manifest, error) {
	return apply(base.Manifest, d.Entries, d.Gone)
}

type rootBuilder struct {
	trees    []Tree
	base     *Base
	delta    *deltaReader
	outline  *outline
	dir      string
	w        *writer
	manifest store.Manifest // the base under the outline
	added    store.Manifest // the delta's files
	groups   map[string]string
	content  map[string]int // added files by path, for hard links to them
}

func newRootBuilder(ctx context.Context, st *store.Store, l *lock.Lock, trees []Tree, dir string) (*rootBuilder, error) {
	b := &rootBuilder{trees: trees, dir: dir, groups: map[string]string{}, content: map[string]int{}}
	var err error
	if b.delta, err = openDelta(st, l.Delta); err != nil {
		return nil, err
	}
	if b.outline, err = b.delta.outline(ctx); err != nil {
		b.delta.Close()
		return nil, err
	}
	links := map[string]string{}
	for _, f := range b.outline.entries {
		if f.Type == snapshot.Symlink {
			links[f.Path] = f.Target
		}
	}
	names := ParseNames(b.outline.content["etc/passwd"], b.outline.content["etc/group"])
	if b.base, err = Compose(trees, links, names); err == nil {
		b.manifest, err = apply(b.base.Manifest, b.outline.entries, b.outline.gone)
	}
	if err == nil {
		b.w, err = newWriter(dir)
	}
	if err != nil {
		b.delta.Close()
		return nil, err
	}
	return b, nil
}

func (b *rootBuilder) close() {
	b.delta.Close()
	b.w.Close()
}

// lay makes the folders and links every other entry of the base into them.
func (b *rootBuilder) lay(ctx context.Context, jobs int) error {
	early := map[string]bool{}
	for _, f := range b.outline.entries {
		early[f.Path] = true
	}
	var linked store.Manifest
	for _, f := range b.manifest {
		switch _, fromTree := b.base.sources[f.Path]; {
		case f.Type == snapshot.Dir:
			if err := b.w.folder(f.Path); err != nil {
				return err
			}
		case fromTree && !early[f.Path]:
			linked = append(linked, f)
		default:
			if err := b.early(f); err != nil {
				return err
			}
		}
	}
	rest, err := b.linkAll(ctx, linked, max(jobs, 1))
	if err != nil {
		return err
	}
	for _, f := range rest {
		if err := b.copyFromTree(f); err != nil {
			return err
		}
	}
	return nil
}

// early makes a link or small file of the delta's first part.
func (b *rootBuilder) early(f snapshot.File) error {
	if f.Type == snapshot.Symlink {
		return b.w.symlink(f)
	}
	_, err := b.w.file(f, newByteReader(b.outline.content[f.Path]))
	return err
}

// linkAll hard-links entries out of their trees and returns those that have to be
// copied: where an owner differs, or the file system won't link.
func (b *rootBuilder) linkAll(ctx context.Context, entries store.Manifest, jobs int) (rest store.Manifest, err error) {
	treeDirs := make([]int, len(b.trees))
	for i := range treeDirs {
		treeDirs[i] = -1
	}
	defer func() {
		for _, fd := range treeDirs {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}()
	for i, t := range b.trees {
		fd, err := unix.Open(t.Item.Root(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: t.Item.Root(), Err: err}
		}
		treeDirs[i] = fd
	}
	parts := make([]store.Manifest, jobs)
	g, ctx := errgroup.WithContext(ctx)
	for j := range jobs {
		part := entries[len(entries)*j/jobs : len(entries)*(j+1)/jobs]
		g.Go(func() (err error) {
			parts[j], err = b.linkPart(ctx, part, treeDirs)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, p := range parts {
		rest = append(rest, p...)
	}
	return rest, nil
}

func (b *rootBuilder) linkPart(ctx context.Context, entries store.Manifest, treeDirs []int) (rest store.Manifest, err error) {
	w, err := newWriter(b.dir)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	for i, f := range entries {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		from := b.base.sources[f.Path]
		if from.owner && w.chown {
			rest = append(rest, f)
			continue
		}
		dirfd, base, err := w.at(f.Path)
		if err != nil {
			return nil, err
		}
		err = unix.Linkat(treeDirs[from.tree], from.path, dirfd, base, 0)
		switch {
		case errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM):
			rest = append(rest, f)
		case err != nil:
			return nil, &os.LinkError{Op: "link", Old: filepath.Join(b.trees[from.tree].Item.Root(), from.path), New: "/" + f.Path, Err: err}
		}
	}
	return rest, nil
}

func (b *rootBuilder) copyFromTree(f snapshot.File) error {
	if first, ok := b.groups[f.Link]; ok && f.Link != "" {
		return b.w.hardlink(first, f.Path)
	}
	switch f.Type {
	case snapshot.Symlink:
		return b.w.symlink(f)
	case snapshot.FIFO:
		return b.w.fifo(f)
	}
	from := b.base.sources[f.Path]
	r, err := os.Open(filepath.Join(b.trees[from.tree].Item.Root(), from.path))
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := b.w.file(f, r)
	if err == nil && got != f.Digest {
		err = fmt.Errorf("copying %q: its tree holds other bytes than its manifest says", "/"+f.Path)
	}
	if f.Link != "" {
		b.groups[f.Link] = f.Path
	}
	return err
}

// file makes one file of the delta.
func (b *rootBuilder) file(f snapshot.File, content io.Reader) (err error) {
	if old, ok := b.manifest.Lookup(f.Path); ok {
		if old.Type == snapshot.Dir {
			return b.replaceFolder(f, content)
		}
		if err := b.w.remove(f.Path); err != nil {
			return fmt.Errorf("replacing %q: %w", "/"+f.Path, err)
		}
	}
	switch {
	case f.Type == snapshot.FIFO:
		err = b.w.fifo(f)
	case f.Link != "":
		i, ok := b.content[f.Link]
		if !ok {
			return fmt.Errorf("delta: %q is a hard link to %q, which it doesn't hold", "/"+f.Path, "/"+f.Link)
		}
		first := &b.added[i]
		first.Link = first.Path
		name := f.Path
		f = *first
		f.Path = name
		err = b.w.hardlink(first.Path, name)
	default:
		f.Digest, err = b.w.file(f, content)
	}
	b.content[f.Path] = len(b.added)
	b.added = append(b.added, f)
	return err
}

// replaceFolder puts a file where the base has a folder.
func (b *rootBuilder) replaceFolder(f snapshot.File, content io.Reader) error {
	b.w.forget()
	top, err := os.OpenRoot(b.dir)
	if err != nil {
		return err
	}
	defer top.Close()
	if err := top.RemoveAll(f.Path); err != nil {
		return err
	}
	kept := b.manifest[:0:0]
	gone := map[string]bool{f.Path: true}
	for _, e := range b.manifest {
		if gone[e.Path] || gone[path.Dir(e.Path)] {
			gone[e.Path] = true
			continue
		}
		kept = append(kept, e)
	}
	b.manifest = kept
	return b.file(f, content)
}

// firstDifference names the first path that isn't as the wanted manifest says, if
// the store has that manifest.
func firstDifference(st *store.Store, want string, m store.Manifest) string {
	w, err := LoadManifest(st, want)
	if err != nil {
		return ""
	}
	for i := 0; i < len(m) || i < len(w); i++ {
		switch {
		case i >= len(w):
			return m[i].Path
		case i >= len(m):
			return w[i].Path
		case m[i].Path != w[i].Path:
			return min(m[i].Path, w[i].Path)
		case !m[i].Same(w[i]):
			return m[i].Path
		}
	}
	return ""
}
