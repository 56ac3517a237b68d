package loader_test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// folder is a System over a test's root.
type folder struct {
	root    string
	loaders []*system.Loader
	cache   []cached
	mu      sync.Mutex
	read    map[string]func() (*object.Object, error)
}

type cached struct {
	name string
	system.CacheEntry
}

func (s *folder) Find(p string) (system.File, bool) {
	at, left := "/", strings.Split(p, "/")
	for links := 0; len(left) > 0; {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, part)
		info, err := os.Lstat(s.root + next)
		if err != nil {
			return system.File{}, false
		}
		if info.Mode()&os.ModeSymlink == 0 {
			if len(left) > 0 && !info.IsDir() {
				return system.File{}, false
			}
			at = next
			continue
		}
		if links++; links > 40 {
			return system.File{}, false
		}
		to, err := os.Readlink(s.root + next)
		if err != nil {
			return system.File{}, false
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		left = append(strings.Split(to, "/"), left...)
	}
	info, err := os.Lstat(s.root + at)
	if err != nil {
		return system.File{}, false
	}
	if info.IsDir() {
		return system.File{Path: at, Dir: true}, true
	}
	return system.File{Path: at, Object: s.object(at)}, true
}

func (s *folder) object(p string) func() (*object.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil {
		s.read = map[string]func() (*object.Object, error){}
	}
	if s.read[p] == nil {
		s.read[p] = sync.OnceValues(func() (*object.Object, error) {
			b, err := os.ReadFile(s.root + p)
			if err != nil {
				return nil, err
			}
			return object.Read(bytes.NewReader(b), int64(len(b)))
		})
	}
	return s.read[p]
}

func (s *folder) Cached(name string) (entries []system.CacheEntry) {
	for _, c := range s.cache {
		if c.name == name {
			entries = append(entries, c.CacheEntry)
		}
	}
	return entries
}

func (s *folder) Loader(p string) (*system.Loader, bool) {
	f, ok := s.Find(p)
	for _, l := range s.loaders {
		if ok && l.Path == f.Path {
			return l, true
		}
	}
	return nil, false
}

func (s *folder) Loaders() []*system.Loader { return s.loaders }

// The loaders of this machine, as the roots of the tests have them.
var (
	amd64 = &system.Loader{Path: "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Family: system.GLibC, Version: "2.36",
		Class: elf.ELFCLASS64, Machine: elf.EM_X86_64,
		SystemDirs: []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"},
		Lib:        "lib/x86_64-linux-gnu", Platform: "haswell"}
	i386 = &system.Loader{Path: "/usr/lib32/ld-linux.so.2", Family: system.GLibC, Version: "2.36",
		Class: elf.ELFCLASS32, Machine: elf.EM_386,
		SystemDirs: []string{"/lib32", "/usr/lib32", "/lib", "/usr/lib"},
		Lib:        "lib32", Platform: "i686"}
	musl = &system.Loader{Path: "/usr/lib/x86_64-linux-musl/libc.so", Family: system.Musl, Version: "1.2.3",
		Class: elf.ELFCLASS64, Machine: elf.EM_X86_64,
		SystemDirs: []string{"/lib", "/usr/local/lib", "/usr/lib"}}
)
