package host

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// Image is a host whose root is an image on disk: an OCI layout, or what docker save
// writes. Its layers are merged once, when it is opened; contents are read from the
// layers, which lie decompressed in a temporary folder where they were compressed.
type Image struct {
	*listing
	platform *v1.Platform
	archive  *archive
	blobs    []*blob
	places   []place // sorted by key
	spool    string
}

var _ snapshot.Host = (*Image)(nil)

// place is where the content of a regular file lies.
type place struct {
	key  [16]byte // of its path
	blob uint32
	start
	size int64
}

func placeKey(path string) [16]byte {
	sum := sha256.Sum256([]byte(path))
	return [16]byte(sum[:16])
}

func comparePlaces(a, b place) int { return slices.Compare(a.key[:], b.key[:]) }

// imageError says what is wrong with an image, and what helps.
type imageError struct {
	name string
	err  error
}

func (e *imageError) Error() string { return fmt.Sprintf("reading image %s: %v", e.name, e.err) }
func (e *imageError) Unwrap() error { return e.err }

// withHint is an error with a way out.
type withHint struct {
	error
	hint string
}

func (e *withHint) Unwrap() error { return e.error }
func (e *withHint) Hint() string  { return e.hint }

// OpenImage opens the image in a file or a folder. ref chooses among several: a tag, a
// digest or a platform, or some of them with commas between; "" where there is one for
// this machine. dir is a folder for temporary files, which Close removes.
func OpenImage(ctx context.Context, name, ref, dir string, progress snapshot.Progress) (*Image, error) {
	im := &Image{spool: dir}
	if err := im.open(ctx, name, ref, progress); err != nil {
		im.Close() //nolint:errcheck // there is an error already
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &imageError{name, err}
	}
	return im, nil
}

func (im *Image) open(ctx context.Context, name, ref string, progress snapshot.Progress) (err error) {
	s := &spool{dir: im.spool, progress: progress}
	if im.archive, err = openArchive(ctx, name, s); err != nil {
		return err
	}
	all, err := im.archive.candidates()
	if err != nil {
		return err
	}
	chosen, err := choose(all, ref, name)
	if err != nil {
		return err
	}
	im.platform = chosen.platform
	layers, err := im.archive.layers(chosen)
	if err != nil {
		return err
	}
	if im.blobs, err = s.unpack(ctx, im.archive, layers); err != nil {
		return err
	}
	if im.listing, err = newListing(im.spool); err != nil {
		return err
	}
	return im.merge(ctx, layers, progress)
}

// merge applies the layers, and lists what comes out.
func (im *Image) merge(ctx context.Context, layers []layer, progress snapshot.Progress) error {
	t := newTree()
	for i, l := range layers {
		progress.Report(snapshot.Event{Stage: "merging layers", Done: int64(i), Total: int64(len(layers)), Unit: "layers"})
		if err := t.layer(ctx, im.blobs[i], uint32(i), l.diffID.String()); err != nil {
			return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(layers), l.label(), err)
		}
	}
	places, err := t.list(im.listing)
	if err != nil {
		return err
	}
	im.places = places
	slices.SortFunc(im.places, comparePlaces)
	return im.done()
}

// list writes the finished tree, and tells where contents are. Nothing is left of it.
func (t *tree) list(l *listing) ([]place, error) {
	places := make([]place, 0, t.nodes)
	var walk func(n *node, path string, depth int) error
	walk = func(n *node, path string, depth int) error {
		in := n.in
		f := snapshot.File{Path: path, Type: in.typ, Mode: in.mode, UID: in.uid, GID: in.gid, Size: in.size,
			MTime: in.mtime, Target: in.target, Change: in.change}
		if in.typ == snapshot.Regular {
			if in.names > 1 && in.first == "" {
				in.first = path
			}
			f.Link = in.first
			places = append(places, place{placeKey(path), in.blob, in.start, in.size})
		}
		if in.xattrs != nil {
			l.xattrs[path] = in.xattrs
		}
		if err := t.failed[in]; err != nil {
			l.failed[path] = err
		}
		if depth >= maxDepth && in.typ == snapshot.Dir {
			l.failed[path] = fmt.Errorf("more than %d folders deep", maxDepth)
			return l.add(f)
		}
		if err := l.add(f); err != nil {
			return err
		}
		prefix := path + "/"
		if path == "." {
			prefix = ""
		}
		for _, name := range slices.Sorted(maps.Keys(n.kids)) {
			if err := walk(n.kids[name], prefix+name, depth+1); err != nil {
				return err
			}
		}
		n.kids = nil
		return nil
	}
	err := walk(t.root, ".", 0)
	t.root = nil
	return places, err
}

// Architecture is the one that the image's configuration names, as Debian calls it;
// "" where it names none that is known.
func (im *Image) Architecture() string {
	if im.platform == nil {
		return ""
	}
	return debianArchitecture(im.platform.Architecture, im.platform.Variant)
}

// Live implements snapshot.Host: an image doesn't run.
func (im *Image) Live(context.Context) (snapshot.Live, error) { return snapshot.Live{}, nil }

// Close removes the temporary files.
func (im *Image) Close() error {
	var errs []error
	if im.listing != nil {
		errs = append(errs, im.listing.Close())
	}
	for _, b := range im.blobs {
		errs = append(errs, b.close())
	}
	if im.archive != nil {
		errs = append(errs, im.archive.close())
	}
	return errors.Join(append(errs, os.RemoveAll(im.spool))...)
}

// Read implements snapshot.Host. It goes through each layer once, in its order.
func (im *Image) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	type found struct {
		path  string
		place place
	}
	var there []found
	for _, p := range paths {
		at, err := im.locate(ctx, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			there = append(there, found{p, at})
			continue
		}
		if err := fn(p, nil, &fs.PathError{Op: "open", Path: "/" + p, Err: err}); err != nil {
			return err
		}
	}
	slices.SortFunc(there, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.place.blob, b.place.blob), cmp.Compare(a.place.at, b.place.at))
	})
	for _, f := range there {
		if err := ctx.Err(); err != nil {
			return err
		}
		content, err := f.place.open(im.blobs[f.place.blob])
		if err := fn(f.path, content, err); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// open begins to read a content.
func (p *place) open(b *blob) (io.Reader, error) {
	if p.skip == 0 {
		return b.section(p.at, p.size), nil
	}
	tr := tar.NewReader(b.section(p.at, b.size-p.at))
	for range p.skip {
		if _, err := tr.Next(); err != nil {
			return nil, err
		}
	}
	return tr, nil
}

// locate finds a file's content, or says why it has none.
func (im *Image) locate(ctx context.Context, p string) (place, error) {
	i, ok := slices.BinarySearchFunc(im.places, place{key: placeKey(p)}, comparePlaces)
	if ok {
		return im.places[i], nil
	}
	if _, ok, err := im.lookup(ctx, p); err != nil {
		return place{}, err
	} else if ok {
		return place{}, errNotRegular
	}
	return place{}, unix.ENOENT
}
