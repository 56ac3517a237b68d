package host

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// Bounds of an image. Its tree is in memory while layers are merged: some 200 bytes
// for each entry.
const (
	maxNodes   = 3_000_000
	maxHeaders = 20_000_000 // entries of all layers
	maxNames   = 512 << 20  // bytes of names and link targets
	maxAttrs   = 64 << 20   // bytes of extended attributes
	maxHops    = 255        // links on one path, as container engines have it
	maxSteps   = 10_000     // elements of one path, those of links included
	maxSparse  = 4096       // sparse files with nothing between them
)

// Names with a meaning in layers (OCI image specification, "Representing Changes").
const (
	whiteout     = ".wh."
	opaque       = ".wh..wh..opq"
	whiteoutMeta = ".wh..wh." // what AUFS kept for itself
	aufsLinks    = ".wh..wh.plnk"
)

// tree is the root of an image while its layers are merged. Links in it are data.
type tree struct {
	root           *node
	now            uint32 // the layer that is applied
	id             string // its digest
	nodes, headers int
	names, attrs   int // bytes
	failed         map[*imageFile]error
}

// node is one name of a file system.
type node struct {
	kids   map[string]*node // of a folder
	in     *imageFile
	layer  uint32 // that brought it
	pruned uint32 // the layer, counted from 1, that all in it is from
}

// imageFile is what the names of a file share.
type imageFile struct {
	typ            snapshot.Type
	mode, uid, gid uint32
	blob           uint32 // that holds the content
	names          int32
	start
	size, mtime int64
	target      string // of a symbolic link
	first       string // its first path, once one was listed
	xattrs      map[string]string
	change      snapshot.Stamp
}

func newTree() *tree {
	t := &tree{failed: map[*imageFile]error{}}
	t.root = t.folder()
	return t
}

// folder is one that no layer has explicitly.
func (t *tree) folder() *node {
	return &node{kids: map[string]*node{}, in: &imageFile{typ: snapshot.Dir, mode: 0o755}, layer: t.now}
}

// layer applies a layer: the content of blob, a tar.
func (t *tree) layer(ctx context.Context, b *blob, number uint32, id string) error {
	t.now, t.id = number, id
	in := b.section(0, b.size)
	tr := tar.NewReader(in)
	var next start // of the header to come
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			if n := t.root.kids[aufsLinks]; n != nil {
				t.drop(n)
				delete(t.root.kids, aufsLinks)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if t.headers++; t.headers > maxHeaders {
			return fmt.Errorf("more than %d entries", maxHeaders)
		}
		at, err := in.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		e := entry{Header: hdr, blob: number, start: start{at: at}}
		if !isSparse(hdr) {
			next = start{at: (at + hdr.Size + 511) &^ 511}
		} else if e.start, next.skip = (start{next.at, next.skip + 1}), next.skip+1; next.skip > maxSparse {
			return fmt.Errorf("%q: more than %d sparse files in a row", hdr.Name, maxSparse)
		}
		if err := t.apply(e); err != nil {
			return fmt.Errorf("%q: %w", hdr.Name, err)
		}
	}
}

// entry is a header of a layer, and where the content behind it is.
type entry struct {
	*tar.Header
	blob uint32
	start
}

// start is where a content begins. That of a sparse file is spread over the tar: it is
// behind so many headers, from there on.
type start struct {
	at   int64
	skip uint16
}

// isSparse tells files whose content isn't in the tar as it is.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range hdr.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

var errDots = errors.New(`a name with ".." in it`)

