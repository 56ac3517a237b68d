package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// whiteout begins the name of a delta entry that takes a path away; see "Whiteouts"
// in the OCI image specification.
const whiteout = ".wh."

// xattrPrefix is how PAX records name extended attributes.
const xattrPrefix = "SCHILY.xattr."

// The keyword of a PAX record ends at the first "="; an attribute's name may hold one,
// and is spelled as GNU tar does then.
var (
	paxName   = strings.NewReplacer("%", "%25", "=", "%3D")
	xattrName = strings.NewReplacer("%25", "%", "%3D", "=")
)

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
	h := sha256.New()
	d.Entries.WriteTo(h) //nolint:errcheck // a hash takes everything
	for _, p := range d.Gone {
		io.WriteString(h, p+"\x00") //nolint:errcheck // as above
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Write writes the delta as one OCI layer in its one spelling: the entries in the
// order of their paths, then what is gone. open returns a host file's content.
func (d *Delta) Write(ctx context.Context, out io.Writer, open func(f snapshot.File) (io.ReadCloser, error)) error {
	tw := tar.NewWriter(out)
	written := map[string]bool{} // groups of hard links
	for _, f := range d.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.entry(tw, f, written, open); err != nil {
			return fmt.Errorf("writing %q to the delta: %w", "/"+f.Path, err)
		}
	}
	for _, p := range d.Gone {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: join(path.Dir(p), whiteout+path.Base(p)), Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("writing %q to the delta: %w", "/"+p, err)
		}
	}
	return tw.Close()
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
	return copyContent(tw, r, f.Size)
}

// copyContent copies a file's size bytes; less is an error.
func copyContent(w io.Writer, r io.Reader, size int64) error {
	_, err := io.CopyN(w, r, size)
	if err == io.EOF {
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
		h.PAXRecords[xattrPrefix+paxName.Replace(name)] = value
	}
	return h
}

// UnpackDelta makes the tree of a delta that is in the store: its layer as it is,
// whiteouts as the empty files that stand for them. The tree is ready to be
// published.
func UnpackDelta(ctx context.Context, st *store.Store, d lock.Delta) (*store.Pending, error) {
	tree, err := unpack(ctx, st, d.Digest(), func(ctx context.Context, r *bufio.Reader, w *writer) (store.Manifest, error) {
		t := newTreeBuilder(w)
		t.layer, t.maxBytes, t.maxEntries = true, d.Size, 10*maxEntries
		if err := readTar(ctx, "delta.tar", r, t.add); err != nil {
			return nil, err
		}
		return t.finish()
	})
	if err != nil {
		return nil, fmt.Errorf("unpacking the delta %s: %w", d.Digest(), err)
	}
	return tree, nil
}

// xattrs are the extended attributes of a layer's entry.
func xattrs(h *tar.Header) map[string]string {
	var found map[string]string
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			if found == nil {
				found = map[string]string{}
			}
			found[xattrName.Replace(name)] = value
		}
	}
	return found
}

// splitLayer returns the entries of an unpacked delta, and what it takes away.
func splitLayer(m store.Manifest) (entries store.Manifest, gone []string) {
	for _, f := range m {
		if base, ok := strings.CutPrefix(path.Base(f.Path), whiteout); ok && base != "" {
			gone = append(gone, join(path.Dir(f.Path), base))
		} else {
			entries = append(entries, f)
		}
	}
	return entries, gone
}

// apply lays a delta over a base: what is gone goes, then each entry replaces what
// is there. Every entry's folder has to be one in the result. Both are sorted.
func apply(base, entries store.Manifest, gone []string) (store.Manifest, error) {
	dropped := make(map[string]bool, len(gone))
	for _, p := range gone {
		dropped[p] = true
	}
	out := make(store.Manifest, 0, len(base)+len(entries))
	group := func(f snapshot.File, of string) snapshot.File {
		if f.Link != "" {
			f.Link = of + f.Link // a group never spans the two
		}
		return f
	}
	for _, f := range base { // a folder comes before what is in it
		if dropped[path.Dir(f.Path)] {
			dropped[f.Path] = true
		}
		g, replaced := entries.Lookup(f.Path)
		if replaced && g.Type != snapshot.Dir {
			dropped[f.Path] = true
		}
		if !dropped[f.Path] && !replaced {
			out = append(out, group(f, "base:"))
		}
	}
	for _, f := range entries {
		out = append(out, group(f, "delta:"))
	}
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
