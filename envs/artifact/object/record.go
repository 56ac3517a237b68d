package object

import (
	"slices"
	"strconv"
	"strings"
)

// A record is an object's text: lines in a fixed order, of fields with a space between
// them, each of which is left out where there is nothing to say. There is one spelling
// for each object:
//
//	object1 CLASS DATA OSABI ABIVERSION TYPE MACHINE FLAGS
//	flags WORD…
//	interp, soname, go, golevel, compiler TEXT
//	needed TEXT, for each
//	filter FLAGS NAME, for each
//	rpath, runpath TEXT
//	kernel A B C
//	isa BITS
//	dlopen FEATURE PRIORITY SONAME…
//	define INDEX FLAGS NAME
//	need FILE, and for each version of it: version FLAGS NAME
//	copy SIZE FLAGS NAME VERSION FILE
//	imports COUNT KINDS, then KINDS lines FLAGS VERSION FILE, then COUNT of symbols
//	exports COUNT KINDS, then KINDS lines TYPE FLAGS VERSION, then COUNT of symbols
//
// A symbol's line is NAME [KIND [SIZE]]: the kind's number counted from 0, = or nothing
// for the one before; kinds are in the order of their first use. Bytes of a text that
// aren't visible ASCII, and the backslash, are written as \20.
//
// What no loader takes has a record too: broken1 CLASS DATA OSABI ABIVERSION MACHINE FLAGS
// REASON DETAIL.
const (
	objectMark = "object1"
	brokenMark = "broken1"
)

// flagWords are the words of the line of flags, in their order.
var flagWords = []struct {
	word string
	is   func(*Object) *bool
}{
	{"dynamic", func(o *Object) *bool { return &o.Dynamic }},
	{"now", func(o *Object) *bool { return &o.BindNow }},
	{"nodeflib", func(o *Object) *bool { return &o.NoDefaultLibs }},
	{"pie", func(o *Object) *bool { return &o.PIE }},
	{"execstack", func(o *Object) *bool { return &o.ExecStack }},
	{"relr", func(o *Object) *bool { return &o.RELR }},
	{"unaligned", func(o *Object) *bool { return &o.Unaligned }},
	{"oddident", func(o *Object) *bool { return &o.OddIdent }},
	{"noentry", func(o *Object) *bool { return &o.NoEntry }},
	{"versioned", func(o *Object) *bool { return &o.Versioned }},
}

// textLines are the lines that hold one text.
var textLines = []struct {
	word string
	is   func(*Object) *string
}{
	{"interp", func(o *Object) *string { return &o.Interp }},
	{"soname", func(o *Object) *string { return &o.Soname }},
	{"go", func(o *Object) *string { return &o.Go }},
	{"golevel", func(o *Object) *string { return &o.GoLevel }},
	{"compiler", func(o *Object) *string { return &o.Compiler }},
}

// AppendRecord appends the object's record to b.
func (o *Object) AppendRecord(b []byte) []byte {
	b = o.appendHeader(b)
	b = o.appendImports(b)
	return o.appendExports(b)
}

func (o *Object) appendHeader(b []byte) []byte {
	b = append(b, objectMark...)
	b = numbers(b, uint64(o.Class), uint64(o.Data), uint64(o.OSABI), uint64(o.ABIVersion), uint64(o.Type), uint64(o.Machine), uint64(o.Flags))
	b = append(b, '\n')
	start := len(b)
	for _, f := range flagWords {
		if *f.is(o) {
			b = append(append(b, ' '), f.word...)
		}
	}
	if len(b) > start {
		b = append(slices.Insert(b, start, []byte("flags")...), '\n')
	}
	for _, l := range textLines {
		if text := *l.is(o); text != "" {
			b = texts(append(b, l.word...), text)
		}
	}
	for _, name := range o.Needed {
		b = texts(append(b, "needed"...), name)
	}
	for _, f := range o.Filters {
		b = texts(append(b, "filter"...), letters(letter{'a', f.Auxiliary}), f.Name)
	}
	if o.RPath != nil {
		b = texts(append(b, "rpath"...), strings.Join(o.RPath, ":"))
	}
	if o.RunPath != nil {
		b = texts(append(b, "runpath"...), strings.Join(o.RunPath, ":"))
	}
	if o.Kernel != [3]uint32{} {
		b = numbers(append(b, "kernel"...), uint64(o.Kernel[0]), uint64(o.Kernel[1]), uint64(o.Kernel[2]))
		b = append(b, '\n')
	}
	if o.ISA != 0 {
		b = append(numbers(append(b, "isa"...), uint64(o.ISA)), '\n')
	}
	for _, d := range o.Dlopen {
		b = texts(append(b, "dlopen"...), append([]string{d.Feature, d.Priority}, d.Sonames...)...)
	}
	return o.appendVersions(b)
}

