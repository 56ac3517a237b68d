package image

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Below is the root that a layer is made for. It stays as it is: what the layer doesn't
// hold is seen through it.
type Below struct {
	Manifest store.Manifest
	Names    Names
}

// Links are the symbolic links of the root.
func (b Below) Links() map[string]string { return b.links(nil) }

// links are the symbolic links of the root, and of a layer that comes above it.
func (b Below) links(above store.Manifest) map[string]string {
	links := map[string]string{}
	for _, m := range []store.Manifest{b.Manifest, above} {
		for _, f := range m {
			if f.Type == snapshot.Symlink {
				links[f.Path] = f.Target
			} else {
				delete(links, f.Path)
			}
		}
	}
	return links
}

// ComposeAbove lays the trees of packages over each other as they come to lie on a root.
// above has the links that aren't the root's, and lead paths of packages all the same.
// What the root has already is left out of it.
func (b Below) ComposeAbove(trees []Tree, above store.Manifest) (*Base, error) {
	base, err := Compose(trees, b.links(above), b.Names)
	if err != nil {
		return nil, err
	}
	kept := base.Manifest[:0]
	for _, f := range base.Manifest {
		if _, there := b.Manifest.Lookup(f.Path); there && f.Type != snapshot.Dir {
			delete(base.sources, f.Path)
			continue
		}
		kept = append(kept, f)
	}
	base.Manifest = kept
	base.Manifest.Normalize()
	return base, nil
}

// LayerManifest is what a layer holds: what packages bring and the root doesn't have,
// and the delta over that. Folders that the root has are as they are there, for an overlay
// shows the uppermost one's mode and owner. A layer takes nothing away.
func (b Below) LayerManifest(base *Base, entries store.Manifest, gone []string) (store.Manifest, error) {
	m, err := apply(base.Manifest, entries, gone)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{".": true} // folders that the root hasn't, or that hold something
	out := make(store.Manifest, 0, len(m))
	for i := len(m) - 1; i >= 0; i-- { // what is in a folder comes first
		f := m[i]
		old, there := b.Manifest.Lookup(f.Path)
		switch {
		case there && (old.Type == snapshot.Dir) != (f.Type == snapshot.Dir):
			return nil, fmt.Errorf("%q is a folder either in the root or in the layer above it, and not in both", "/"+f.Path)
		case there && f.Type == snapshot.Dir && !used[f.Path]:
			continue
		case there && f.Type == snapshot.Dir:
			f = old
		}
		used[path.Dir(f.Path)] = true
		out = append(out, f)
	}
	out.Normalize()
	return out, nil
}

// MakeLayer makes a layer out of links into the trees of packages, which may come in any
// order, and of its delta. Whether it is the one with the digest want is known before
// anything is made. jobs bounds what runs at once.
func MakeLayer(ctx context.Context, st *store.Store, below Below, packages []Tree, delta Tree, want, name string, jobs int) (_ *store.Pending, err error) {
	entries, gone := splitLayer(delta.Manifest)
	base, err := below.ComposeAbove(packages, entries)
	if err != nil {
		return nil, err
	}
	m, err := below.LayerManifest(base, entries, gone)
	if err != nil {
		return nil, err
	}
	if got := m.Digest(); got != want {
		return nil, &RootfsError{What: "the tools layer", Want: want, Got: got, Path: firstDifference(st, want, m)}
	}
	b := &rootBuilder{trees: append(packages[:len(packages):len(packages)], delta), manifest: m, base: base,
		delta: make(map[string]bool, len(entries)), groups: map[string]string{}}
	for _, f := range entries {
		b.delta[f.Path] = true
	}
	layer, err := st.Begin(store.Layers, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, layer.Discard())
		}
	}()
	if err := b.make(ctx, layer.Root(), st.Owners(), max(jobs, 1)); err != nil {
		return nil, err
	}
	return layer, layer.WriteManifest(m)
}
