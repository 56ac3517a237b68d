package system

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/snapshot"
)

// quietFolders are where no program looks for code unless it may be executed or is named
// as a library: there, files aren't looked into, and folders don't count by themselves.
var quietFolders = []string{"usr/share/", "usr/include/", "usr/src/", "usr/lib/debug/", "usr/lib/modules/",
	"lib/modules/", "usr/lib/firmware/", "lib/firmware/", "var/", "home/", "root/", "srv/", "boot/", "etc/", "proc/", "sys/", "dev/"}

// quietEndings are those of files that are no objects, whatever folder they are in.
var quietEndings = map[string]bool{".a": true, ".bz2": true, ".c": true, ".cmake": true, ".conf": true, ".css": true,
	".el": true, ".elc": true, ".gif": true, ".gz": true, ".h": true, ".hpp": true, ".htm": true, ".html": true,
	".ini": true, ".jar": true, ".jpg": true, ".js": true, ".json": true, ".la": true, ".md": true, ".mjs": true,
	".mo": true, ".o": true, ".pc": true, ".ph": true, ".php": true, ".pl": true, ".pm": true, ".png": true, ".py": true,
	".pyc": true, ".pyi": true, ".pyo": true, ".qml": true, ".rb": true, ".rst": true, ".service": true, ".sh": true,
	".svg": true, ".tcl": true, ".tex": true, ".ttf": true, ".txt": true, ".typelib": true, ".vim": true, ".xml": true,
	".xz": true, ".yaml": true, ".yml": true, ".zip": true, ".zst": true}

// configuration are the files that an index tells something of without naming them, by
// path and by name.
var configuration = map[string]bool{"etc/ld.so.cache": true, "etc/ld.so.preload": true, "etc/nsswitch.conf": true,
	"release": true, "node_version.h": true}

// Wants reports whether an index has to do with a file, by its name alone: Build leaves
// out what it doesn't want.
func Wants(f snapshot.File) bool {
	switch f.Type {
	case snapshot.Symlink, snapshot.Dir:
		return true
	case snapshot.Regular:
		return isNamed(f) || isQuestionable(f) || isConfiguration(f)
	}
	return false
}

// isNamed says that a file is listed, whatever is in it: it may be a program, or stand in
// the way of a library.
func isNamed(f snapshot.File) bool {
	return f.Mode&0o111 != 0 || hasLibraryName(f.Path)
}

func hasLibraryName(p string) bool {
	base := path.Base(p)
	return strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.")
}

// isQuestionable says that it takes a look into a file to tell whether it is an object.
func isQuestionable(f snapshot.File) bool {
	if f.Size < 52 || quietEndings[path.Ext(f.Path)] {
		return false
	}
	return !quiet(f.Path)
}

func quiet(p string) bool {
	return slices.ContainsFunc(quietFolders, func(dir string) bool { return strings.HasPrefix(p, dir) })
}

func isConfiguration(f snapshot.File) bool {
	base := path.Base(f.Path)
	return configuration[f.Path] || configuration[base] || strings.HasPrefix(base, "ld-musl-") && strings.HasSuffix(base, ".path")
}

// builder makes one index.
type builder struct {
	src   Source
	known func(digest string) ([]byte, bool)
	emit  func(digest string, chunk []byte) error
	files []*snapshot.File // that count, sorted by path

	listed  []found
	objects map[string]bool // whose records are in chunks, by digest
	chunk   []byte
	count   int
	chunks  []string // lines
	loaders []loaderFile
}

// found is a file of the index to be.
type found struct {
	file   *snapshot.File
	digest string
	entry  []byte        // what its chunk has of an object; nil for none
	broken *object.Error // why it is none
	script string
	loader *loaderFile
}

// loaderFile is a loader that was found.
type loaderFile struct {
	path   string
	object *object.Object
	in     builtin
}

// Build makes the index of a system. The text it gives is the index; the chunks that hold
// its objects' records go to emit, one after the other, when they are complete, and may be
// ones that are there already. known gives what another index has of an object (see
// Index.Known), which then isn't read; nil knows nothing. The result follows from the
// root alone.
func Build(ctx context.Context, src Source, known func(digest string) ([]byte, bool),
	emit func(digest string, chunk []byte) error) ([]byte, error) {
	b := &builder{src: src, known: known, emit: emit, objects: map[string]bool{}}
	for i := range src.Files {
		if f := &src.Files[i]; Wants(*f) && f.Path != "." {
			b.files = append(b.files, f)
		}
	}
	if !slices.IsSortedFunc(b.files, byPath) {
		slices.SortFunc(b.files, byPath)
	}
	if err := b.read(ctx); err != nil {
		return nil, err
	}
	return b.text(ctx)
}

