// Package object reads what a loader reads of an ELF object: from its segments alone,
// since a program without section headers runs as well. It opens no file, follows no
// library, and judges nothing.
package object

import (
	"debug/elf"
	"fmt"
)

// Object is what the loaders of glibc and musl read of an ELF file, and what its notes and
// build flags tell of the machine it is for. It never changes.
type Object struct {
	Class      elf.Class
	Data       elf.Data
	OSABI      elf.OSABI
	ABIVersion uint8
	Type       elf.Type
	Machine    elf.Machine
	Flags      uint32 // e_flags

	Interp  string // PT_INTERP; "" for none
	Dynamic bool   // there is a PT_DYNAMIC
	Soname  string
	Needed  []string // in their order
	Filters []Filter // DT_FILTER and DT_AUXILIARY, in their order
	// RPath and RunPath are nil where the tag is absent: a DT_RUNPATH of no folders still
	// switches DT_RPATH off.
	RPath, RunPath []string
	BindNow        bool // DF_BIND_NOW, DF_1_NOW
	NoDefaultLibs  bool // DF_1_NODEFLIB
	PIE            bool // DF_1_PIE
	ExecStack      bool // its stack is to be executable: PT_GNU_STACK says so, or is absent
	RELR           bool // it has DT_RELR
	// Unaligned says that glibc doesn't load it as a library, for the alignment of a
	// segment isn't a page's; OddIdent, that it doesn't since its identification isn't padded
	// with zeros (AppImages have their mark there); NoEntry, that nothing of it runs when it
	// is started.
	Unaligned, OddIdent, NoEntry bool

	Versioned    bool          // it has DT_VERSYM
	Definitions  []Definition  // DT_VERDEF, in its order
	Requirements []Requirement // DT_VERNEED, in its order
	Exports      []Export      // sorted by name and version
	Imports      []Import      // sorted by name and version
	Copies       []Copy        // of COPY relocations

	Kernel   [3]uint32    // the floor of .note.ABI-tag; zero for none
	ISA      uint32       // GNU_PROPERTY_X86_ISA_1_NEEDED, a set of bits
	Dlopen   []DlopenNote // .note.dlopen
	Go       string       // the version of Go that built it: "go1.21.3"
	GoLevel  string       // its GOAMD64, GOARM …: "v3"
	Compiler string       // a compiler's own mark that matters: "rustc version 1.75.0"

	names *names // of Exports; nil for an object made by hand
}

// Filter is a library whose symbols stand in for those of the object that names it.
type Filter struct {
	Name      string
	Auxiliary bool // it may be absent
}

// Definition is a version that an object defines.
type Definition struct {
	Name string
	// Index is the number by which symbols have it: a reference without a version takes
	// the definition of 1 or 2, else a default one.
	Index uint16
	Base  bool // VER_FLG_BASE: the object's own name, no version to bind to
	Weak  bool
}

// Requirement are the versions that an object needs of one other.
type Requirement struct {
	File     string // vn_file: a soname
	Versions []Required
}

// Required is one of them.
type Required struct {
	Name string
	Weak bool // VER_FLG_WEAK: its absence only warns
}

// Export is a symbol that others can bind to.
type Export struct {
	Name    string
	Version string // "" for none, and for the base
	Hidden  bool   // it isn't the default version of that name
	Weak    bool
	Type    elf.SymType
	Size    uint64 // bytes of data; 0 for functions, on whose size nobody relies
}

// Import is a symbol that an object needs from others.
type Import struct {
	Name    string
	Version string // "" for none
	File    string // the soname that the version is required of
	Weak    bool
	// Lazy says that nothing but calls through the PLT needs it: without BindNow it is
	// looked up when it is first called.
	Lazy bool
}

// Copy is data of a library that a program keeps a copy of.
type Copy struct {
	Name    string
	Version string
	File    string // the soname that the version is required of
	Weak    bool
	Size    uint64 // bytes that the program has for it
}

// DlopenNote is an entry of .note.dlopen: what a program may load, by its own word.
type DlopenNote struct {
	Feature  string   `json:"feature"`
	Priority string   `json:"priority"` // required, recommended, suggested
	Sonames  []string `json:"soname"`   // the first that is there does
}

// Reason says what is wrong with a file that isn't an object any loader takes.
type Reason string

// The reasons. glibc finds them in this order, and passes over a file of another class
// before it looks at its byte order, or of another machine before it looks at the rest.
const (
	TooShort    Reason = "it is too short"
	NotELF      Reason = "it is not ELF"
	ByteOrder   Reason = "its byte order is none that there is"
	NotLoadable Reason = "it is neither a program nor a library"
	Damaged     Reason = "it is damaged"
)

// Error says that a file can't be read as an object.
type Error struct {
	Reason Reason
	Detail string // for people; may be ""

	// What its header says, as far as it could be read.
	Class      elf.Class
	Data       elf.Data
	OSABI      elf.OSABI
	ABIVersion uint8
	Machine    elf.Machine
	Flags      uint32
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Detail)
}
