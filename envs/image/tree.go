package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// PackageError says which package could not be unpacked. The cause is a
// *store.MismatchError where the store's copy of it is damaged.
type PackageError struct {
	Package lock.Package
	Err     error
}

func (e *PackageError) Error() string {
	return fmt.Sprintf("unpacking %s %s %s: %v", e.Package.Name, e.Package.Version, e.Package.Architecture, e.Err)
}

func (e *PackageError) Unwrap() error { return e.Err }

// formats are the package formats that can be unpacked, told by their first bytes.
var formats = []struct {
	magic  string
	unpack func(ctx context.Context, r *bufio.Reader, w *writer) (store.Manifest, error)
}{
	{debMagic, unpackDeb},
}

// Unpack makes the tree of a package whose file is in the store; it runs nothing
// of it. The tree is ready to be published.
func Unpack(ctx context.Context, st *store.Store, p lock.Package) (*store.Pending, error) {
	tree, err := unpack(ctx, st, p.Digest(), func(ctx context.Context, r *bufio.Reader, w *writer) (store.Manifest, error) {
		for _, f := range formats {
			if head, _ := r.Peek(len(f.magic)); string(head) == f.magic {
				return f.unpack(ctx, r, w)
			}
		}
		return nil, errors.New("its format is unknown")
	})
	if err != nil {
		return nil, &PackageError{Package: p, Err: err}
	}
	return tree, nil
}

// unpack makes the tree of a blob.
func unpack(ctx context.Context, st *store.Store, d digest.Digest,
	format func(context.Context, *bufio.Reader, *writer) (store.Manifest, error)) (_ *store.Pending, err error) {
	blob, err := st.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	tree, err := st.Begin(store.Trees, d.Encoded())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tree.Discard())
		}
	}()
	w, err := newWriter(tree.Root(), st.Owners())
	if err != nil {
		return nil, err
	}
	defer w.Close()
	r := bufio.NewReaderSize(blob, 256<<10)
	entries, err := format(ctx, r, w)
	// A damaged file explains every other error, so it is read to its end.
	if _, rest := io.Copy(io.Discard, r); rest != nil {
		return nil, rest
	}
	if err != nil {
		return nil, err
	}
	if err := w.finish(entries); err != nil {
		return nil, err
	}
	return tree, tree.WriteManifest(entries)
}

// TreeName is the name of a package's tree in the store.
func TreeName(p lock.Package) string { return p.SHA256 }

// treeBuilder turns the members of a tar file into entries of a tree.
type treeBuilder struct {
	w       *writer
	entries []snapshot.File
	index   map[string]int // into entries, by path
	bytes   int64

	maxBytes   int64
	maxEntries int
	layer      bool // an OCI layer, which brings extended attributes

	records     []tar.Header
	contents    [][]byte
	recordBytes int64
}

func newTreeBuilder(w *writer) *treeBuilder {
	return &treeBuilder{w: w, index: map[string]int{}, maxBytes: maxBytes, maxEntries: maxEntries}
}

// add makes one entry of a package's file list.
func (t *treeBuilder) add(h *tar.Header, r io.Reader) error {
	p, err := memberPath(h.Name)
	if err != nil {
		return err
	}
	if len(t.entries) >= t.maxEntries {
		return fmt.Errorf("it has more than %d entries", t.maxEntries)
	}
	if t.bytes += h.Size; t.bytes > t.maxBytes || h.Size < 0 {
		return fmt.Errorf("%q: all files together are larger than %d bytes", "/"+p, t.maxBytes)
	}
	f := snapshot.File{
		Path: p, Mode: uint32(h.Mode) & 0o7777, MTime: h.ModTime.Unix(),
		UID: uint32(h.Uid), GID: uint32(h.Gid), User: h.Uname, Group: h.Gname,
	}
	if f.User == "root" {
		f.UID, f.User = 0, ""
	}
	if f.Group == "root" {
		f.GID, f.Group = 0, ""
	}
	if t.layer {
		f.Xattrs = xattrs(h)
	}
	if err := t.make(&f, h, r); err != nil {
		return err
	}
	t.index[p] = len(t.entries)
	t.entries = append(t.entries, f)
	return nil
}

func (t *treeBuilder) make(f *snapshot.File, h *tar.Header, r io.Reader) (err error) {
	old, twice := t.index[f.Path]
	if twice && (h.Typeflag != tar.TypeDir || t.entries[old].Type != snapshot.Dir) {
		return fmt.Errorf("%q occurs twice", "/"+f.Path)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		f.Type, f.MTime = snapshot.Dir, 0
		return t.w.folder(f.Path)
	case tar.TypeReg, tar.TypeGNUSparse:
		f.Type, f.Size = snapshot.Regular, h.Size
		f.Digest, err = t.w.file(*f, r)
		return err
	case tar.TypeSymlink:
		if len(h.Linkname) == 0 || len(h.Linkname) > 4095 {
			return fmt.Errorf("%q is a link with an impossible target", "/"+f.Path)
		}
		f.Type, f.Mode, f.Target = snapshot.Symlink, 0o777, h.Linkname
		return t.w.symlink(*f)
	case tar.TypeLink:
		return t.hardlink(f, h.Linkname)
	case tar.TypeFifo:
		f.Type, f.MTime = snapshot.FIFO, 0
		return t.w.fifo(*f)
	default:
		return fmt.Errorf("%q is of type %q, which no package may bring", "/"+f.Path, h.Typeflag)
	}
}

func (t *treeBuilder) hardlink(f *snapshot.File, target string) error {
	to, err := memberPath(target)
	if err != nil {
		return fmt.Errorf("%q is a hard link: %w", "/"+f.Path, err)
	}
	i, ok := t.index[to]
	if !ok || t.entries[i].Type != snapshot.Regular {
		return fmt.Errorf("%q is a hard link to %q, which is no file of the package", "/"+f.Path, "/"+to)
	}
	first := &t.entries[i]
	if first.Link == "" {
		first.Link = first.Path
	}
	name := f.Path
	*f = *first
	f.Path = name
	return t.w.hardlink(to, name)
}

// memberPath is the path of a tar member. Names that lead upwards or start at the
// root are refused, not repaired.
func memberPath(name string) (string, error) {
	p := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if name == "." || name == "./" {
		p = "."
	}
	if !snapshot.ValidPath(p) {
		return "", fmt.Errorf("impossible path %q", name)
	}
	return p, nil
}

// finish adds the folders that only the paths of others name, as root's with mode
// 0755, and returns the entries in order.
func (t *treeBuilder) finish() (store.Manifest, error) {
	last := map[string]snapshot.File{} // a folder may occur twice: the last one counts, as in dpkg
	for _, f := range t.entries {
		last[f.Path] = f
	}
	for _, f := range t.entries {
		for dir := path.Dir(f.Path); ; dir = path.Dir(dir) {
			if _, ok := last[dir]; ok {
				break
			}
			last[dir] = snapshot.File{Path: dir, Type: snapshot.Dir, Mode: 0o755}
		}
	}
	m := make(store.Manifest, 0, len(last))
	for _, f := range last {
		m = append(m, f)
	}
	m.Normalize()
	return m, nil
}
