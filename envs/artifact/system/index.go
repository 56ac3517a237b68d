package system

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/stead-env/stead/envs/artifact/object"
)

// Index is a system as its release's lock pins it. It is safe for concurrent use.
type Index struct {
	packages     []Package
	interpreters []Interpreter
	nss          []string
	loaders      []*Loader
	cache        Cache

	files   []indexed
	byPath  map[string]int32 // of files; -1 for a folder
	links   map[string]string
	walk    *walker
	names   func() [][2]string // of objects and links: file name and path, sorted
	objects []stored
	numbers map[[32]byte]int32 // of objects, by digest
	chunks  []*chunk
	recent  recent
}

// indexed is a file of an index.
type indexed struct {
	path, pkg  string
	executable bool
	object     int32         // its number; -1 for none
	broken     *object.Error // why not
	script     string
}

// stored is an object whose record lies in a chunk.
type stored struct {
	chunk, place int32
	read         func() (*object.Object, error)
}

// chunk is one, read when it is first asked for.
type chunk struct {
	digest  string
	count   int
	read    func() ([][]byte, error)
	entries func() ([][]byte, error) // once
}

// Open reads an index. Chunks of records are loaded when they are needed, once; load has
// to make sure that the bytes are those of the digest. cpu is the level of the system's
// processor, "" where it isn't known.
func Open(text []byte, cpu string, load func(digest string) ([]byte, error)) (*Index, error) {
	if len(text) > maxIndex {
		return nil, fmt.Errorf("reading an index: it has %d bytes", len(text))
	}
	x := &Index{links: map[string]string{}, numbers: map[[32]byte]int32{}}
	x.walk = newWalker(x.lstat)
	x.names = sync.OnceValue(x.listNames)
	if err := x.parse(string(text)); err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	for _, l := range x.loaders {
		l.HWCaps = active(l.HWCaps, cpu)
	}
	x.cache.arrange()
	for _, c := range x.chunks {
		c.read = func() ([][]byte, error) {
			data, err := load(c.digest)
			if err != nil {
				return nil, fmt.Errorf("reading records of objects: %w", err)
			}
			return splitChunk(data, c.count)
		}
		c.entries = sync.OnceValues(func() ([][]byte, error) {
			entries, err := c.read()
			for i, e := range entries {
				entries[i] = bytes.Clone(e) // each of its own, to let go of one by one
			}
			return entries, err
		})
	}
	return x, nil
}

func (x *Index) parse(text string) error {
	header, text, _ := strings.Cut(text, "\n")
	if header != indexHeader {
		return fmt.Errorf("%.20q is a format that this stead doesn't know", header)
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		return errors.New("its end is missing")
	}
	lines := strings.Count(text, "\n")
	x.files = make([]indexed, 0, lines)
	x.byPath = make(map[string]int32, lines)
	for text != "" {
		var l string
		l, text, _ = strings.Cut(text, "\n")
		word, rest, _ := strings.Cut(l, " ")
		if err := x.line(word, &fields{rest: rest}); err != nil {
			return fmt.Errorf("the line %.80q: %w", l, err)
		}
	}
	return x.assign()
}

// line reads one.
func (x *Index) line(word string, f *fields) error {
	switch word {
	case "chunk":
		d := f.digest()
		c := &chunk{digest: hex.EncodeToString(d[:]), count: int(f.number(10, 31))}
		x.chunks = append(x.chunks, c)
	case "package":
		x.packages = append(x.packages, readPackage(f))
	case "loader":
		x.loaders = append(x.loaders, readLoaderLine(f))
	case "cache":
		name, e := readCacheLine(f)
		x.cache.names, x.cache.entries = append(x.cache.names, name), append(x.cache.entries, e)
	case "nss":
		x.nss = append(x.nss, f.next())
	case "interpreter":
		x.interpreters = append(x.interpreters, readInterpreterLine(f))
	case "d":
		x.folder(f.path())
	case "l":
		p := f.path()
		x.links[p] = f.next()
		x.folder(path.Dir(p))
	case "o", "x", "b", "e":
		return x.file(word, f)
	default:
		return errors.New("it is of a kind that this stead doesn't know")
	}
	return f.end()
}

