package object

import (
	"debug/elf"
	"encoding/binary"
	"slices"
)

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

// known is what loaders know of a machine's relocations, where that is held against an
// object: with any other they give up.
type known struct {
	types    []uint32
	relative uint32 // asks for nothing but the object's own address
	resolved uint32 // calls a function for an address; 0 where it isn't looked at
	rela     bool   // they have addends
}

// known is nil for most machines. A wide object of a narrow machine is none of it.
func (im *image) known() *known {
	switch {
	case im.o.Machine == elf.EM_386 && !im.is64:
		return &known{types: []uint32{0, 1, 2, 5, 6, 7, 8, 14, 35, 36, 37, 38, 41, 42}, relative: 8}
	case im.o.Machine == elf.EM_X86_64 && im.is64:
		return &known{types: []uint32{0, 1, 2, 5, 6, 7, 8, 10, 16, 17, 18, 24, 32, 33, 36, 37, 38}, relative: 8, resolved: 37, rela: true}
	}
	return nil
}

// relocTable is a table of relocations.
type relocTable struct {
	addr, size uint64
	entry      int    // bytes of each
	relative   uint64 // so many at its start are relative
	plt        bool
}

// relocTables are those of an object.
func (im *image) relocTables(t *tags) []relocTable {
	rela := relocTable{addr: t.one[elf.DT_RELA], size: t.one[elf.DT_RELASZ], entry: im.pick(12, 24), relative: t.one[elf.DT_RELACOUNT]}
	rel := relocTable{addr: t.one[elf.DT_REL], size: t.one[elf.DT_RELSZ], entry: im.pick(8, 16), relative: t.one[elf.DT_RELCOUNT]}
	plt := relocTable{addr: t.one[elf.DT_JMPREL], size: t.one[elf.DT_PLTRELSZ], entry: rel.entry, plt: true}
	if elf.DynTag(t.one[elf.DT_PLTREL]) == elf.DT_RELA {
		plt.entry = rela.entry
	}
	// Some linkers count the PLT's among the others too, as their end.
	for _, rt := range []*relocTable{&rela, &rel} {
		if plt.addr >= rt.addr && plt.addr-rt.addr < rt.size && plt.addr+plt.size == rt.addr+rt.size {
			rt.size -= plt.size
		}
	}
	return []relocTable{rela, rel, plt}
}

// relocs goes through relocations.
type relocs struct {
	im      *image
	kinds   kinds
	known   *known // nil for a machine of which little is known
	textrel bool   // code may be relocated too
	room    uint32 // symbols that there can be
	marks   []byte
	last    *elf.ProgHeader // the segment of the last one
	slots   *slots
}

