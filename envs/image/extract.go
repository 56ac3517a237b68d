package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Control reads the members of a Debian package's control.tar, control among them,
// out of a file that is in the store.
func Control(ctx context.Context, st *store.Store, d digest.Digest) (map[string][]byte, error) {
	blob, err := st.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	br := bufio.NewReader(blob)
	if magic, err := io.ReadAll(io.LimitReader(br, int64(len(debMagic)))); err != nil || string(magic) != debMagic {
		return nil, errors.Join(errors.New("it is no .deb: the ar magic is missing"), err)
	}
	for {
		name, size, err := arHeader(br)
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it has no control.tar")
		}
		if err != nil {
			return nil, err
		}
		member := io.LimitReader(br, size)
		if strings.HasPrefix(name, "control.tar") {
			return controlMembers(ctx, name, member)
		}
		if _, err := io.CopyN(io.Discard, br, size+size%2); err != nil {
			return nil, err
		}
	}
}

func controlMembers(ctx context.Context, name string, r io.Reader) (map[string][]byte, error) {
	members := map[string][]byte{}
	t := &treeBuilder{}
	if err := readTar(ctx, name, r, func(h *tar.Header, r io.Reader) error { return t.record(h, r) }); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i, h := range t.records {
		members[h.Name] = t.contents[i]
	}
	if members["control"] == nil {
		return nil, fmt.Errorf("%s: there is no control in it", name)
	}
	return members, nil
}

// ControlFields reads the one paragraph of a control file; names of fields are in the
// form of mail headers: "Pre-Depends".
func ControlFields(control []byte) (map[string][]string, error) { return controlFields(control) }

// Extract copies what packages bring into an empty folder, as a package manager does
// that has no records yet and runs no script: links are links of the root to folders
// ("bin" to "usr/bin"), beside those that packages bring. Of two packages with the same
// file neither counts; of two with the same folder the last one's mode and owner do.
func Extract(ctx context.Context, trees []Tree, links map[string]string, dir string, owners store.Owners) error {
	all := map[string]string{}
	folders := map[string]snapshot.File{}
	for p, target := range links {
		all[p] = target
	}
	for _, t := range trees {
		for _, f := range t.Manifest {
			if f.Type == snapshot.Symlink && !strings.Contains(f.Path, "/") {
				all[f.Path] = f.Target
			}
		}
	}
	resolve := snapshot.NewLinks(all)
	for _, t := range trees {
		for _, f := range t.Manifest {
			if f.Type != snapshot.Dir {
				continue
			}
			p, err := resolve.Dir(f.Path)
			if err != nil {
				return err
			}
			f.Path = p
			folders[p] = f
		}
	}
	base, err := Compose(trees, all, Names{})
	if err != nil {
		return err
	}
	var made []snapshot.File
	for p, target := range all {
		if _, ok := base.Manifest.Lookup(p); !ok {
			made = append(made, snapshot.File{Path: p, Type: snapshot.Symlink, Target: target})
		}
	}
	base.Manifest = append(base.Manifest, made...)
	for i, f := range base.Manifest {
		if like, ok := folders[f.Path]; ok && f.Type == snapshot.Dir {
			base.Manifest[i].Mode, base.Manifest[i].UID, base.Manifest[i].GID = like.Mode, like.UID, like.GID
		}
	}
	base.Manifest = slices.DeleteFunc(base.Manifest, isRecord)
	base.Manifest.Normalize()
	return copyBase(ctx, base, trees, dir, owners)
}

func copyBase(ctx context.Context, base *Base, trees []Tree, dir string, owners store.Owners) (err error) {
	b := &rootBuilder{trees: trees, manifest: base.Manifest, base: base, groups: map[string]string{}}
	if b.w, err = newWriter(dir, owners); err != nil {
		return err
	}
	defer b.w.Close()
	for i, f := range base.Manifest {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case f.Type == snapshot.Dir:
			err = b.w.folder(f.Path)
		case f.Type == snapshot.Regular, f.Type == snapshot.Symlink, f.Type == snapshot.FIFO:
			err = b.copy(f)
		default:
			err = fmt.Errorf("%q is a file of no kind that packages have", path.Join("/", f.Path))
		}
		if err != nil {
			return err
		}
	}
	return b.w.finish(base.Manifest)
}
