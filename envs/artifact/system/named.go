package system

import (
	"cmp"
	"io/fs"
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

// Named are the paths of libraries whose file name begins with a prefix, sorted: those in
// the loaders' own folders, and only where these have none, wherever libraries lie.
func (l *Live) Named(prefix string) []string {
	var found []string
	for _, loader := range l.known() {
		for _, dir := range loader.SystemDirs {
			real, _ := l.walk.follow(dir)
			for _, name := range l.names(dir) {
				if p := real + "/" + name; strings.HasPrefix(name, prefix) && !slices.Contains(found, p) {
					found = append(found, p)
				}
			}
		}
	}
	if len(found) == 0 {
		for _, p := range l.libraries() {
			if strings.HasPrefix(path.Base(p), prefix) {
				found = append(found, p)
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
	if c == nil {
		return nil // there is no cache
	}
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

// libraryFolders are where libraries lie that loaders don't find by themselves.
var libraryFolders = []string{"lib", "lib32", "lib64", "libx32", "usr/lib", "usr/lib32", "usr/lib64", "usr/libx32",
	"usr/libexec", "usr/local", "opt"}

const maxListed = 1 << 20 // entries of these folders

// listLibraries lists what has the name of a library there; links are not followed.
func (l *Live) listLibraries() (list []string) {
	listed := 0
	for _, dir := range libraryFolders {
		if l.lstat("/"+dir).kind != folder {
			continue
		}
		_ = fs.WalkDir(l.root.FS(), dir, func(p string, d fs.DirEntry, err error) error {
			switch listed++; {
			case listed > maxListed:
				return fs.SkipAll
			case err == nil && !d.IsDir() && strings.Contains(d.Name(), ".so"):
				list = append(list, "/"+p)
			}
			return nil // what can't be read isn't known
		})
	}
	return list
}
