package object

import "debug/elf"

// kinds are a machine's relocations that ask for more than an address: what is copied out
// of a library, and what is looked up when it is first called.
type kinds struct {
	copy, jump uint32
}

// relocations of the machines that glibc and musl run on. MIPS binds its symbols without.
var relocations = map[elf.Machine]kinds{
	elf.EM_386:         {5, 7},
	elf.EM_X86_64:      {5, 7},
	elf.EM_ARM:         {20, 22},
	elf.EM_AARCH64:     {1024, 1026},
	elf.EM_PPC:         {19, 21},
	elf.EM_PPC64:       {19, 21},
	elf.EM_S390:        {9, 11},
	elf.EM_RISCV:       {4, 5},
	elf.EM_LOONGARCH:   {4, 5},
	elf.EM_SPARC:       {19, 21},
	elf.EM_SPARC32PLUS: {19, 21},
	elf.EM_SPARCV9:     {19, 21},
	elf.EM_68K:         {19, 21},
	elf.EM_SH:          {162, 164},
	elf.EM_PARISC:      {128, 129},
	elf.EM_ALPHA:       {0, 26},
	elf.EM_IA_64:       {0x84, 0},
}

// Marks of a symbol: who asks for it.
const (
	markNow byte = 1 << iota
	markLazy
	markCopy
)

// marks tells for each symbol what relocations want of it.
func (im *image) marks(t *tags) ([]byte, error) {
	var marks []byte
	kinds := relocations[im.o.Machine]
	mark := func(r reloc, plt bool) error {
		switch {
		case r.kind == 0 || r.symbol == 0:
			return nil
		case r.symbol >= maxSymbols:
			return im.damaged("it relocates symbol %d", r.symbol)
		}
		for int(r.symbol) >= len(marks) {
			marks = append(marks, make([]byte, max(1024, int(r.symbol)+1-len(marks)))...)
		}
		switch {
		case r.kind == kinds.copy:
			marks[r.symbol] |= markCopy
		case plt && r.kind == kinds.jump:
			marks[r.symbol] |= markLazy
		default:
			marks[r.symbol] |= markNow
		}
		return nil
	}
	if im.mips {
		return nil, nil
	}
	for tag, size := range map[elf.DynTag]int{elf.DT_RELENT: im.pick(8, 16), elf.DT_RELAENT: im.pick(12, 24)} {
		if t.has(tag) && t.one[tag] != uint64(size) {
			return nil, im.damaged("its relocations have %d bytes each", t.one[tag])
		}
	}
	for _, rt := range im.relocTables(t) {
		if err := im.relocate(rt, mark); err != nil {
			return nil, err
		}
	}
	return marks, nil
}

// relocTable is a table of relocations.
type relocTable struct {
	addr, size uint64
	entry      int // bytes of each
	plt        bool
}

// relocTables are those of an object, without the part that needs no symbols.
func (im *image) relocTables(t *tags) []relocTable {
	rela := relocTable{addr: t.one[elf.DT_RELA], size: t.one[elf.DT_RELASZ], entry: im.pick(12, 24)}
	rel := relocTable{addr: t.one[elf.DT_REL], size: t.one[elf.DT_RELSZ], entry: im.pick(8, 16)}
	plt := relocTable{addr: t.one[elf.DT_JMPREL], size: t.one[elf.DT_PLTRELSZ], entry: rel.entry, plt: true}
	if elf.DynTag(t.one[elf.DT_PLTREL]) == elf.DT_RELA {
		plt.entry = rela.entry
	}
	rela.skip(t.one[elf.DT_RELACOUNT])
	rel.skip(t.one[elf.DT_RELCOUNT])
	// Some linkers count the PLT's among the others too, as their end.
	for _, rt := range []*relocTable{&rela, &rel} {
		if plt.addr >= rt.addr && plt.addr-rt.addr < rt.size && plt.addr+plt.size == rt.addr+rt.size {
			rt.size -= plt.size
		}
	}
	return []relocTable{rela, rel, plt}
}

// skip leaves out what the linker has counted as relative, at the start.
func (rt *relocTable) skip(count uint64) {
	if size := count * uint64(rt.entry); count < maxRelocs && size <= rt.size {
		rt.addr, rt.size = rt.addr+size, rt.size-size
	}
}

// reloc is what counts of a relocation.
type reloc struct {
	symbol, kind uint32
}

func (im *image) relocate(rt relocTable, mark func(reloc, bool) error) error {
	if rt.size > maxRelocs {
		return im.damaged("its relocations have %d bytes", rt.size)
	}
	return im.each(rt.addr, rt.size, rt.entry, func(_ int, b []byte) error {
		if !im.is64 {
			info := im.order.Uint32(b[4:])
			return mark(reloc{info >> 8, info & 0xff}, rt.plt)
		}
		info := im.order.Uint64(b[8:])
		kind := uint32(info)
		if im.o.Machine == elf.EM_SPARCV9 {
			kind &= 0xff // the rest is data
		}
		return mark(reloc{uint32(info >> 32), kind}, rt.plt)
	})
}
