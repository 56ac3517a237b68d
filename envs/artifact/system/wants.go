package system

import (
	"path"
	"slices"
	"strings"

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
