package object

import (
	"cmp"
	"debug/elf"
	"slices"
	"strings"
)

// symbol is an entry of DT_SYMTAB.
type symbol struct {
	name        uint32
	info, other byte
	section     elf.SectionIndex
	value, size uint64
}

func (im *image) symbol(b []byte) symbol {
	u16, u32 := im.order.Uint16, im.order.Uint32
	if im.is64 {
		return symbol{u32(b), b[4], b[5], elf.SectionIndex(u16(b[6:])), im.order.Uint64(b[8:]), im.order.Uint64(b[16:])}
	}
	return symbol{u32(b), b[12], b[13], elf.SectionIndex(u16(b[14:])), uint64(u32(b[4:])), uint64(u32(b[8:]))}
}

// symbols reads what an object exports and imports: by its hash table and its relocations,
// for it is by them that a loader comes to look at a symbol at all.
func (im *image) symbols(t *tags, strs *table, versions []version) error {
	marks, err := im.marks(t)
	if err != nil {
		return err
	}
	hash, err := im.hash(t)
	if err != nil {
		return err
	}
	count := len(marks)
	if hash != nil {
		count = max(count, hash.count())
	}
	if im.mips {
		count = max(count, int(min(t.one[elf.DT_MIPS_SYMTABNO], maxSymbols)))
	}
	// What is marked was rounded up: only what is asked for has to be there.
	for count == len(marks) && count > 0 && marks[count-1] == 0 && (hash == nil || count > hash.count()) {
		count--
		marks = marks[:count]
	}
	if count == 0 {
		return nil
	}
	addr, ok := t.one[elf.DT_SYMTAB]
	if !ok || uint64(count) > im.symbolRoom(t) {
		return im.damaged("it has no symbols where it needs some")
	}
	entry := im.pick(16, 24)
	s := &scan{im: im, strs: strs, versions: versions, marks: marks, hash: hash}
	// glibc leaves DT_VERSYM alone where no version is defined or required.
	if at, ok := t.one[elf.DT_VERSYM]; ok && len(im.o.Definitions)+len(im.o.Requirements) > 0 {
		if s.versym, err = im.memory(at, 2*uint64(count)); err != nil {
			return err
		}
	}
	s.makeRoom(count)
	if err := im.each(addr, uint64(count)*uint64(entry), entry, s.symbol); err != nil {
		return err
	}
	im.o.sort()
	return nil
}

// makeRoom keeps slices from growing bit by bit.
func (s *scan) makeRoom(count int) {
	asked := 0
	for _, m := range s.marks {
		if m&(markNow|markLazy) != 0 {
			asked++
		}
	}
	s.im.o.Imports = make([]Import, 0, asked)
	if s.hash != nil {
		s.im.o.Exports = make([]Export, 0, max(0, min(s.hash.count(), count)-s.hash.start()))
	}
}

// scan goes through the symbols.
type scan struct {
	im       *image
	strs     *table
	versions []version
	versym   []byte
	marks    []byte
	hash     hashTable
	names    int // bytes
}

func (s *scan) symbol(i int, b []byte) error {
	sym := s.im.symbol(b)
	var mark byte
	if i < len(s.marks) {
		mark = s.marks[i]
	}
	if i == 0 || mark == 0 && s.hash == nil {
		return nil
	}
	name, err := s.strs.at(uint64(sym.name))
	if err != nil {
		return err
	}
	found := s.hash != nil && s.hash.finds(i, name)
	bind, undefined := elf.ST_BIND(sym.info), sym.section == elf.SHN_UNDEF
	if bind == elf.STB_LOCAL {
		return nil
	}
	// Of a symbol that others have, any binding will do; STB_LOOS is STB_GNU_UNIQUE.
	found = found && (bind == elf.STB_GLOBAL || bind == elf.STB_WEAK || bind == elf.STB_LOOS)
	v, hidden, err := s.version(i)
	if err != nil {
		return err
	}
	o := s.im.o
	weak := bind == elf.STB_WEAK
	if s.im.mips && undefined {
		mark = markNow
	}
	had := len(o.Exports) + len(o.Imports) + len(o.Copies)
	if mark&markCopy != 0 {
		o.Copies = append(o.Copies, Copy{Name: name, Version: v.name, File: v.file, Weak: weak, Size: sym.size})
	}
	visibility := elf.ST_VISIBILITY(sym.other)
	inside := visibility == elf.STV_HIDDEN || visibility == elf.STV_INTERNAL
	switch {
	case undefined && mark&(markNow|markLazy) != 0 && inside:
		return s.im.damaged("it keeps %s to itself, and hasn't got it", name)
	case undefined && mark&(markNow|markLazy) != 0:
		o.Imports = append(o.Imports, Import{Name: name, Version: v.name, File: v.file, Weak: weak, Lazy: mark&markNow == 0})
	case !undefined && found && !inside && s.exported(sym, name):
		if !s.im.possible(sym) {
			return s.im.damaged("its symbol %s lies in no segment", name)
		}
		e := Export{Name: name, Version: v.name, Hidden: hidden, Weak: weak, Type: elf.ST_TYPE(sym.info)}
		if e.data() {
			e.Size = sym.size
		}
		o.Exports = append(o.Exports, e)
	}
	if len(o.Exports)+len(o.Imports)+len(o.Copies) > had {
		if s.names += len(name); s.names > maxNames {
			return s.im.damaged("its symbols have too much of names")
		}
	}
	return nil
}

