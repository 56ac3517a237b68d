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
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// whiteout begins the name of a delta entry that takes a path away; see "Whiteouts"
// in the OCI image specification.
const whiteout = ".wh."

// xattrPrefix is how PAX records name extended attributes.
const xattrPrefix = "SCHILY.xattr."

// Delta is what a host has beyond its packages.
type Delta struct {
	// Entries are stored over the base. Regular files carry their digest.
	Entries store.Manifest
	// Gone are paths of the base that the host doesn't have, with all below them.
	Gone []string
	// Instead holds the content of files that aren't the host's own.
	Instead map[string][]byte
}

// Key names the content of the delta without its encoding: deltas with equal keys
// are equal.
func (d *Delta) Key() string {
	var b []byte
	for _, p := range d.Gone {
		b = appendKey(b, p)
	}
	return digest.FromBytes(append(d.Entries.Encode(), b...)).Encoded()
}

func appendKey(b []byte, p string) []byte { return append(append(b, p...), 0) }

// early reports whether an entry is read before the packages are laid out: links
// and folders lead package paths, and passwd and group name their owners.
func early(f snapshot.File) bool {
	return f.Type == snapshot.Symlink || f.Type == snapshot.Dir || f.Path == "etc/passwd" || f.Path == "etc/group"
}

// Write writes the delta as one OCI layer in its one spelling: first folders,
// links, passwd and group, then what is gone, then everything else, each part
// sorted; so a root can be laid out after the first two. open returns a host file's content, and is called in the order of the
// entries.
func (d *Delta) Write(ctx context.Context, out io.Writer, open func(f snapshot.File) (io.ReadCloser, error)) error {
	tw := tar.NewWriter(out)
	written := map[string]bool{} // groups of hard links
	part := func(first bool) error {
		for _, f := range d.Entries {
			if early(f) != first {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.entry(tw, f, written, open); err != nil {
				return fmt.Errorf("writing %q to the delta: %w", "/"+f.Path, err)
			}
		}
		return nil
	}
	if err := part(true); err != nil {
		return err
	}
	for _, p := range d.Gone {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: join(path.Dir(p), whiteout+path.Base(p)), Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	return errors.Join(part(false), tw.Close())
}

func (d *Delta) entry(tw *tar.Writer, f snapshot.File, written map[string]bool, open func(snapshot.File) (io.ReadCloser, error)) error {
	h := header(f)
	if f.Link != "" && written[f.Link] {
		h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, f.Link, 0, nil
		return tw.WriteHeader(h)
	}
	if err := tw.WriteHeader(h); err != nil || f.Type != snapshot.Regular {
		return err
	}
	written[f.Link] = f.Link != ""
	if content, ok := d.Instead[f.Path]; ok {
		_, err := tw.Write(content)
		return err
	}
	r, err := open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(tw, io.LimitReader(r, f.Size))
	if err == nil && n != f.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func header(f snapshot.File) *tar.Header {
	h := &tar.Header{
		Name: f.Path, Mode: int64(f.Mode), Uid: int(f.UID), Gid: int(f.GID),
		ModTime: time.Unix(f.MTime, 0), Format: tar.FormatPAX,
	}
	switch f.Type {
	case snapshot.Dir:
		h.Typeflag, h.Name, h.ModTime = tar.TypeDir, f.Path+"/", time.Unix(0, 0)
	case snapshot.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Target
	case snapshot.FIFO:
		h.Typeflag, h.ModTime = tar.TypeFifo, time.Unix(0, 0)
	default:
		h.Typeflag, h.Size = tar.TypeReg, f.Size
	}
	for name, value := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+name] = value
	}
	return h
}

// deltaReader reads a delta in the two steps that making a root needs.
type deltaReader struct {
	blob io.ReadCloser
	tr   *tar.Reader
	next *tar.Header // the first header of the second part
	n    int
}

// openDelta opens the delta of a lock.
func openDelta(st *store.Store, d lock.Delta) (*deltaReader, error) {
	blob, err := st.OpenBlob(d.Digest())
	if err != nil {
		return nil, err
	}
	return &deltaReader{blob: blob, tr: tar.NewReader(bufio.NewReaderSize(blob, 256<<10))}, nil
}

func (d *deltaReader) Close() error { return d.blob.Close() }

// maxEarlyFile bounds passwd and group.
const maxEarlyFile = 16 << 20

// outline is the part of a delta that has to be known before the packages are laid
// out.
type outline struct {
	entries store.Manifest
	gone    []string
	content map[string][]byte // of the files among the entries
}

// outline reads the first part of the delta.
func (d *deltaReader) outline(ctx context.Context) (*outline, error) {
	o := &outline{content: map[string][]byte{}}
	for {
		h, f, err := d.read(ctx)
		if err == io.EOF {
			return o, nil
		}
		if err != nil {
			return nil, err
		}
		if p, ok := whitedOut(f.Path); ok {
			o.gone = append(o.gone, p)
			continue
		}
		if !early(f) || h.Typeflag == tar.TypeLink {
			d.next = h
			return o, nil
		}
		if f.Type == snapshot.Regular {
			if f.Size > maxEarlyFile {
				return nil, fmt.Errorf("delta: %q has %d bytes", "/"+f.Path, f.Size)
			}
			data, err := io.ReadAll(d.tr)
			if err != nil {
				return nil, err
			}
			o.content[f.Path] = data
			f.Digest = digest.FromBytes(data).Encoded()
		}
		o.entries = append(o.entries, f)
	}
}

// whitedOut returns the path that a whiteout takes away.
func whitedOut(p string) (string, bool) {
	base, ok := strings.CutPrefix(path.Base(p), whiteout)
	return join(path.Dir(p), base), ok
}

// files reads what outline left. For a hard link, f.Link names the file that it
// belongs to and there is no content.
func (d *deltaReader) files(ctx context.Context, fn func(f snapshot.File, content io.Reader) error) error {
	for {
		h, f, err := d.read(ctx)
		if err == io.EOF {
			_, err := io.Copy(io.Discard, d.blob) // the digest is checked at its end
			return err
		}
		if err != nil {
			return err
		}
		if _, ok := whitedOut(f.Path); ok || early(f) && h.Typeflag != tar.TypeLink {
			return fmt.Errorf("delta: %q is out of order", "/"+f.Path)
		}
		if h.Typeflag == tar.TypeLink {
			if f.Link, err = memberPath(h.Linkname); err != nil {
				return fmt.Errorf("delta: %w", err)
			}
		}
		if err := fn(f, d.tr); err != nil {
			return err
		}
	}
}

func (d *deltaReader) read(ctx context.Context) (h *tar.Header, f snapshot.File, err error) {
	if err := ctx.Err(); err != nil {
		return nil, f, err
	}
	if h = d.next; h != nil {
		d.next = nil
	} else if h, err = d.tr.Next(); err != nil {
		if err != io.EOF {
			// Where the bytes are damaged that is the better error.
			_, rest := io.Copy(io.Discard, d.blob)
			var mismatch *store.MismatchError
			if errors.As(rest, &mismatch) {
				err = rest
			}
			err = fmt.Errorf("reading delta: %w", err)
		}
		return nil, f, err
	} else if d.n++; d.n > 4*maxEntries {
		return nil, f, fmt.Errorf("delta: it has more than %d entries", 4*maxEntries)
	}
	f, err = fileOf(h)
	return h, f, err
}

func fileOf(h *tar.Header) (f snapshot.File, err error) {
	p, err := memberPath(h.Name)
	if err != nil {
		return f, fmt.Errorf("delta: %w", err)
	}
	f = snapshot.File{Path: p, Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid)}
	switch h.Typeflag {
	case tar.TypeDir:
		f.Type = snapshot.Dir
	case tar.TypeSymlink:
		f.Type, f.Mode, f.Target, f.MTime = snapshot.Symlink, 0o777, h.Linkname, h.ModTime.Unix()
	case tar.TypeFifo:
		f.Type = snapshot.FIFO
	case tar.TypeReg, tar.TypeLink:
		f.Type, f.Size, f.MTime = snapshot.Regular, h.Size, h.ModTime.Unix()
	default:
		return f, fmt.Errorf("delta: %q is of type %q", "/"+p, h.Typeflag)
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if f.Xattrs == nil {
			f.Xattrs = map[string]string{}
		}
		f.Xattrs[name] = value
	}
	return f, nil
}

