package system

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// tree is a system's files, as those see them who look for loaders and interpreters: a
// folder's, or a manifest's.
type tree struct {
	follow func(path string) (real string, k kind)
	names  func(dir string) []string // sorted
	read   func(path string, limit int64) ([]byte, error)
	// program reports whether an executable object lies at a path without links.
	program func(real string) bool
}

// lstat tells what a path of the manifest is.
func (b *builder) lstat(p string) entry {
	i, ok := b.search(p[1:])
	if !ok {
		return entry{}
	}
	switch f := b.files[i]; f.Type {
	case snapshot.Dir:
		return entry{kind: folder}
	case snapshot.Symlink:
		return entry{kind: link, target: f.Target}
	default:
		return entry{kind: file}
	}
}

func (b *builder) search(p string) (int, bool) {
	return slices.BinarySearchFunc(b.files, p, func(f *snapshot.File, p string) int { return cmp.Compare(f.Path, p) })
}

// tree is the manifest for those who look for loaders and interpreters.
func (b *builder) tree(ctx context.Context) tree {
	w := newWalker(b.lstat)
	return tree{follow: w.follow, names: func(dir string) []string { return b.names(w, dir) },
		read: func(p string, limit int64) ([]byte, error) { return b.content(ctx, w, p, limit) },
		program: func(real string) bool {
			i, ok := slices.BinarySearchFunc(b.listed, real[1:], func(r found, p string) int { return cmp.Compare(r.file.Path, p) })
			return ok && b.listed[i].entry != nil && b.listed[i].file.Mode&0o111 != 0
		}}
}

// names are those in a folder, links followed.
func (b *builder) names(w *walker, dir string) (names []string) {
	real, kind := w.follow(dir)
	if kind != folder {
		return nil
	}
	prefix := strings.TrimPrefix(strings.TrimSuffix(real, "/")+"/", "/")
	for i, _ := b.search(prefix); i < len(b.files) && strings.HasPrefix(b.files[i].Path, prefix); {
		name, _, below := strings.Cut(b.files[i].Path[len(prefix):], "/")
		if !below {
			names = append(names, name)
			i++
			continue
		}
		i, _ = b.search(prefix + name + "0") // the byte after the slash: all below is passed over
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (b *builder) content(ctx context.Context, w *walker, p string, limit int64) ([]byte, error) {
	real, kind := w.follow(p)
	if kind != file {
		return nil, fmt.Errorf("reading %s: %w", p, fs.ErrNotExist)
	}
	i, _ := b.search(real[1:])
	f := b.files[i]
	if f.Size > limit {
		return nil, fmt.Errorf("reading %s: %w", p, errTooBig)
	}
	c, err := b.src.Open(ctx, *f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p, err)
	}
	defer c.Close()
	data := make([]byte, f.Size)
	if n, err := c.ReadAt(data, 0); n < len(data) {
		return nil, fmt.Errorf("reading %s: %w", p, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return data, nil
}
