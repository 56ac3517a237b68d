package system

import (
	"path"
	"slices"
)

// Libraries are the names by which a loader finds libraries without being told where:
// those of its cache, and of its system folders.
func (x *Index) Libraries(l *Loader) []string {
	names := slices.Clone(x.cache.names)
	dirs := map[string]bool{}
	for _, dir := range l.SystemDirs {
		if f, ok := x.Find(dir); ok && f.Dir {
			dirs[f.Path] = true
		}
	}
	add := func(p string) {
		if dirs[path.Dir(p)] && hasLibraryName(p) {
			names = append(names, path.Base(p))
		}
	}
	for _, f := range x.files {
		add(f.path)
	}
	for p := range x.links {
		add(p)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
