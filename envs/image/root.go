package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// RootfsError says that a lock didn't lead to the root filesystem, or the layer above
// one, that it names.
type RootfsError struct {
	What      string // "" for the root filesystem
	Want, Got string
	Path      string // the first path that differs; "" where the other side isn't known
}

func (e *RootfsError) Error() string {
	s := fmt.Sprintf("%s came out as %s instead of %s", cmp.Or(e.What, "the root filesystem"), e.Got, e.Want)
	if e.Path != "" {
		s += fmt.Sprintf("; the first path that differs is %q", "/"+e.Path)
	}
	return s
}

// MakeRoot makes the root filesystem of a lock out of links into the trees of its
// packages, which may come in any order, and of its delta. Whether the lock's
// digest is met is known before anything is made. jobs bounds what runs at once.
func MakeRoot(ctx context.Context, st *store.Store, l *lock.Lock, packages []Tree, delta Tree, name string, jobs int) (_ *store.Pending, err error) {
	b, err := layOut(packages, delta)
	if err != nil {
		return nil, err
	}
	if got := b.manifest.Digest(); got != l.Rootfs.Digest {
		return nil, &RootfsError{Want: l.Rootfs.Digest, Got: got, Path: firstDifference(st, l.Rootfs.Digest, b.manifest)}
	}
	root, err := st.Begin(store.Roots, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Discard())
		}
	}()
	if err := b.make(ctx, root.Root(), st.Owners(), max(jobs, 1)); err != nil {
		return nil, err
	}
	return root, root.WriteManifest(b.manifest)
}

// Outcome computes what MakeRoot would arrive at, without making anything.
func Outcome(base *Base, d *Delta) (store.Manifest, error) {
	return apply(base.Manifest, d.Entries, d.Gone)
}

// rootBuilder knows of each entry which tree it is linked from.
type rootBuilder struct {
	trees    []Tree // the delta's is the last
	manifest store.Manifest
	base     *Base
	delta    map[string]bool // paths that the delta holds

	w      *writer
	groups map[string]string // hard links among what had to be copied
}

// maxAccounts bounds passwd and group.
const maxAccounts = 16 << 20

func layOut(packages []Tree, delta Tree) (*rootBuilder, error) {
	entries, gone := splitLayer(delta.Manifest)
	links := map[string]string{}
	held := make(map[string]bool, len(entries))
	for _, f := range entries {
		held[f.Path] = true
		if f.Type == snapshot.Symlink {
			links[f.Path] = f.Target
		}
	}
	account := func(p string) []byte { // what isn't there names nobody
		if f, ok := delta.Manifest.Lookup(p); !ok || f.Type != snapshot.Regular {
			return nil
		}
		f, err := os.Open(filepath.Join(delta.Item.Root(), p))
		if err != nil {
			return nil
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxAccounts))
		if err != nil {
			return nil
		}
		return data
	}
	base, err := Compose(packages, links, ParseNames(account("etc/passwd"), account("etc/group")))
	if err != nil {
		return nil, err
	}
	m, err := apply(base.Manifest, entries, gone)
	if err != nil {
		return nil, err
	}
	return &rootBuilder{trees: append(packages[:len(packages):len(packages)], delta), manifest: m, base: base,
		delta: held, groups: map[string]string{}}, nil
}

// source is where the content of an entry lies.
func (b *rootBuilder) source(p string) source {
	if b.delta[p] {
		return source{tree: len(b.trees) - 1, path: p}
	}
	return b.base.sources[p]
}

func (b *rootBuilder) make(ctx context.Context, dir string, owners store.Owners, jobs int) (err error) {
	if b.w, err = newWriter(dir, owners); err != nil {
		return err
	}
	defer b.w.Close()
	for i := range b.manifest {
		if f := &b.manifest[i]; f.Type == snapshot.Dir {
			if err := b.w.folder(f.Path); err != nil {
				return err
			}
		}
	}
	rest, err := b.linkAll(ctx, dir, jobs)
	if err != nil {
		return err
	}
	for _, f := range rest {
		if err := b.copy(f); err != nil {
			return err
		}
	}
	return b.w.finish(b.manifest)
}

// linkAll hard-links all but folders out of their trees and returns what has to be
// copied: where an owner differs, or the file system won't link.
func (b *rootBuilder) linkAll(ctx context.Context, dir string, jobs int) (rest store.Manifest, err error) {
	trees := make([]*os.File, 0, len(b.trees))
	defer func() {
		for _, t := range trees {
			t.Close()
		}
	}()
	for _, t := range b.trees {
		d, err := os.OpenFile(t.Item.Root(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		trees = append(trees, d)
	}
	parts := make([]store.Manifest, jobs)
	g, ctx := errgroup.WithContext(ctx)
	for j := range jobs {
		part := b.manifest[len(b.manifest)*j/jobs : len(b.manifest)*(j+1)/jobs]
		g.Go(func() (err error) {
			parts[j], err = b.linkPart(ctx, dir, part, trees)
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

func (b *rootBuilder) linkPart(ctx context.Context, dir string, entries store.Manifest, trees []*os.File) (rest store.Manifest, err error) {
	w, err := newWriter(dir, b.w.owners)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	for i, f := range entries {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if f.Type == snapshot.Dir {
			continue
		}
		from := b.source(f.Path)
		if from.owner && w.owners.Any() {
			rest = append(rest, f)
			continue
		}
		dirfd, base, err := w.at(f.Path)
		if err != nil {
			return nil, err
		}
		err = unix.Linkat(int(trees[from.tree].Fd()), from.path, dirfd, base, 0)
		switch {
		case errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM):
			rest = append(rest, f)
		case err != nil:
			return nil, &os.LinkError{Op: "link", Old: filepath.Join(trees[from.tree].Name(), from.path), New: "/" + f.Path, Err: err}
		}
	}
	return rest, nil
}

// copy makes an entry that can't be a link into its tree.
func (b *rootBuilder) copy(f snapshot.File) error {
	if first, ok := b.groups[f.Link]; ok && f.Link != "" {
		return b.w.hardlink(first, f.Path)
	}
	switch f.Type {
	case snapshot.Symlink:
		return b.w.symlink(f)
	case snapshot.FIFO:
		return b.w.fifo(f)
	}
	from := b.source(f.Path)
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
