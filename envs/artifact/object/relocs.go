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
	rela, plt  bool
}

// relocTables are those of an object, without the part that needs no symbols.
func (im *image) relocTables(t *tags) []relocTable {
	rel, rela := uint64(im.pick(8, 16)), uint64(im.pick(12, 24))
	var tables []relocTable
	add := func(addr, size, count elf.DynTag, isRela, plt bool) {
		rt := relocTable{t.one[addr], t.one[size], isRela, plt}
		entry := rel
		if isRela {
			entry = rela
		}
		// The linker has counted what is relative, at the start.
		if skip := t.one[count]; !plt && skip < maxRelocs && skip*entry <= rt.size {
			rt.addr, rt.size = rt.addr+skip*entry, rt.size-skip*entry
		}
		if rt.size > 0 {
			tables = append(tables, rt)
		}
	}
	add(elf.DT_RELA, elf.DT_RELASZ, elf.DT_RELACOUNT, true, false)
	add(elf.DT_REL, elf.DT_RELSZ, elf.DT_RELCOUNT, false, false)
	if t.has(elf.DT_JMPREL) {
		add(elf.DT_JMPREL, elf.DT_PLTRELSZ, 0, elf.DynTag(t.one[elf.DT_PLTREL]) == elf.DT_RELA, true)
		plt := tables[len(tables)-1]
		for i := range tables[:len(tables)-1] {
			// Some linkers count the PLT's among the others too, as their end.
			if rt := &tables[i]; plt.addr >= rt.addr && plt.addr-rt.addr < rt.size && plt.addr+plt.size == rt.addr+rt.size {
				rt.size -= plt.size
			}
		}
	}
	return tables
}

// reloc is what counts of a relocation.
type reloc struct {
	symbol, kind uint32
}

func (im *image) relocate(rt relocTable, mark func(reloc, bool) error) error {
	if rt.size > maxRelocs {
		return im.damaged("its relocations have %d bytes", rt.size)
	}
	entry := im.pick(8, 16)
	if rt.rela {
		entry = im.pick(12, 24)
	}
	return im.each(rt.addr, rt.size, entry, func(_ int, b []byte) error {
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
