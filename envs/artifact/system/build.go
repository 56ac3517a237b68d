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
	"path"
	goruntime "runtime"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/snapshot"
)

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
