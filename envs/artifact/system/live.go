package system

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/stead-env/stead/envs/artifact/object"
)

// Live is a system whose root is a folder: "/" for the machine this runs on. It lists no
// more of it than the few folders where loaders and interpreters are, reads what is asked
// for, once, and is safe for concurrent use.
type Live struct {
	root *os.Root
	opts LiveOptions
	walk *walker

	mu      sync.RWMutex
	found   map[string]*File    // by the path asked for; nil for nothing
	files   map[string]*File    // by where they lie
	loaders map[string]*Loader  // by where they lie; nil for what is none
	listed  map[string][]string // names in folders

	cache func() *Cache
	known func() []*Loader
	// libraries are the names of libraries wherever they lie: it takes a tenth of a second.
	libraries func() []string
	facts     func() Facts
}

// LiveOptions tell of a live system what its root doesn't.
type LiveOptions struct {
	CPU      string           // its micro-architecture level, such as x86-64-v3; "" where it isn't known
	Packages func() []Package // nil where nobody knows
	// Owner names the package that brought a file, by its path without links; nil
	// where nobody knows. It is called for files that Find gives.
	Owner func(path string) string
}

// OpenLive opens the system whose root is a folder.
func OpenLive(dir string, o LiveOptions) (*Live, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening %s as a root: %w", dir, err)
	}
	l := &Live{root: root, opts: o, found: map[string]*File{}, files: map[string]*File{}, loaders: map[string]*Loader{}, listed: map[string][]string{}}
	l.walk = newWalker(l.lstat)
	l.cache = sync.OnceValue(func() *Cache {
		data, err := l.read("/etc/ld.so.cache", maxCache)
		if err != nil {
			return nil
		}
		c, _ := ParseCache(data) // ld.so does without one that it can't read
		return c
	})
	l.known = sync.OnceValue(l.listLoaders)
	l.libraries = sync.OnceValue(l.listLibraries)
	l.facts = sync.OnceValue(l.readFacts)
	return l, nil
}

// Close ends it: what wasn't read until then can't be read any more.
func (l *Live) Close() error { return l.root.Close() }

const maxConfig = 1 << 20 // bytes of a configuration file

func (l *Live) lstat(p string) entry {
	fi, err := l.root.Lstat(p[1:])
	if err != nil {
		return entry{}
	}
	switch fi.Mode().Type() {
	case 0:
		return entry{kind: file}
	case fs.ModeDir:
		return entry{kind: folder}
	case fs.ModeSymlink:
		target, err := l.root.Readlink(p[1:])
		if err != nil {
			return entry{}
		}
		return entry{kind: link, target: target}
	default:
		return entry{kind: special}
	}
}

// Find follows the links of an absolute path and tells what is at their end.
func (l *Live) Find(p string) (File, bool) {
	l.mu.RLock()
	f, ok := l.found[p]
	l.mu.RUnlock()
	if !ok {
		f = l.find(p)
		l.mu.Lock()
		if len(l.found) < 4*maxRemembered {
			l.found[strings.Clone(p)] = f
		}
		l.mu.Unlock()
	}
	if f == nil {
		return File{}, false
	}
	return *f, true
}

func (l *Live) find(p string) *File {
	real, kind := l.walk.follow(p)
	switch kind {
	case none:
		return nil
	case folder:
		return &File{Path: real, Dir: true}
	}
	l.mu.RLock()
	f, ok := l.files[real]
	l.mu.RUnlock()
	if ok {
		return f
	}
	f = &File{Path: real, Script: func() string { return "" },
		Object: func() (*object.Object, error) { return nil, &object.Error{Reason: object.TooShort} }}
	if kind == file {
		l.describe(f)
	}
	if l.opts.Owner != nil {
		f.Package = l.opts.Owner(real)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, ok := l.files[real]; ok {
		return other // somebody else was quicker: what was read once, isn't again
	}
	l.files[real] = f
	return f
}

func (l *Live) describe(f *File) {
	if fi, err := l.root.Lstat(f.Path[1:]); err == nil {
		f.Executable = fi.Mode()&0o111 != 0
	}
	real := f.Path
	f.Script = sync.OnceValue(func() string {
		head, err := l.readHead(real, maxScript)
		if err != nil {
			return ""
		}
		return script(head)
	})
	f.Object = sync.OnceValues(func() (o *object.Object, err error) {
		err = l.open(real, func(r io.ReaderAt, size int64) error {
			o, err = object.Read(r, size)
			return err
		})
		return o, err
	})
}

// maxScript is how much of a script's first line a kernel reads.
const maxScript = 256

// script is the first line of a script without its mark, "" for anything else.
func script(head []byte) string {
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	line, _, _ = bytes.Cut(line, []byte("\x00"))
	return strings.Trim(string(line), " \t")
}

// open calls fn with the content of a regular file whose path has no links.
func (l *Live) open(real string, fn func(r io.ReaderAt, size int64) error) error {
	// A pipe that took the file's place must not hold us up.
	f, err := l.root.OpenFile(real[1:], os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("reading %s: %w", real, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", real, err)
	}
	return fn(f, fi.Size())
}

func (l *Live) readHead(real string, limit int64) (data []byte, err error) {
	err = l.open(real, func(r io.ReaderAt, size int64) error {
		data = make([]byte, min(size, limit))
		n, err := r.ReadAt(data, 0)
		data = data[:n]
		if err == io.EOF {
			err = nil
		}
		return err
	})
	return data, err
}

// read gives the content of a file, links followed; a bigger one is an error.
func (l *Live) read(p string, limit int64) ([]byte, error) {
	real, kind := l.walk.follow(p)
	if kind != file {
		return nil, fmt.Errorf("reading %s: %w", p, fs.ErrNotExist)
	}
	data, err := l.readHead(real, limit+1)
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("reading %s: %w", p, errTooBig)
	}
	return data, err
}

// names lists a folder, links followed, sorted.
func (l *Live) names(dir string) []string {
	real, kind := l.walk.follow(dir)
	if kind != folder {
		return nil
	}
	l.mu.Lock()
	names, known := l.listed[real]
	l.mu.Unlock()
	if known {
		return names
	}
	f, err := l.root.Open(cmp.Or(strings.TrimPrefix(real, "/"), "."))
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ = f.Readdirnames(maxNames)
	slices.Sort(names)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.listed) < maxFolders {
		l.listed[real] = names
	}
	return names
}