// apply lays a delta over a base: what is gone goes, then each entry replaces what
// is there. Every entry's folder has to be one in the result.
func apply(base store.Manifest, entries store.Manifest, gone []string) (store.Manifest, error) {
	over := make(map[string]snapshot.File, len(entries))
	for _, f := range entries {
		over[f.Path] = f
	}
	dropped := make(map[string]bool, len(gone))
	for _, p := range gone {
		dropped[p] = true
	}
	out := make(store.Manifest, 0, len(base)+len(entries))
	for _, f := range base { // a folder comes before what is in it
		if dropped[path.Dir(f.Path)] {
			dropped[f.Path] = true
		}
		g, replaced := over[f.Path]
		if replaced && g.Type != snapshot.Dir {
			dropped[f.Path] = true
		}
		if !dropped[f.Path] && !replaced {
			out = append(out, f)
		}
	}
	out = append(out, entries...)
	out.Normalize()
	return out, checkTree(out)
}

// checkTree holds that each path occurs once and lies in a folder.
func checkTree(m store.Manifest) error {
	folders := map[string]bool{".": true}
	for i, f := range m {
		if i > 0 && m[i-1].Path == f.Path {
			return fmt.Errorf("%q occurs twice", "/"+f.Path)
		}
		if f.Path != "." && !folders[path.Dir(f.Path)] {
			return fmt.Errorf("%q lies in no folder", "/"+f.Path)
		}
		if f.Type == snapshot.Dir {
			folders[f.Path] = true
		}
	}
	return nil
}
