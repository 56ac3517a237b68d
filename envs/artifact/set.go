package artifact

import (
	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/object"
)

// Set are files that are shipped together: one program, a folder, the contents of a
// package. They find each other at the places that they are going to have on the target.
type Set struct {
	Files []File

	// Alone says that the files don't travel: each is judged as if it alone were laid on
	// the target.
	Alone bool
	// Packages are those that the files come in, with what they depend on.
	Packages []Package
	// Declared are libraries that the project says are loaded by name, of stead.toml's
	// dlopen: sonames or paths. Nothing else is, then.
	Declared []string
	// Seen is what a trial run saw being loaded by dlopen, by a program's path; a program
	// that was tried and loaded nothing has an empty list.
	Seen map[string][]string
}

// HeadSize is how much of a file that isn't ELF a verdict reads, in bytes.
const HeadSize = 4096

// File is one of a set: an ELF object, a link, a file that may be executed, one that has
// .so in its name, or that tells of others (pyvenv.cfg, qt.conf, .class). The rest of an
// artifact has no verdict and may be left out.
type File struct {
	Name string // for people: "dist/acme/app", "app.deb: usr/bin/app"
	Path string // where it is going to lie on the target, absolute and clean
	Link string // what a symbolic link leads to; "" for all others
	Dir  bool   // a folder
	// Asked says that somebody named the file itself: it has an answer, whatever it is.
	Asked bool

	// Object is what the loader reads of it, and Err, usually an *object.Error, why there
	// is none.
	Object *object.Object
	Err    error

	Executable bool   // one of its x bits is set
	Setuid     bool   // or setgid
	Head       []byte // of a file that isn't ELF: its first bytes, at most HeadSize
	// Members are files inside this one that matter (class files of a jar): each has a
	// Name and a Head.
	Members []File
}

// Package is what a package asks of the system that it is installed on.
type Package struct {
	File   string         // for people: "dist/app.deb"
	Format content.Format // whose rules its relations follow: Deb, RPM or Wheel
	*content.Package
}