const (
	maxNames   = 100_000 // in one folder
	maxFolders = 100     // whose names are kept
)

// Cached are the entries of /etc/ld.so.cache for a name, in the cache's own order.
func (l *Live) Cached(name string) []CacheEntry { return l.cache().Find(name) }

// Loader is the dynamic loader at a path, as PT_INTERP names it.
func (l *Live) Loader(p string) (*Loader, bool) {
	f, ok := l.Find(p)
	if !ok || f.Dir {
		return nil, false
	}
	l.mu.RLock()
	loader, ok := l.loaders[f.Path]
	l.mu.RUnlock()
	if !ok {
		loader = l.readLoader(f)
		l.mu.Lock()
		defer l.mu.Unlock()
		if first := l.loaders[f.Path]; first != nil {
			return first, true
		}
		l.loaders[f.Path] = loader
	}
	return loader, loader != nil
}

func (l *Live) readLoader(f File) *Loader {
	o, err := f.Object()
	if err != nil || !wantsBuiltin(o) {
		return nil
	}
	var b builtin
	err = l.open(f.Path, func(r io.ReaderAt, size int64) error {
		b, err = readBuiltin(o, r, size)
		return err
	})
	if err != nil || b.Family == "" {
		return nil
	}
	loader := newLoader(f.Path, o, b)
	if loader.configure(b, l.tree()) != nil {
		loader.SystemDirs = nil // so does musl with a file that it can't read; glibc preloads nothing
	}
	loader.HWCaps = active(loader.HWCaps, l.opts.CPU)
	return loader
}

// loaderFolders are where programs name their loaders.
var loaderFolders = []string{"/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32"}

// loaderName is how files of loaders are named, and little else.
var loaderName = []string{"ld-linux*.so.*", "ld.so.*", "ld64.so.*", "ld-musl-*.so.*"}

func (l *Live) listLoaders() (list []*Loader) {
	for _, dir := range loaderFolders {
		for _, name := range l.names(dir) {
			matches := func(pattern string) bool { ok, _ := path.Match(pattern, name); return ok }
			if !slices.ContainsFunc(loaderName, matches) {
				continue
			}
			if loader, ok := l.Loader(dir + "/" + name); ok && !slices.Contains(list, loader) {
				list = append(list, loader)
			}
		}
	}
	slices.SortFunc(list, func(a, b *Loader) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

// Loaders are all that lie where programs name theirs, in the order of their paths.
func (l *Live) Loaders() []*Loader { return slices.Clone(l.known()) }

// tree is what those see who look for loaders and interpreters.
func (l *Live) tree() tree {
	return tree{follow: l.walk.follow, names: l.names, read: l.read, program: func(real string) bool {
		head, err := l.readHead(real, 4)
		f, ok := l.Find(real)
		return err == nil && string(head) == elf.ELFMAG && ok && f.Executable
	}}
}

// Facts are what it tells beside its libraries.
func (l *Live) Facts() Facts { return l.facts() }

func (l *Live) readFacts() (f Facts) {
	if l.opts.Packages != nil {
		f.Packages = l.opts.Packages()
	}
	data, _ := l.read("/etc/nsswitch.conf", maxConfig) // without it, no service is named
	f.NSS = services(string(data))
	f.Interpreters = interpreters(l.tree(), f.Packages)
	return f
}
