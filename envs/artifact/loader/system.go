// Package loader follows the dynamic loaders of glibc and musl: which files a program's
// start would load on a system, and what would be missing. It runs nothing.
package loader

import "github.com/stead-env/stead/envs/artifact/system"

// System is a machine as a loader sees it: an index of one, or a live one.
type System interface {
	// Find follows the links of an absolute path and tells what is at their end; ok is
	// false where nothing is, or links go round.
	Find(path string) (f system.File, ok bool)
	// Cached are the entries of /etc/ld.so.cache for a name, in the cache's own order.
	Cached(name string) []system.CacheEntry
	// Loader is the dynamic loader at a path, as PT_INTERP names it; ok is false where
	// none is there.
	Loader(path string) (l *system.Loader, ok bool)
	// Loaders are all that are known, in the order of their paths: an object without
	// PT_INTERP is judged by that of its machine.
	Loaders() []*system.Loader
}