func (x *Index) file(word string, f *fields) error {
	file := indexed{path: f.path(), pkg: f.next(), executable: word == "x" || word == "e", object: -1}
	if word == "o" || word == "x" {
		file.object = x.number(f.digest())
	} else {
		var err error
		if file.broken, err = readError(f.next()); err != nil && f.err == nil {
			return err
		}
		file.script = f.next()
	}
	if err := f.end(); err != nil {
		return err
	}
	x.folder(path.Dir(file.path))
	if _, twice := x.byPath[file.path]; twice {
		return errors.New("its path is there twice")
	}
	x.byPath[file.path] = int32(len(x.files))
	x.files = append(x.files, file)
	return nil
}

// number is that of the object with a digest: they are counted as they come first.
func (x *Index) number(digest [32]byte) int32 {
	n, ok := x.numbers[digest]
	if !ok {
		n = int32(len(x.objects))
		x.numbers[digest] = n
		x.objects = append(x.objects, stored{})
	}
	return n
}

// folder notes one, and all above it.
func (x *Index) folder(dir string) {
	for dir != "/" && dir != "." {
		if _, known := x.byPath[dir]; known {
			return
		}
		x.byPath[dir] = -1
		dir = path.Dir(dir)
	}
}

// assign says in which chunk each object's record lies.
func (x *Index) assign() error {
	n := 0
	for i, c := range x.chunks {
		if c.count < 1 || c.count > len(x.objects)-n {
			return errors.New("its chunks hold records of other objects")
		}
		for place := range c.count {
			o := &x.objects[n]
			o.chunk, o.place = int32(i), int32(place)
			o.read = sync.OnceValues(func() (*object.Object, error) {
				entries, err := x.chunks[o.chunk].entries()
				if err != nil {
					return nil, err
				}
				entry := entries[o.place]
				entries[o.place] = nil // nobody else asks for it: memory holds each object once
				_, record, err := splitRecord(entry)
				if err != nil {
					return nil, err
				}
				return object.ParseRecord(record)
			})
			n++
		}
	}
	if n != len(x.objects) {
		return errors.New("its chunks lack records of objects")
	}
	return nil
}

func (x *Index) lstat(p string) entry {
	if target, ok := x.links[p]; ok {
		return entry{kind: link, target: target}
	}
	switch n, ok := x.byPath[p]; {
	case !ok:
		return entry{}
	case n < 0:
		return entry{kind: folder}
	default:
		return entry{kind: file}
	}
}

// Find follows the links of an absolute path and tells what is at their end. Files that
// no loader and no kernel takes notice of aren't there.
func (x *Index) Find(p string) (File, bool) {
	real, kind := x.walk.follow(p)
	switch kind {
	case none:
		return File{}, false
	case folder:
		return File{Path: real, Dir: true}, true
	}
	f := &x.files[x.byPath[real]]
	found := File{Path: f.path, Executable: f.executable, Package: f.pkg, Script: f.firstLine, Object: f.noObject}
	if f.object >= 0 {
		found.Object = x.objects[f.object].read
	}
	return found, true
}

func (f *indexed) firstLine() string { return f.script }

func (f *indexed) noObject() (*object.Object, error) { return nil, f.broken }

// Cached are the entries of /etc/ld.so.cache for a name, in the cache's own order.
func (x *Index) Cached(name string) []CacheEntry { return x.cache.Find(name) }

// Loader is the dynamic loader at a path, as PT_INTERP names it.
func (x *Index) Loader(p string) (*Loader, bool) {
	real, kind := x.walk.follow(p)
	if kind != file {
		return nil, false
	}
	i, ok := slices.BinarySearchFunc(x.loaders, real, func(l *Loader, p string) int { return cmp.Compare(l.Path, p) })
	if !ok {
		return nil, false
	}
	return x.loaders[i], true
}

// Loaders are all that there are, in the order of their paths.
func (x *Index) Loaders() []*Loader { return slices.Clone(x.loaders) }

// Facts are what it tells beside its libraries.
func (x *Index) Facts() Facts {
	return Facts{Packages: x.packages, Interpreters: x.interpreters, NSS: x.nss}
}