// exported says whether loaders take a defined symbol that they come by.
func (s *scan) exported(sym symbol, name string) bool {
	switch elf.ST_TYPE(sym.info) {
	case elf.STT_TLS:
		return true
	case elf.STT_NOTYPE, elf.STT_OBJECT, elf.STT_FUNC, elf.STT_COMMON, elf.STT_GNU_IFUNC:
	default:
		return false
	}
	if sym.value != 0 {
		return true
	}
	// Linkers leave a symbol for each version: nothing to bind to.
	return sym.section == elf.SHN_ABS &&
		!slices.ContainsFunc(s.im.o.Definitions, func(d Definition) bool { return d.Name == name })
}

// possible says whether an exported symbol can be where it says.
func (im *image) possible(sym symbol) bool {
	switch kind := elf.ST_TYPE(sym.info); {
	case sym.section == elf.SHN_ABS, kind == elf.STT_NOTYPE: // linkers' marks may lie outside
		return true
	case kind == elf.STT_TLS:
		return im.tls
	case kind == elf.STT_GNU_IFUNC:
		return im.code(sym.value)
	}
	return im.mapped(sym.value, 0, 0)
}

// version is a symbol's.
func (s *scan) version(i int) (v version, hidden bool, err error) {
	if s.versym == nil {
		return version{}, false, nil
	}
	raw := s.im.order.Uint16(s.versym[2*i:])
	index := int(raw & (maxVersion - 1))
	if index >= len(s.versions) {
		return version{}, false, s.im.damaged("a symbol has a version that isn't there")
	}
	return s.versions[index], raw&hiddenVersion != 0, nil
}

// data says that others may rely on a symbol's size.
func (e *Export) data() bool {
	return e.Type == elf.STT_OBJECT || e.Type == elf.STT_COMMON || e.Type == elf.STT_TLS
}

// sort brings symbols into the order of their names and versions; of those that are the
// same in all, one stays.
func (o *Object) sort() {
	slices.SortFunc(o.Exports, compareExports)
	o.Exports = fit(slices.Compact(o.Exports))
	slices.SortFunc(o.Imports, compareImports)
	o.Imports = fit(slices.Compact(o.Imports))
	slices.SortFunc(o.Copies, compareCopies)
	o.Copies = fit(slices.Compact(o.Copies))
}

// fit gives back the room that isn't used.
func fit[S ~[]E, E any](s S) S {
	switch {
	case len(s) == 0:
		return nil
	case cap(s) > 2*len(s):
		return slices.Clone(s)
	}
	return s
}

func compareExports(a, b Export) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(a.Version, b.Version), compareBools(a.Hidden, b.Hidden),
		compareBools(a.Weak, b.Weak), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Size, b.Size))
}

func compareImports(a, b Import) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(a.Version, b.Version), strings.Compare(a.File, b.File),
		compareBools(a.Weak, b.Weak), compareBools(a.Lazy, b.Lazy))
}

func compareCopies(a, b Copy) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version), strings.Compare(a.File, b.File),
		compareBools(a.Weak, b.Weak), cmp.Compare(a.Size, b.Size))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
