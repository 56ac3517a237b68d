package system

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Named are the paths of objects whose file name begins with a prefix, sorted. Links count
// by their own names, wherever they lead.
func (x *Index) Named(prefix string) []string {
	names := x.names()
	i, _ := slices.BinarySearchFunc(names, prefix, func(n [2]string, prefix string) int { return cmp.Compare(n[0], prefix) })
	var found []string
	for ; i < len(names) && strings.HasPrefix(names[i][0], prefix); i++ {
		found = append(found, names[i][1])
	}
	slices.Sort(found)
	return found
}

// listNames are the file names of all objects and links, sorted, with their paths.
func (x *Index) listNames() [][2]string {
	var all [][2]string
	for i := range x.files {
		if x.files[i].object >= 0 {
			all = append(all, [2]string{path.Base(x.files[i].path), x.files[i].path})
		}
	}
	for p := range x.links {
		if base := path.Base(p); strings.Contains(base, ".so") {
			all = append(all, [2]string{base, p})
		}
	}
	slices.SortFunc(all, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return all
}

// Named are the paths of files in the loaders' own folders whose name begins with a
// prefix: a running machine isn't searched for more.
func (l *Live) Named(prefix string) []string {
	var found []string
	for _, loader := range l.known() {
		for _, dir := range loader.SystemDirs {
			real, _ := l.walk.follow(dir)
			for _, name := range l.names(dir) {
				if p := path.Join(real, name); strings.HasPrefix(name, prefix) && !slices.Contains(found, p) {
					found = append(found, p)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// CacheDirs are the folders that ld.so.cache has libraries of, sorted.
func (x *Index) CacheDirs() []string { return x.cache.dirs() }

// CacheDirs are the folders that ld.so.cache has libraries of, sorted.
func (l *Live) CacheDirs() []string { return l.cache().dirs() }

func (c *Cache) dirs() []string {
	var all []string
	seen := map[string]bool{}
	for i := range c.entries {
		if dir := path.Dir(c.entries[i].Path); c.entries[i].HWCap == "" && !seen[dir] {
			seen[dir] = true
			all = append(all, dir)
		}
	}
	slices.Sort(all)
	return all
}