// Known gives what another index has of an object, by the SHA-256 of its content: Build
// needs not read it again.
func (x *Index) Known(digest string) ([]byte, bool) {
	var d [32]byte
	if n, err := hex.Decode(d[:], []byte(digest)); err != nil || n != len(d) {
		return nil, false
	}
	n, ok := x.numbers[d]
	if !ok {
		return nil, false
	}
	o := &x.objects[n]
	entries, err := x.recent.get(o.chunk, x.chunks[o.chunk].read)
	if err != nil {
		return nil, false
	}
	return entries[o.place], true
}

// recent are the chunks that Known asked for last: their objects are asked for one after
// the other, and a fleet's indexes together are bigger than what one makes.
type recent struct {
	mu     sync.Mutex
	chunks []kept // the latest first
}

type kept struct {
	number  int32
	entries func() ([][]byte, error)
}

const maxRecent = 8

func (r *recent) get(number int32, read func() ([][]byte, error)) ([][]byte, error) {
	r.mu.Lock()
	i := slices.IndexFunc(r.chunks, func(k kept) bool { return k.number == number })
	if i < 0 {
		r.chunks = slices.Insert(r.chunks, 0, kept{number, sync.OnceValues(read)})
		r.chunks = r.chunks[:min(len(r.chunks), maxRecent)]
		i = 0
	} else if i > 0 {
		k := r.chunks[i]
		r.chunks = slices.Insert(slices.Delete(r.chunks, i, i+1), 0, k)
		i = 0
	}
	entries := r.chunks[i].entries
	r.mu.Unlock()
	return entries()
}

// Chunks are the digests of the blobs that an index needs beside itself.
func Chunks(index []byte) ([]string, error) {
	header, rest, _ := bytes.Cut(index, []byte("\n"))
	if string(header) != indexHeader {
		return nil, fmt.Errorf("reading an index: %.20q is a format that this stead doesn't know", header)
	}
	var digests []string
	for {
		var l []byte
		l, rest, _ = bytes.Cut(rest, []byte("\n"))
		word, fieldsOf, _ := strings.Cut(string(l), " ")
		if word != "chunk" {
			return digests, nil
		}
		f := &fields{rest: fieldsOf}
		d := f.digest()
		if f.err != nil {
			return nil, fmt.Errorf("reading an index: %w", f.err)
		}
		digests = append(digests, hex.EncodeToString(d[:]))
	}
}

// A chunk has, for each object, the number of bytes in a line, and then as many: its
// record, or a line that tells what is built into it, as a loader, and its record.

func appendChunk(b, entry []byte) []byte {
	b = strconv.AppendInt(b, int64(len(entry)), 10)
	return append(append(b, '\n'), entry...)
}

func splitChunk(data []byte, count int) (entries [][]byte, err error) {
	for range count {
		size, _, ok := bytes.Cut(data[:min(len(data), 20)], []byte("\n"))
		n, err := strconv.ParseUint(string(size), 10, 31)
		if !ok || err != nil {
			return nil, errors.New("reading records of objects: one lacks its size")
		}
		from := len(size) + 1
		if n > uint64(len(data)-from) {
			return nil, errors.New("reading records of objects: one is longer than what is there")
		}
		entries = append(entries, data[from:from+int(n):from+int(n)])
		data = data[from+int(n):]
	}
	if len(data) > 0 {
		return nil, errors.New("reading records of objects: there are more than the index has")
	}
	return entries, nil
}

const builtinWord = "builtin"

func appendBuiltin(b []byte, in builtin) []byte {
	return line(b, builtinWord, string(in.Family), in.Version, in.PathFile, listed(in.SystemDirs), listed(in.HWCaps))
}

// splitRecord reads what is built into a loader off an entry of a chunk.
func splitRecord(entry []byte) (b builtin, record []byte, err error) {
	rest, ok := bytes.CutPrefix(entry, []byte(builtinWord+" "))
	if !ok {
		return b, entry, nil
	}
	l, record, _ := bytes.Cut(rest, []byte("\n"))
	f := &fields{rest: string(l)}
	b = builtin{Family: Family(f.next()), Version: f.next(), PathFile: f.next(), SystemDirs: f.list(), HWCaps: f.list()}
	if err := f.end(); err != nil {
		return b, nil, fmt.Errorf("reading what is built into a loader: %w", err)
	}
	return b, record, nil
}
