package envs

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// lacking tells what a build made on one target could have taken from it that another
// lacks: the first thing found, "" where there is nothing. A library counts where the
// loader finds it by its name alone.
func lacking(from, on *artifact.Target) string {
	index, ok := from.System.(*system.Index)
	if !ok {
		return "what it provides isn't known"
	}
	for _, l := range from.System.Loaders() {
		name := startedBy(from, l)
		there, ok := on.System.Loader(name)
		if !ok || there.Family != l.Family || there.Machine != l.Machine {
			return fmt.Sprintf("there is no %s", name)
		}
		libc := library(on.System, there, "libc.so.6")
		for _, name := range index.Libraries(l) {
			have := library(from.System, l, name)
			if have == nil || have.Soname != "" && have.Soname != name {
				continue // programs ask for it by its soname
			}
			if text := less(name, have, library(on.System, there, name), libc); text != "" {
				return text
			}
		}
	}
	return ""
}

// startedBy is the path by which programs name a loader: its file has another name on each
// version of older glibcs.
func startedBy(t *artifact.Target, l *system.Loader) string {
	f, ok := t.System.Find(l.Path)
	if !ok {
		return l.Path
	}
	o, err := f.Object()
	if err != nil || o.Soname == "" {
		return l.Path
	}
	for _, dir := range []string{"/lib64", "/lib", "/libx32"} {
		name := path.Join(dir, o.Soname)
		if other, ok := t.System.Loader(name); ok && other.Path == l.Path {
			return name
		}
	}
	return l.Path
}

// private is what the parts of glibc have for each other, and no program may use.
const private = "GLIBC_PRIVATE"

// library is what a loader finds by a name alone; nil for nothing.
func library(s interface {
	Find(string) (system.File, bool)
	Cached(string) []system.CacheEntry
}, l *system.Loader, name string) *object.Object {
	var paths []string
	for _, e := range s.Cached(name) {
		paths = append(paths, e.Path)
	}
	for _, dir := range l.SystemDirs {
		paths = append(paths, path.Join(dir, name))
	}
	for _, p := range paths {
		f, ok := s.Find(p)
		if !ok || f.Dir {
			continue
		}
		if o, err := f.Object(); err == nil && o.Machine == l.Machine && o.Class == l.Class {
			return o
		}
	}
	return nil
}

// marks are symbols that linkers put into what they make.
var marks = []string{"__bss_start", "_edata", "_end", "_fini", "_init"}

// less tells what one library exports, and another of that name and libc, into which glibc
// moves parts of its libraries, don't.
func less(name string, have, other, libc *object.Object) string {
	if other == nil {
		return fmt.Sprintf("there is no %s", name)
	}
	for _, d := range have.Definitions {
		if !d.Base && !slices.ContainsFunc(other.Definitions, func(o object.Definition) bool { return o.Name == d.Name }) {
			return fmt.Sprintf("%s has no %s", name, d.Name)
		}
	}
	rest := other.Exports
	for _, e := range have.Exports {
		if e.Version == private || e.Version == "" && slices.Contains(marks, e.Name) {
			continue
		}
		for len(rest) > 0 && compareExports(rest[0], e) < 0 {
			rest = rest[1:]
		}
		moved := strings.HasPrefix(e.Version, "GLIBC_") && libc != nil && slices.ContainsFunc(libc.Named(e.Name),
			func(o object.Export) bool { return o.Version == e.Version })
		if (len(rest) == 0 || compareExports(rest[0], e) != 0) && !moved {
			return fmt.Sprintf("%s has no %s", name, versioned(e.Name, e.Version))
		}
	}
	return ""
}

func compareExports(a, b object.Export) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
}

// versioned is a symbol as linkers write it.
func versioned(name, version string) string {
	if version == "" {
		return name
	}
	return name + "@" + version
}
