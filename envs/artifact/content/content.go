// Package content reads what an artifact is made of: a file, a folder, a package or
// another archive. It tells where on a target each file would lie, and judges nothing. All
// that it reads is bounded: in bytes, in entries, in memory.
package content

import (
	"io"
	"io/fs"
	"sync"
)

// DefaultAt is where files lie that have no place of their own: in a folder that no
// target has.
const DefaultAt = "/.stead-artifact"

// Format is what a set of files came as.
type Format string

// The formats.
const (
	Plain  Format = "file"
	Folder Format = "folder"
	Deb    Format = "deb"
	RPM    Format = "rpm"
	Tar    Format = "tar"
	Zip    Format = "zip"
	Wheel  Format = "wheel"
	Jar    Format = "jar" // also .war, .ear
)

// Set are files that lie on a target together: what a folder, a package or another
// archive brings. An archive within it is a set of its own.
type Set struct {
	Name    string // for people: "dist/app.deb", "dist.tar: lib/app.whl"
	Format  Format
	At      string // what its files lie below on the target: "/" for packages, "/x/app.jar!" in a jar
	Package *Package
	Within  *Set // that holds this archive; nil for an argument
	// Broken says why the rest of the archive can't be read: no tool would take it.
	Broken error
}

// Package is what a package tells of itself.
type Package struct {
	Name, Version, Architecture string // as its format spells them
	// Depends are what it needs, each as its format spells it: for a .deb Pre-Depends and
	// Depends, "libc6 (>= 2.34) | libc6-udeb"; for a .rpm "libc.so.6(GLIBC_2.34)(64bit)",
	// "bash >= 4.2"; for a wheel "numpy>=1.2; extra == 'fast'".
	Depends  []string
	Excludes []string // Conflicts and Breaks
	Provides []string
	// Tags are those of a wheel, one by one: "cp311-cp311-manylinux_2_17_x86_64".
	Tags   []string
	Python string // a wheel's Requires-Python: ">=3.8"
}

// Type is a file's.
type Type string

// The types. Devices, sockets and pipes are none that start: Other.
const (
	Regular  Type = "file"
	Dir      Type = "folder"
	Link     Type = "link"
	HardLink Type = "hard link"
	Other    Type = "other"
)

// HeadBytes is how much of every file is read.
const HeadBytes = 4 << 10

// File is one entry of a set.
type File struct {
	Path string // on the target: absolute, clean
	Name string // for people: where it was found, "dist/app.deb: /usr/bin/app"
	Type Type
	Mode fs.FileMode // permissions with the special bits
	Size int64
	// Target is a link's, as it is written, which may lead anywhere; a hard link's is the
	// Path of a file of the same set that came before.
	Target string
	// Head are the first bytes, the whole where Size is no larger than HeadBytes, and
	// Content is the whole of a file that begins as ELF does, nil for others. Both are
	// gone when the function that was given the file returns.
	Head    []byte
	Content io.ReaderAt
	// Archive is the format of a file that is a set of its own; Sealed says that it isn't
	// opened, since it lies too deep.
	Archive Format
	Sealed  bool
	// Err says why a file can't be read: its mode forbids it.
	Err error
}

// ELF tells whether a file is to be read as an object.
func (f *File) ELF() bool { return len(f.Head) >= 4 && string(f.Head[:4]) == "\x7fELF" }

// Options are how an artifact is read.
type Options struct {
	// At is where a file, a folder's files and those of archives lie that aren't packages;
	// "" for DefaultAt, or for "/" where an archive has the folders of a root.
	At    string
	Spool string // a folder for temporary files, "" for the system's
	// Workers are how many files of a folder are read at once, each by a goroutine of its
	// own; zero for one.
	Workers int
	// Archives is locked while an archive is read: decompressors take much memory. Walks
	// at the same time share it; nil for a walk's own.
	Archives sync.Locker

	// Bounds on one artifact with all that is nested in it; zero for the usual ones.
	MaxEntries int64 // 400,000
	MaxBytes   int64 // unpacked: 8 GiB
	MaxMember  int64 // of a file that is read whole: 2 GiB
}
