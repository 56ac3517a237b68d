package envs

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// indexFiles are the files of a release that an index is made with, and where their
// contents are. Of a snapshot, which may be large, it holds on to nothing else.
type indexFiles struct {
	files    store.Manifest
	trees    map[string][2]string // of what packages bring: the folder of a tree, and the path in it
	instead  map[string][]byte    // of what was made
	contents *contents            // of the rest, which the delta brings
	// extracted are what the store's delta gave of it.
	extracted map[string]memory
}

// indexed picks the files that an index is made with out of a release's manifest. Those
// of the delta are as the host has them.
func (s *snapshotter) indexed(base *image.Base, trees []image.Tree, delta *image.Delta, manifest store.Manifest) *indexFiles {
	wanted := 0
	for _, f := range manifest {
		if system.Wants(f) {
			wanted++
		}
	}
	x := &indexFiles{files: make(store.Manifest, 0, wanted), trees: map[string][2]string{}, instead: map[string][]byte{}, contents: s.contents}
	for _, f := range manifest {
		if !system.Wants(f) {
			continue
		}
		own, kept := delta.Entries.Lookup(f.Path)
		made, replaced := delta.Instead[f.Path]
		switch dir, p, ok := base.Where(trees, f.Path); {
		case replaced:
			x.instead[f.Path] = made
		case kept:
			f = own
		case ok && f.Type == snapshot.Regular:
			x.trees[f.Path] = [2]string{dir, p}
		}
		x.files = append(x.files, f)
	}
	return x
}

// open opens a file wherever its content is.
func (x *indexFiles) open(ctx context.Context, f snapshot.File) (system.Content, error) {
	if made, ok := x.instead[f.Path]; ok {
		return memory{bytes.NewReader(made)}, nil
	}
	if at, ok := x.trees[f.Path]; ok {
		return os.OpenInRoot(at[0], at[1])
	}
	if e, ok := x.extracted[f.Path]; ok {
		return e, nil
	}
	return x.contents.reopen(ctx, f)
}

// memory is a content that lies in memory, or in a larger file.
type memory struct{ io.ReaderAt }

func (memory) Close() error { return nil }

// installed are the packages of a host as an index has them, and who brought which of
// some files.
func installed(db *snapshot.Database, links map[string]string, files store.Manifest) ([]system.Package, func(path string) string) {
	resolve := snapshot.NewLinks(links)
	moved := map[string]snapshot.Diversion{}
	for _, d := range db.Diversions {
		moved[resolve.Locate(d.From)] = d
	}
	owners := map[string]string{}
	var packages []system.Package
	for i := range db.Packages {
		p := &db.Packages[i]
		if p.State == "config-files" {
			continue
		}
		packages = append(packages, system.Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture,
			Provides: provides(p.Control)})
		for _, name := range p.Files {
			real := resolve.Locate(name)
			if d, ok := moved[real]; ok && d.By != p.Name {
				real = resolve.Locate(d.To)
			}
			if f, ok := files.Lookup(real); ok && f.Type != snapshot.Dir && owners[real] == "" {
				owners[real] = p.Name
			}
		}
	}
	return packages, func(p string) string { return owners[p] }
}

// provides are the entries of a package's Provides field (deb-control(5)), as far as its
// control file can be read.
func provides(control []byte) []string {
	fields, _ := image.ControlFields(control)
	var all []string
	for entry := range strings.SplitSeq(strings.Join(fields["Provides"], ","), ",") {
		if entry = strings.Join(strings.Fields(entry), " "); entry != "" {
			all = append(all, entry)
		}
	}
	return all
}