func byPath(a, b *snapshot.File) int { return cmp.Compare(a.Path, b.Path) }

// batch is how many files are read before their records go to chunks: enough for all
// processors, and little memory.
const batch = 256

// read reads the objects, in the order of their paths.
func (b *builder) read(ctx context.Context) error {
	var wanted []*snapshot.File
	for _, f := range b.files {
		if f.Type == snapshot.Regular && (isNamed(*f) || isQuestionable(*f)) {
			wanted = append(wanted, f)
		}
	}
	for part := range slices.Chunk(wanted, batch) {
		results := make([]*found, len(part))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(goruntime.GOMAXPROCS(0))
		for i, f := range part {
			g.Go(func() (err error) {
				if err := ctx.Err(); err != nil {
					return err
				}
				results[i], err = b.look(ctx, f)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for _, r := range results {
			if r == nil {
				continue
			}
			if err := b.add(r); err != nil {
				return err
			}
		}
	}
	return b.endChunk()
}

// look tells what a file is; nil says that it doesn't count.
func (b *builder) look(ctx context.Context, f *snapshot.File) (*found, error) {
	r := &found{file: f, digest: f.Digest}
	if b.known != nil && f.Digest != "" {
		if entry, ok := b.known(f.Digest); ok && r.take(entry) == nil {
			return r, nil
		}
	}
	c, err := b.src.Open(ctx, *f)
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", f.Path, err)
	}
	defer c.Close()
	if err := r.look(c); err != nil {
		return nil, fmt.Errorf("reading /%s: %w", f.Path, err)
	}
	if r.entry == nil && !isNamed(*f) {
		return nil, nil
	}
	return r, nil
}

// take makes use of what another index has of the object.
func (r *found) take(entry []byte) error {
	in, record, err := splitRecord(entry)
	if err != nil {
		return err
	}
	r.entry = entry
	if in.Family == "" {
		return nil
	}
	o, err := object.ParseRecord(record)
	if err != nil {
		return err
	}
	r.loader = &loaderFile{path: "/" + r.file.Path, object: o, in: in}
	return nil
}

// look reads a file.
func (r *found) look(c io.ReaderAt) error {
	head := make([]byte, min(r.file.Size, maxScript))
	if n, err := c.ReadAt(head, 0); n < len(head) {
		return cmp.Or(err, io.ErrUnexpectedEOF)
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		if isNamed(*r.file) {
			r.script = script(head)
			_, err := object.Read(bytes.NewReader(head), int64(len(head)))
			return r.fault(err)
		}
		return nil
	}
	o, err := object.Read(c, r.file.Size)
	if err != nil {
		return r.fault(err)
	}
	var entry []byte
	if wantsBuiltin(o) {
		in, err := readBuiltin(o, c, r.file.Size)
		if err != nil {
			return err
		}
		if in.Family != "" {
			entry = appendBuiltin(nil, in)
			r.loader = &loaderFile{path: "/" + r.file.Path, object: o, in: in}
		}
	}
	r.entry = o.AppendRecord(entry)
	if r.digest == "" {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(c, 0, r.file.Size)); err != nil {
			return err
		}
		r.digest = hex.EncodeToString(h.Sum(nil))
	}
	return nil
}

// fault notes why a file is no object; any other error is one of reading it.
func (r *found) fault(err error) error {
	if errors.As(err, &r.broken) {
		return nil
	}
	return err
}

// Chunks end where the digest of an object says so, so that two roots with mostly the
// same objects have mostly the same chunks: the likelier the bigger its record is, for a
// program's start takes whole chunks.
const (
	chunkSize  = 128 << 10 // bytes, on average
	maxRecords = 256
)

// add takes a file into the index, in the order of paths.
func (b *builder) add(r *found) error {
	entry := r.entry
	if entry != nil {
		r.entry = []byte{} // it is in its chunk, or soon
	}
	b.listed = append(b.listed, *r)
	if r.loader != nil {
		b.loaders = append(b.loaders, *r.loader)
	}
	d := r.digest
	if entry == nil || b.objects[d] {
		return nil
	}
	b.objects[d] = true
	b.chunk = appendChunk(b.chunk, entry)
	b.count++
	if len(d) != 2*sha256.Size {
		return fmt.Errorf("indexing /%s: %q is no digest", r.file.Path, d)
	}
	lot, err := strconv.ParseUint(d[:4], 16, 16)
	if err != nil {
		return fmt.Errorf("indexing /%s: %q is no digest", r.file.Path, d)
	}
	if int(lot)*(chunkSize>>16) < len(entry) || b.count >= maxRecords {
		return b.endChunk()
	}
	return nil
}

func (b *builder) endChunk() error {
	if b.count == 0 {
		return nil
	}
	sum := sha256.Sum256(b.chunk)
	digest := hex.EncodeToString(sum[:])
	if err := b.emit(digest, b.chunk); err != nil {
		return fmt.Errorf("storing records of objects: %w", err)
	}
	b.chunks = append(b.chunks, string(line(nil, "chunk", digest, strconv.Itoa(b.count))))
	b.chunk, b.count = nil, 0
	return nil
}

// text writes the index.
func (b *builder) text(ctx context.Context) ([]byte, error) {
	t := b.tree(ctx)
	out := line(nil, indexHeader)
	for _, l := range b.chunks {
		out = append(out, l...)
	}
	packages := b.packages()
	for _, p := range packages {
		out = writePackage(out, p)
	}
	for _, l := range b.loaders {
		loader := newLoader(l.path, l.object, l.in)
		if err := loader.configure(l.in, t); err != nil {
			return nil, err
		}
		out = writeLoader(out, loader)
	}
	data, err := t.read("/etc/ld.so.cache", maxCache)
	if missing(err) != nil {
		return nil, err
	}
	if cache, err := ParseCache(data); err == nil {
		for i, e := range cache.entries {
			out = writeCache(out, cache.names[i], e)
		}
	}
	data, err = t.read("/etc/nsswitch.conf", maxConfig)
	if missing(err) != nil {
		return nil, err
	}
	for _, s := range services(string(data)) {
		out = line(out, "nss", s)
	}
	for _, in := range interpreters(t, packages) {
		out = writeInterpreter(out, in)
	}
	out = b.folders(out)
	return b.writeFiles(out), nil
}

func (b *builder) packages() []Package {
	list := slices.Clone(b.src.Packages)
	for i := range list {
		list[i].Provides = sorted(list[i].Provides)
	}
	slices.SortFunc(list, func(p, q Package) int {
		return cmp.Or(cmp.Compare(p.Name, q.Name), cmp.Compare(p.Architecture, q.Architecture), cmp.Compare(p.Version, q.Version))
	})
	return list
}

func (b *builder) writeFiles(out []byte) []byte {
	for _, r := range b.listed {
		owner := ""
		if b.src.Owner != nil {
			owner = b.src.Owner(r.file.Path)
		}
		words := "be"
		if r.entry != nil {
			words = "ox"
		}
		word := words[:1]
		if r.file.Mode&0o111 != 0 {
			word = words[1:]
		}
		if r.entry != nil {
			out = line(out, word, "/"+r.file.Path, owner, r.digest)
		} else {
			out = line(out, word, "/"+r.file.Path, owner, writeError(r.broken), r.script)
		}
	}
	return out
}

// folders writes the folders that count and no other line implies, and the links that
// lead to something that counts, each with where it leads to in the end.
func (b *builder) folders(out []byte) []byte {
	counts, implied := map[string]bool{"/": true}, map[string]bool{"/": true}
	above := func(dir string, set map[string]bool) {
		for ; !set[dir]; dir = path.Dir(dir) {
			set[dir] = true
		}
	}
	for _, r := range b.listed {
		counts["/"+r.file.Path] = true
		above(path.Dir("/"+r.file.Path), counts)
		above(path.Dir("/"+r.file.Path), implied)
	}
	for _, f := range b.files {
		if f.Type == snapshot.Dir && (!quiet(f.Path+"/") || hasLibraryName(f.Path)) {
			above("/"+f.Path, counts)
		}
	}
	var links []byte
	w := newWalker(b.lstat)
	for _, f := range b.files {
		if f.Type != snapshot.Symlink {
			continue
		}
		if real, kind := w.follow("/" + f.Path); kind != none && counts[real] {
			links = line(links, "l", "/"+f.Path, real)
			above(path.Dir("/"+f.Path), implied)
		}
	}
	for i := len(b.files) - 1; i >= 0; i-- { // what is below comes first
		p := "/" + b.files[i].Path
		if b.files[i].Type == snapshot.Dir && counts[p] && !implied[p] {
			above(path.Dir(p), implied)
		} else if b.files[i].Type == snapshot.Dir {
			counts[p] = false
		}
	}
	for _, f := range b.files {
		if f.Type == snapshot.Dir && counts["/"+f.Path] {
			out = line(out, "d", "/"+f.Path)
		}
	}
	return append(out, links...)
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
