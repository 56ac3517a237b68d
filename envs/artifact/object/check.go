package object

import (
	"debug/elf"
	"math/bits"
	"slices"
)

// A loader goes by what a file says, and crashes where that makes no sense. What can be
// seen of it beforehand is checked here: such an object never starts.

// mapped says whether n bytes at an address lie in one segment with such rights.
func (im *image) mapped(addr, n uint64, flags elf.ProgFlag) bool {
	for i := range im.progs {
		p := &im.progs[i]
		if p.Type == elf.PT_LOAD && p.Flags&flags == flags && addr >= p.Vaddr && n <= p.Memsz && addr-p.Vaddr <= p.Memsz-n {
			return true
		}
	}
	return false
}

// code says whether an address is one to call.
func (im *image) code(addr uint64) bool {
	if im.described() {
		return im.mapped(addr, 1, 0)
	}
	return im.mapped(addr&^im.thumb(), 1, elf.PF_X)
}

// described says whether what is called is a pointer, among the data.
func (im *image) described() bool {
	return slices.Contains([]elf.Machine{elf.EM_PPC64, elf.EM_IA_64, elf.EM_PARISC}, im.o.Machine)
}

// thumb is the bit of an address that tells ARM how to read what is there.
func (im *image) thumb() uint64 {
	if im.o.Machine == elf.EM_ARM {
		return 1
	}
	return 0
}

// checkSegments looks at those that a loader sets up beside what it maps.
func (im *image) checkSegments() error {
	for _, p := range im.progs {
		switch p.Type {
		case elf.PT_TLS:
			im.tls = true
			if p.Memsz == 0 {
				continue
			}
			if p.Filesz > p.Memsz || p.Memsz > maxMemory || bits.OnesCount64(p.Align) != 1 {
				return im.damaged("its thread-local data has no size that can be")
			}
			if p.Filesz > 0 && !im.mapped(p.Vaddr, p.Filesz, elf.PF_R) {
				return im.damaged("its thread-local data lies in no segment")
			}
		case elf.PT_GNU_RELRO:
			start, end := p.Vaddr&^(page-1), (p.Vaddr+p.Memsz)&^(page-1)
			if p.Vaddr > maxAddress || p.Memsz > maxMemory {
				return im.damaged("what is protected has no size that can be")
			}
			covers := func(l elf.ProgHeader) bool {
				return l.Type == elf.PT_LOAD && start >= l.Vaddr&^(page-1) && end <= roundUp(l.Vaddr+l.Memsz, page)
			}
			if start < end && !slices.ContainsFunc(im.progs, covers) {
				return im.damaged("what is protected lies in no segment")
			}
		case elf.PT_DYNAMIC:
			if p.Flags&elf.PF_W != 0 && !im.mapped(p.Vaddr, 1, elf.PF_W) {
				return im.damaged("its PT_DYNAMIC can't be written")
			}
		}
	}
	return nil
}

// arrays of functions that a loader calls.
var arrays = []struct{ addr, size elf.DynTag }{
	{elf.DT_PREINIT_ARRAY, elf.DT_PREINIT_ARRAYSZ},
	{elf.DT_INIT_ARRAY, elf.DT_INIT_ARRAYSZ},
	{elf.DT_FINI_ARRAY, elf.DT_FINI_ARRAYSZ},
}

// together are tags of which there are all or none.
var together = [][]elf.DynTag{
	{elf.DT_RELA, elf.DT_RELASZ, elf.DT_RELAENT},
	{elf.DT_REL, elf.DT_RELSZ, elf.DT_RELENT},
	{elf.DT_JMPREL, elf.DT_PLTRELSZ, elf.DT_PLTREL},
	{dtRELR, dtRELRSize, dtRELREnt},
	{elf.DT_PREINIT_ARRAY, elf.DT_PREINIT_ARRAYSZ},
	{elf.DT_INIT_ARRAY, elf.DT_INIT_ARRAYSZ},
	{elf.DT_FINI_ARRAY, elf.DT_FINI_ARRAYSZ},
	{elf.DT_STRTAB, elf.DT_SYMTAB},
}