func (o *Object) appendVersions(b []byte) []byte {
	for _, d := range o.Definitions {
		b = numbers(append(b, "define"...), uint64(d.Index))
		b = texts(b, letters(letter{'b', d.Base}, letter{'w', d.Weak}), d.Name)
	}
	for _, r := range o.Requirements {
		b = texts(append(b, "need"...), r.File)
		for _, v := range r.Versions {
			b = texts(append(b, "version"...), letters(letter{'w', v.Weak}), v.Name)
		}
	}
	for _, c := range o.Copies {
		b = numbers(append(b, "copy"...), c.Size)
		b = texts(b, letters(letter{'w', c.Weak}), c.Name, c.Version, c.File)
	}
	return b
}

// importKind is what imports have in common.
type importKind struct {
	version, file string
	weak, lazy    bool
}

func (o *Object) appendImports(b []byte) []byte {
	if len(o.Imports) == 0 {
		return b
	}
	kinds := kindTable[importKind]{numbers: map[importKind]int{}}
	of := func(i int) importKind {
		s := &o.Imports[i]
		return importKind{s.Version, s.File, s.Weak, s.Lazy}
	}
	for i := range o.Imports {
		kinds.number(of(i))
	}
	b = numbers(append(b, "imports"...), uint64(len(o.Imports)), uint64(len(kinds.kinds)))
	b = append(b, '\n')
	for _, k := range kinds.kinds {
		b = texts(append(b, letters(letter{'w', k.weak}, letter{'l', k.lazy})...), k.version, k.file)
	}
	last := 0
	for i := range o.Imports {
		b, last = symbolLine(b, o.Imports[i].Name, last, kinds.number(of(i)), 0)
	}
	return b
}

// exportKind is what exports have in common.
type exportKind struct {
	version      string
	hidden, weak bool
	symType      uint8
}

func (o *Object) appendExports(b []byte) []byte {
	if len(o.Exports) == 0 {
		return b
	}
	kinds := kindTable[exportKind]{numbers: map[exportKind]int{}}
	of := func(i int) exportKind {
		s := &o.Exports[i]
		return exportKind{s.Version, s.Hidden, s.Weak, uint8(s.Type)}
	}
	for i := range o.Exports {
		kinds.number(of(i))
	}
	b = numbers(append(b, "exports"...), uint64(len(o.Exports)), uint64(len(kinds.kinds)))
	b = append(b, '\n')
	for _, k := range kinds.kinds {
		b = strconv.AppendUint(b, uint64(k.symType), 10)
		b = texts(b, letters(letter{'h', k.hidden}, letter{'w', k.weak}), k.version)
	}
	last := 0
	for i := range o.Exports {
		b, last = symbolLine(b, o.Exports[i].Name, last, kinds.number(of(i)), o.Exports[i].Size)
	}
	return b
}

// kindTable numbers kinds in the order in which they come.
type kindTable[K comparable] struct {
	kinds   []K
	numbers map[K]int
	last    int
}

func (t *kindTable[K]) number(k K) int {
	if t.last < len(t.kinds) && t.kinds[t.last] == k {
		return t.last
	}
	n, ok := t.numbers[k]
	if !ok {
		n = len(t.kinds)
		t.numbers[k] = n
		t.kinds = append(t.kinds, k)
	}
	t.last = n
	return n
}

func symbolLine(b []byte, name string, last, kind int, size uint64) ([]byte, int) {
	b = text(b, name)
	if kind != last {
		b = strconv.AppendInt(append(b, ' '), int64(kind), 10)
	} else if size != 0 {
		b = append(b, " ="...)
	}
	if size != 0 {
		b = strconv.AppendUint(append(b, ' '), size, 10)
	}
	return append(b, '\n'), kind
}

// AppendRecord appends the record of a file that can't be read as an object.
func (e *Error) AppendRecord(b []byte) []byte {
	b = append(b, brokenMark...)
	b = numbers(b, uint64(e.Class), uint64(e.Data), uint64(e.OSABI), uint64(e.ABIVersion), uint64(e.Machine), uint64(e.Flags))
	return texts(b, string(e.Reason), e.Detail)
}

// letter is a flag, as one.
type letter struct {
	letter byte
	set    bool
}

func letters(all ...letter) string {
	var b []byte
	for _, l := range all {
		if l.set {
			b = append(b, l.letter)
		}
	}
	return string(b)
}

// numbers appends fields.
func numbers(b []byte, all ...uint64) []byte {
	for _, n := range all {
		b = strconv.AppendUint(append(b, ' '), n, 10)
	}
	return b
}

// texts appends fields, the last of a line.
func texts(b []byte, all ...string) []byte {
	for _, s := range all {
		b = text(append(b, ' '), s)
	}
	return append(b, '\n')
}

// text appends a field.
func text(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	plain := 0
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '\\' {
			b = append(append(b, s[plain:i]...), '\\', hex[c>>4], hex[c&15])
			plain = i + 1
		}
	}
	return append(b, s[plain:]...)
}