// marks tells for each symbol what relocations want of it.
func (im *image) marks(t *tags) ([]byte, error) {
	if im.mips {
		return nil, nil
	}
	r := &relocs{im: im, kinds: relocations[im.o.Machine], known: im.known(), slots: im.slots(t), room: uint32(im.symbolRoom(t)),
		textrel: t.has(elf.DT_TEXTREL) || elf.DynFlag(t.one[elf.DT_FLAGS])&elf.DF_TEXTREL != 0}
	for _, rt := range im.relocTables(t) {
		if rt.size > maxRelocs || rt.size%uint64(rt.entry) != 0 {
			return nil, im.damaged("its relocations have %d bytes", rt.size)
		}
		err := im.windows(rt.addr, rt.size, rt.entry, func(i int, b []byte) error {
			for ; len(b) > 0; b = b[rt.entry:] {
				if !r.plain(rt, b) {
					if err := r.entry(rt, i, b[:rt.entry:rt.entry]); err != nil {
						return err
					}
				}
				i++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := r.packed(t.one[dtRELR], t.one[dtRELRSize]); err != nil {
		return nil, err
	}
	return r.marks, r.slots.end()
}

// plain tells what nearly all relocations are: relative ones in the segment of the last,
// and in none of the slots. entry would find nothing in them, and takes ten times as long.
func (r *relocs) plain(rt relocTable, b []byte) bool {
	if r.known == nil || !r.known.rela || rt.entry != 24 || r.last == nil || binary.LittleEndian.Uint64(b[8:]) != uint64(r.known.relative) {
		return false
	}
	at := binary.LittleEndian.Uint64(b)
	return at-r.last.Vaddr < r.last.Memsz && at-r.slots.from >= r.slots.span
}

// entry looks at a relocation.
func (r *relocs) entry(rt relocTable, i int, b []byte) error {
	im := r.im
	var at, addend uint64
	var symbol, kind uint32
	if im.is64 {
		info := im.order.Uint64(b[8:])
		at, symbol, kind = im.order.Uint64(b), uint32(info>>32), uint32(info)
		if rt.entry == 24 {
			addend = im.order.Uint64(b[16:])
		}
		if im.o.Machine == elf.EM_SPARCV9 {
			kind &= 0xff // the rest is data
		}
	} else {
		info := im.order.Uint32(b[4:])
		at, symbol, kind = uint64(im.order.Uint32(b)), info>>8, info&0xff
	}
	relative := false
	if k := r.known; k != nil {
		relative = kind == k.relative
		switch {
		case !slices.Contains(k.types, kind):
			return im.damaged("it has a relocation %d", kind)
		case uint64(i) < rt.relative && !relative:
			return im.damaged("relocations that are counted as relative aren't")
		case kind != 0 && kind == k.resolved && !im.code(addend):
			return im.damaged("it calls %#x for an address", addend)
		}
	}
	if kind == 0 {
		return nil
	}
	if !r.writes(at) {
		return im.damaged("it relocates %#x", at)
	}
	// Only some relocations have their addend with them, the others in its place.
	if err := r.slots.relocated(at, relative && rt.entry == 24, addend); err != nil {
		return err
	}
	return r.mark(symbol, kind, rt.plt)
}

// mark notes what a relocation wants of a symbol.
func (r *relocs) mark(symbol, kind uint32, plt bool) error {
	switch {
	case symbol == 0:
		return nil
	case symbol >= r.room:
		return r.im.damaged("it relocates symbol %d", symbol)
	}
	for int(symbol) >= len(r.marks) {
		r.marks = append(r.marks, make([]byte, max(1024, int(symbol)+1-len(r.marks)))...)
	}
	switch {
	case kind == r.kinds.copy:
		r.marks[symbol] |= markCopy
	case plt && kind == r.kinds.jump:
		r.marks[symbol] |= markLazy
	default:
		r.marks[symbol] |= markNow
	}
	return nil
}

// writes says whether a loader can relocate what is at an address.
func (r *relocs) writes(at uint64) bool {
	inside := func(p *elf.ProgHeader) bool { return at >= p.Vaddr && at-p.Vaddr < p.Memsz }
	if r.last != nil && inside(r.last) {
		return true
	}
	for i := range r.im.progs {
		p := &r.im.progs[i]
		if p.Type == elf.PT_LOAD && (r.textrel || p.Flags&elf.PF_W != 0) && inside(p) {
			r.last = p
			return true
		}
	}
	return false
}

// packed goes through DT_RELR: addresses, and sets of the words that follow them.
func (r *relocs) packed(addr, size uint64) error {
	im := r.im
	width := uint64(im.pick(4, 8))
	if size > maxRelocs || size%width != 0 {
		return im.damaged("its relocations have %d bytes", size)
	}
	var next uint64
	return im.each(addr, size, int(width), func(_ int, b []byte) error {
		w := im.word(b)
		if w&1 == 0 {
			if !r.writes(w) {
				return im.damaged("it relocates %#x", w)
			}
			next = w + width
			return r.slots.relocated(w, false, 0)
		}
		for i, set := uint64(0), w>>1; set != 0; i, set = i+1, set>>1 {
			if set&1 == 0 {
				continue
			}
			if !r.writes(next + i*width) {
				return im.damaged("it relocates %#x", next+i*width)
			}
			if err := r.slots.relocated(next+i*width, false, 0); err != nil {
				return err
			}
		}
		next += (8*width - 1) * width
		return nil
	})
}