// elements splits the name of an entry, which is relative to the root however it is
// written.
func elements(name string) ([]string, error) {
	if len(name) > 4096 {
		return nil, errors.New("a name of more than 4096 bytes")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return nil, errDots
		case len(part) > 255 || strings.IndexByte(part, 0) >= 0:
			return nil, errors.New("a name that no file system takes")
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func isMeta(name string) bool { return strings.HasPrefix(name, whiteoutMeta) }

// apply takes the next entry of the layer.
func (t *tree) apply(e entry) error {
	if e.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := elements(e.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return t.top(e)
	}
	dir, base := parts[:len(parts)-1], parts[len(parts)-1]
	if parts[0] != aufsLinks && base != opaque && (isMeta(parts[0]) || isMeta(base)) {
		return nil
	}
	if dir, err = t.resolve(dir); err != nil {
		return err
	}
	parent, err := t.parents(dir)
	if err != nil {
		return err
	}
	switch {
	case base == opaque:
		t.prune(parent)
		return nil
	case strings.HasPrefix(base, whiteout) && parts[0] != aufsLinks:
		return t.hide(parent, base[len(whiteout):])
	case e.Typeflag == tar.TypeLink:
		return t.link(parent, base, e)
	}
	in, err := t.file(e)
	if err != nil {
		return err
	}
	return t.put(parent, base, in)
}

// top takes what a layer says of the root itself.
func (t *tree) top(e entry) error {
	if e.Typeflag != tar.TypeDir {
		return errors.New("it takes the place of the root")
	}
	in, err := t.file(e)
	if err == nil {
		t.root.in = in
	}
	return err
}

// resolve gives the path of a folder without links, as container engines find it: an
// absolute target begins at the root of the image, and no ".." leads out of it. What
// isn't there leads where its name says.
func (t *tree) resolve(todo []string) ([]string, error) {
	var at []string
	nodes := []*node{t.root}
	hops := 0
	for steps := 0; len(todo) > 0; steps++ {
		if steps > maxSteps {
			return nil, fmt.Errorf("more than %d elements on the way to it", maxSteps)
		}
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			at, nodes = at[:max(len(at)-1, 0)], nodes[:max(len(nodes)-1, 1)]
			continue
		}
		var n *node
		if up := nodes[len(nodes)-1]; up != nil {
			n = up.kids[name]
		}
		if n == nil || n.in.typ != snapshot.Symlink {
			at, nodes = append(at, name), append(nodes, n)
			continue
		}
		if hops++; hops > maxHops {
			return nil, errors.New("too many links on the way to it")
		}
		if strings.HasPrefix(n.in.target, "/") {
			at, nodes = at[:0], nodes[:1]
		}
		var target []string
		for part := range strings.SplitSeq(n.in.target, "/") {
			if part != "" && part != "." {
				target = append(target, part)
			}
		}
		if todo = append(target, todo...); len(todo) > maxSteps {
			return nil, fmt.Errorf("more than %d elements on the way to it", maxSteps)
		}
	}
	return at, nil
}

// parents gives the folder at a path without links. What is missing on the way is
// made; what is no folder gives way to one.
func (t *tree) parents(dir []string) (*node, error) {
	n, length := t.root, 0
	for _, name := range dir {
		if length += len(name) + 1; length > 4096-256 || len(name) > 255 {
			return nil, errors.New("a path that is too long")
		}
		kid := n.kids[name]
		if kid == nil || kid.in.typ != snapshot.Dir {
			kid = t.folder()
			if err := t.attach(n, name, kid); err != nil {
				return nil, err
			}
		}
		n = kid
	}
	return n, nil
}

// attach gives a node a name, in place of what had it.
func (t *tree) attach(parent *node, name string, n *node) error {
	if old := parent.kids[name]; old != nil {
		t.drop(old)
	}
	t.nodes++
	t.names += len(name)
	if t.nodes > maxNodes || t.names > maxNames || t.attrs > maxAttrs {
		return fmt.Errorf("the image has more than %d files, %d bytes of names or %d of attributes", maxNodes, maxNames, maxAttrs)
	}
	n.in.names++
	parent.kids[strings.Clone(name)] = n
	return nil
}

// drop takes what is at and below a node out of the books.
func (t *tree) drop(n *node) {
	t.nodes--
	if n.in.names--; n.in.names == 0 {
		delete(t.failed, n.in)
	}
	for _, kid := range n.kids {
		t.drop(kid)
	}
}

// put gives an entry its name: a folder stays with what is in it where it was one.
func (t *tree) put(parent *node, name string, in *imageFile) error {
	old := parent.kids[name]
	if in.typ != snapshot.Dir {
		return t.attach(parent, name, &node{in: in, layer: t.now})
	}
	if old == nil || old.in.typ != snapshot.Dir {
		return t.attach(parent, name, &node{in: in, layer: t.now, kids: map[string]*node{}})
	}
	delete(t.failed, old.in)
	in.names = 1
	old.in, old.layer = in, t.now
	return nil
}

// link gives a file one more name. What the entry says beside goes for all of them.
func (t *tree) link(parent *node, name string, e entry) error {
	parts, err := elements(e.Linkname)
	if err != nil {
		return fmt.Errorf("a hard link to %q: %w", e.Linkname, err)
	}
	var old *node
	if len(parts) > 0 {
		dir, err := t.resolve(parts[:len(parts)-1])
		if err != nil {
			return fmt.Errorf("a hard link to %q: %w", e.Linkname, err)
		}
		old = t.root
		for _, part := range append(dir, parts[len(parts)-1]) {
			if old != nil {
				old = old.kids[part]
			}
		}
	}
	if old == nil {
		return fmt.Errorf("a hard link to %q, which isn't there", e.Linkname)
	}
	if old.in.typ == snapshot.Dir {
		return fmt.Errorf("a hard link to %q, which is a folder", e.Linkname)
	}
	in := old.in
	if err := t.describe(in, e); err != nil {
		return err
	}
	if parent.kids[name] == old {
		old.layer = t.now
		return nil
	}
	in.names++ // so that it lives while its new name is cleared
	err = t.attach(parent, name, &node{in: in, layer: t.now})
	in.names--
	return err
}

// hide applies a whiteout, to what lower layers brought and to nothing else.
func (t *tree) hide(parent *node, name string) error {
	if name == "" || name == "." || name == ".." {
		return errors.New("a whiteout of no name")
	}
	n := parent.kids[name]
	if n == nil {
		return nil
	}
	t.prune(n)
	if n.layer == t.now {
		return nil
	}
	if len(n.kids) > 0 { // this layer has put something into it before
		n.in, n.layer = &imageFile{typ: snapshot.Dir, mode: 0o755, names: 1}, t.now
		return nil
	}
	t.drop(n)
	delete(parent.kids, name)
	return nil
}

// prune removes all below a folder that isn't from this layer. It is looked through
// once for each layer: nothing from a lower one gets there later.
func (t *tree) prune(n *node) {
	if n.pruned == t.now+1 {
		return
	}
	n.pruned = t.now + 1
	for name, kid := range n.kids {
		t.prune(kid)
		switch {
		case kid.layer == t.now:
		case len(kid.kids) > 0:
			kid.in, kid.layer = &imageFile{typ: snapshot.Dir, mode: 0o755, names: 1}, t.now
		default:
			t.drop(kid)
			delete(n.kids, name)
		}
	}
}

var kinds = map[byte]snapshot.Type{
	tar.TypeReg: snapshot.Regular, '\x00': snapshot.Regular, tar.TypeCont: snapshot.Regular, tar.TypeGNUSparse: snapshot.Regular,
	tar.TypeDir: snapshot.Dir, tar.TypeSymlink: snapshot.Symlink, tar.TypeFifo: snapshot.FIFO,
	tar.TypeChar: snapshot.Char, tar.TypeBlock: snapshot.Block,
}

// file makes what an entry describes.
func (t *tree) file(e entry) (*imageFile, error) {
	in := &imageFile{typ: kinds[e.Typeflag], blob: e.blob, start: e.start}
	switch in.typ {
	case 0:
		return nil, fmt.Errorf("an entry of the unknown type %q", e.Typeflag)
	case snapshot.Regular:
		in.size = e.Size
		in.change = e.stamp(t.id)
	case snapshot.Symlink:
		if e.Linkname == "" || len(e.Linkname) > 4095 || strings.IndexByte(e.Linkname, 0) >= 0 {
			return nil, errors.New("a link to what no path can be")
		}
		in.target = strings.Clone(e.Linkname)
		t.names += len(in.target)
	}
	return in, t.describe(in, e)
}

// describe takes mode, owner, time and attributes of an entry.
func (t *tree) describe(in *imageFile, e entry) error {
	if e.Uid < 0 || e.Uid > math.MaxUint32 || e.Gid < 0 || e.Gid > math.MaxUint32 {
		return fmt.Errorf("the owner %d:%d", e.Uid, e.Gid)
	}
	in.uid, in.gid, in.mtime = uint32(e.Uid), uint32(e.Gid), e.ModTime.Unix()
	in.mode = uint32(e.Mode) & 0o7777
	if in.typ == snapshot.Symlink {
		in.mode = 0o777
		return nil
	}
	for k, v := range e.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || !keptXattr(name) {
			continue
		}
		if name == "security.capability" {
			var err error
			if v, err = capabilityV2(v); err != nil {
				t.failed[in] = err
				continue
			}
		}
		if in.xattrs == nil {
			in.xattrs = map[string]string{}
		}
		t.attrs += len(name) + len(v)
		in.xattrs[strings.Clone(name)] = strings.Clone(v)
	}
	return nil
}

// stamp tells the content from any other: what a layer holds never changes.
func (e *entry) stamp(layer string) snapshot.Stamp {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d %d %d %s", layer, e.at, e.skip, e.Size, e.ModTime.Unix(), e.Name)
	return snapshot.Stamp(h.Sum(nil)[:len(snapshot.Stamp{})])
}
