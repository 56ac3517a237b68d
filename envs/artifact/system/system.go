// Package system is what is known of a machine that programs are to start on: its loaders,
// libraries, links, packages and interpreters, read from a live one or out of the index
// that a lock pins. It judges nothing.
package system

import (
	"debug/elf"

	"github.com/stead-env/stead/envs/artifact/object"
)

// File is what a path leads to.
type File struct {
	Path string // absolute, without links
	Dir  bool
	// Object is what a loader reads of the file, or an *object.Error. It is nil for
	// folders. Reading it twice gives the same pointer.
	Object func() (*object.Object, error)
	// Executable says that somebody may start it: without that, no kernel takes it as a
	// program, a script's interpreter or a loader.
	Executable bool
	// Script gives the first line of a file that begins with "#!", without these and its
	// end, and "" for any other: at most what kernels read. It is nil for folders.
	Script func() string
	// Package is who brought the file, "" where that isn't known.
	Package string
}

// CacheEntry is a line of /etc/ld.so.cache.
type CacheEntry struct {
	Flags uint32 // kind and architecture, as ld.so writes them
	HWCap string // the folder below glibc-hwcaps/ that it is for; "" for none
	// OldHWCap are the bits of hardware capabilities that it asks for in the old way.
	OldHWCap uint64
	Path     string
}

// Family is a C library's.
type Family string

// The families.
const (
	GLibC Family = "glibc"
	Musl  Family = "musl"
)

// Loader is a dynamic loader with what is built into it and what its machine's
// configuration tells it.
type Loader struct {
	Path    string // without links
	Family  Family
	Version string // of its C library: "2.31"; "" where that isn't known
	Class   elf.Class
	Machine elf.Machine
	Flags   uint32 // e_flags of its own object

	SystemDirs []string // in their order, without a slash at the end
	Lib        string   // what $LIB stands for: "lib/x86_64-linux-gnu"
	Platform   string   // what $PLATFORM stands for: "x86_64"
	// HWCaps are the active folders below glibc-hwcaps/, the best first. Where the
	// processor isn't known there are none.
	HWCaps []string
	// Preload are the files of /etc/ld.so.preload.
	Preload []string
}

// Facts are what a system tells beside its libraries.
type Facts struct {
	Packages     []Package
	Interpreters []Interpreter
	NSS          []string // services that nsswitch.conf names: "files", "systemd", "ldap"
}

// Package is an installed package.
type Package struct {
	Name, Version, Architecture string

	// Provides are as its control file has them: "perlapi-5.36.0",
	// "mail-transport-agent (= 1)".
	Provides []string
}

// Interpreter is a language's on a system.
type Interpreter struct {
	Language string   // python, perl, ruby, node, java, php, lua
	Path     string   // absolute, without links
	Version  string   // "3.11"
	ABI      []string // tags of extension modules that it takes, "cpython-311-x86_64-linux-gnu"; none where nothing tells
	Dirs     []string // where it looks for modules, absolute
}
