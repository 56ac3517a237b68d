package loader

import (
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// Program is a file that is to be started, or loaded by another.
type Program struct {
	Path   string // where it lies on the system, absolute: what $ORIGIN is the folder of
	Object *object.Object
	// Into are the paths of programs of the system that load this one, where that is
	// known: an interpreter, for an extension module. The first one that is there counts.
	Into []string
	// Now says that whoever loads it binds all of its symbols at once, as Python does.
	Now bool
}

// Mapped is an object that a start has loaded.
type Mapped struct {
	Name   string      // by which it was found: $ORIGIN is its folder
	File   system.File // zero for the program itself
	Object *object.Object
	By     *Mapped // who asked for it first; nil for the program and what is preloaded

	names    []string // what it was asked for by
	parent   *Mapped  // the object whose RPATH comes after its own
	rpath    []string // the folders of its RPATH and its RUNPATH, expanded
	runpath  []string
	expanded bool
	itself   bool // it is the loader
}

// Kind says what is wrong.
type Kind string

// The kinds of problems.
const (
	NoLoader       Kind = "no-loader"       // PT_INTERP isn't there
	WrongMachine   Kind = "wrong-machine"   // class, machine or byte order of the program
	MissingLibrary Kind = "missing-library" // nothing found by that name
	BadLibrary     Kind = "bad-library"     // found, and the loader gives up on it
	MissingVersion Kind = "missing-version"
	MissingSymbol  Kind = "missing-symbol"
	CopySize       Kind = "copy-size" // a COPY relocation for data of another size
	BadRELR        Kind = "bad-relr"  // DT_RELR, and a loader that takes it not, or only with its version
)

// Problem is one thing that a start runs into.
type Problem struct {
	Kind    Kind
	By      *Mapped // whose need it is
	Library string  // the name asked for, or the soname that a version or symbol is needed of
	Symbol  string
	Version string
	Found   *Mapped // the file that was found, and lacks it; nil for none
	// Bad is the file that the loader gives up on, and Reason why.
	Bad    string
	Reason string
	// Want and Have are the sizes of a COPY relocation, in bytes.
	Want, Have uint64
	// Later says that the program starts, and fails when it calls the symbol.
	Later bool
	// Harmless says that the loader only warns, or goes on in silence.
	Harmless bool
}

// Result is what a start comes to.
type Result struct {
	Loader *system.Loader // nil for a static program, or where none is there
	// Objects are the scope in which symbols are looked up, in its order. The program is
	// always the first, with the interpreter that loads it after all that it brought.
	Objects  []*Mapped
	Problems []Problem
}