// checkDynamic looks at what a loader calls, and where it writes.
func (im *image) checkDynamic(t *tags) error {
	for _, tag := range []elf.DynTag{elf.DT_INIT, elf.DT_FINI} {
		if addr := t.one[tag]; addr != 0 && !im.code(addr) {
			return im.damaged("its %v lies in no code", tag)
		}
	}
	for _, a := range arrays {
		if n := t.one[a.size]; n%uint64(im.pick(4, 8)) != 0 || n > 0 && !im.mapped(t.one[a.addr], n, elf.PF_R) {
			return im.damaged("its %v lies in no segment", a.addr)
		}
	}
	for _, all := range together {
		for _, tag := range all {
			if t.has(tag) != t.has(all[0]) {
				return im.damaged("it has not all of %v", all)
			}
		}
	}
	if known := im.known(); known != nil {
		if t.one[elf.DT_PLTRELSZ] > 0 && !im.o.BindNow && !im.mapped(t.one[elf.DT_PLTGOT], 3*uint64(im.pick(4, 8)), elf.PF_W) {
			return im.damaged("its DT_PLTGOT lies in no segment")
		}
		if kind, ok := t.one[elf.DT_PLTREL]; ok && (elf.DynTag(kind) == elf.DT_RELA) != known.rela {
			return im.damaged("its DT_PLTREL is %d", kind)
		}
	}
	for tag, size := range map[elf.DynTag]int{elf.DT_RELENT: im.pick(8, 16), elf.DT_RELAENT: im.pick(12, 24), dtRELREnt: im.pick(4, 8)} {
		if t.has(tag) && t.one[tag] != uint64(size) {
			return im.damaged("its relocations have %d bytes each", t.one[tag])
		}
	}
	return nil
}

// symbolRoom is how many symbols there can be before another table starts.
func (im *image) symbolRoom(t *tags) uint64 {
	start, room := t.one[elf.DT_SYMTAB], uint64(maxSymbols)
	for _, tag := range []elf.DynTag{elf.DT_STRTAB, elf.DT_VERSYM, elf.DT_GNU_HASH, elf.DT_HASH, elf.DT_VERDEF, elf.DT_VERNEED,
		elf.DT_RELA, elf.DT_REL, elf.DT_JMPREL, dtRELR, elf.DT_INIT} {
		if addr, ok := t.one[tag]; ok && addr > start {
			room = min(room, (addr-start)/uint64(im.pick(16, 24)))
		}
	}
	return room
}

// slots are the words of arrays that hold addresses of functions: in what is loaded
// anywhere, a loader has to relocate each.
type slots struct {
	im     *image
	ranges [][2]uint64 // from, to
	from   uint64      // of the first
	span   uint64      // bytes from there to the end of the last; 0 for none
	want   uint64
	seen   map[uint64]bool
}

func (im *image) slots(t *tags) *slots {
	s := &slots{im: im, seen: map[uint64]bool{}}
	if im.o.Type != elf.ET_DYN || im.known() == nil {
		return s
	}
	for _, a := range arrays {
		// Nobody has so many: they would only cost memory.
		if addr, n := t.one[a.addr], t.one[a.size]; n > 0 && n < window*8 {
			s.ranges = append(s.ranges, [2]uint64{addr, addr + n})
			s.want += n / uint64(im.pick(4, 8))
		}
	}
	for i, r := range s.ranges {
		from, to := r[0], r[1]
		if i > 0 {
			from, to = min(from, s.from), max(to, s.from+s.span)
		}
		s.from, s.span = from, to-from
	}
	return s
}

// relocated notes one that is, to a function at addr.
func (s *slots) relocated(at uint64, known bool, addr uint64) error {
	for _, r := range s.ranges {
		if at >= r[0] && at < r[1] {
			if known && !s.im.code(addr) {
				return s.im.damaged("it calls %#x", addr)
			}
			s.seen[at] = true
			return nil
		}
	}
	return nil
}

func (s *slots) end() error {
	if uint64(len(s.seen)) < s.want {
		return s.im.damaged("it calls functions at addresses that aren't relocated")
	}
	return nil
}
