package artifact

import (
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// cacheFolders are systems that can tell for which folders ldconfig made ld.so.cache.
type cacheFolders interface {
	CacheDirs() []string
}

// ldconfig does for an artifact what a package manager has ldconfig do when a package is
// installed: the libraries of its folders get their sonames, and come into the cache.
func (o *overlay) ldconfig() {
	covered := map[string]bool{}
	if l, ok := o.base.(cacheFolders); ok {
		for _, dir := range l.CacheDirs() {
			covered[dir] = true
		}
	}
	var paths []string
	for name, f := range o.files {
		if path.Dir(name) == "/etc/ld.so.conf.d" && strings.HasSuffix(name, ".conf") {
			for line := range strings.Lines(string(f.Head)) {
				line, _, _ = strings.Cut(line, "#")
				if dir := strings.TrimSpace(line); path.IsAbs(dir) {
					covered[path.Clean(dir)] = true
				}
			}
		}
		paths = append(paths, name)
	}
	resolved := map[string]bool{}
	for dir := range covered {
		if real, ok := o.resolve(dir, 0); ok {
			resolved[real] = true
		}
	}
	slices.Sort(paths)
	for _, name := range paths {
		if f := o.files[name]; f.Object != nil && f.Object.Soname != "" && resolved[path.Dir(name)] {
			o.enter(name, f.Object)
		}
	}
}

// enter adds a library to the cache.
func (o *overlay) enter(name string, lib *object.Object) {
	soname := lib.Soname
	if strings.Contains(soname, "/") {
		return
	}
	at := path.Join(path.Dir(name), soname)
	if _, there := o.Find(at); !there {
		o.files[at] = &File{Name: at, Path: at, Link: path.Base(name)}
	}
	for _, l := range o.base.Loaders() {
		if l.Family == system.GLibC && l.Machine == lib.Machine && l.Class == lib.Class {
			o.cached[soname] = append(o.cached[soname], system.CacheEntry{Flags: loader.CacheFlags(l), Path: at})
			return
		}
	}
}

// Cached implements loader.System.
func (o *overlay) Cached(name string) []system.CacheEntry {
	return append(slices.Clip(o.base.Cached(name)), o.cached[name]...)
}
