package object

import (
	"bytes"
	"debug/elf"
	"io"
	"slices"
	"strings"
)

// Read reads an object of size bytes. Where no loader takes it, the error is an *Error.
func Read(r io.ReaderAt, size int64) (*Object, error) {
	im, err := open(r, size)
	if err != nil {
		return nil, err
	}
	o := im.o
	for _, step := range []func() error{im.segments, im.dynamic, im.notes, im.goBuild, im.comment} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	o.names = new(names)
	return o, nil
}

// stackDefault are the machines on which a stack is executable unless PT_GNU_STACK says
// otherwise.
var stackDefault = []elf.Machine{elf.EM_386, elf.EM_X86_64, elf.EM_ARM, elf.EM_PPC, elf.EM_MIPS,
	elf.EM_SPARC, elf.EM_SPARCV9, elf.EM_SPARC32PLUS, elf.EM_S390, elf.EM_68K, elf.EM_ALPHA, elf.EM_SH, elf.EM_PARISC}

// segments reads what the program headers say by themselves.
func (im *image) segments() error {
	o := im.o
	o.ExecStack = slices.Contains(stackDefault, o.Machine)
	for _, p := range im.progs {
		switch p.Type {
		case elf.PT_GNU_STACK:
			o.ExecStack = p.Flags&elf.PF_X != 0
		case elf.PT_INTERP:
			if o.Interp != "" {
				continue // the kernel takes the first
			}
			if p.Filesz < 2 || p.Filesz > 4096 {
				return im.damaged("its PT_INTERP has %d bytes", p.Filesz)
			}
			b := make([]byte, p.Filesz)
			if err := im.file(b, p.Off); err != nil {
				return err
			}
			if b[len(b)-1] != 0 {
				return im.damaged("its PT_INTERP has no end")
			}
			if o.Interp = string(b[:bytes.IndexByte(b, 0)]); o.Interp == "" {
				return im.damaged("its PT_INTERP is empty")
			}
		}
	}
	return nil
}

// Tags that debug/elf has no name for.
const (
	dtRELRSize = elf.DynTag(35)
	dtRELR     = elf.DynTag(36)
	dtRELREnt  = elf.DynTag(37)
)

// tags are the entries of PT_DYNAMIC: of those that may come once, the last counts.
type tags struct {
	one     map[elf.DynTag]uint64
	needed  []uint64
	filters []filterTag
}

type filterTag struct {
	name      uint64
	auxiliary bool
}

func (t *tags) has(tag elf.DynTag) bool {
	_, ok := t.one[tag]
	return ok
}

// tags reads PT_DYNAMIC, nil where there is none.
func (im *image) tags() (*tags, error) {
	var p *elf.ProgHeader
	for i := range im.progs {
		if im.progs[i].Type == elf.PT_DYNAMIC {
			p = &im.progs[i] // loaders take the last
		}
	}
	if p == nil {
		return nil, nil
	}
	entry := uint64(im.pick(8, 16))
	off, rest, err := im.offset(p.Vaddr)
	if err != nil {
		return nil, err
	}
	// Loaders read up to DT_NULL, whatever the size says.
	t := &tags{one: map[elf.DynTag]uint64{}}
	for n := uint64(0); n < maxDynamic*entry; {
		b := make([]byte, min(1024, rest-n))
		if uint64(len(b)) < entry {
			break
		}
		if err := im.read(b, int64(off+n)); err != nil {
			return nil, err
		}
		for ; uint64(len(b)) >= entry; b, n = b[entry:], n+entry {
			tag, value := elf.DynTag(int64(im.word(b))), im.word(b[entry/2:])
			switch tag {
			case elf.DT_NULL:
				return t, nil
			case elf.DT_NEEDED:
				t.needed = append(t.needed, value)
			case elf.DT_FILTER, elf.DT_AUXILIARY:
				t.filters = append(t.filters, filterTag{value, tag == elf.DT_AUXILIARY})
			default:
				t.one[tag] = value
			}
		}
	}
	return nil, im.damaged("its PT_DYNAMIC has no end")
}

// dynamic reads PT_DYNAMIC and all it leads to.
func (im *image) dynamic() error {
	t, err := im.tags()
	if t == nil || err != nil {
		return err
	}
	o := im.o
	o.Dynamic = true
	flags, flags1 := elf.DynFlag(t.one[elf.DT_FLAGS]), elf.DynFlag1(t.one[elf.DT_FLAGS_1])
	o.BindNow = t.has(elf.DT_BIND_NOW) || flags&elf.DF_BIND_NOW != 0 || flags1&elf.DF_1_NOW != 0
	o.NoDefaultLibs = flags1&elf.DF_1_NODEFLIB != 0
	o.PIE = flags1&elf.DF_1_PIE != 0
	o.RELR = t.has(dtRELR)
	if err := im.checkDynamic(t); err != nil {
		return err
	}
	strs, err := im.strings(t)
	if err != nil {
		return err
	}
	if err := o.texts(t, strs); err != nil {
		return err
	}
	v, err := im.versions(t, strs)
	if err != nil {
		return err
	}
	return im.symbols(t, strs, v)
}

// texts reads what is named in PT_DYNAMIC itself.
func (o *Object) texts(t *tags, strs *table) error {
	for _, at := range t.needed {
		name, err := strs.at(at)
		if err != nil {
			return err
		}
		o.Needed = append(o.Needed, name)
	}
	for _, f := range t.filters {
		name, err := strs.at(f.name)
		if err != nil {
			return err
		}
		o.Filters = append(o.Filters, Filter{name, f.auxiliary})
	}
	for tag, to := range map[elf.DynTag]func(string){
		elf.DT_SONAME:  func(s string) { o.Soname = s },
		elf.DT_RPATH:   func(s string) { o.RPath = folders(s) },
		elf.DT_RUNPATH: func(s string) { o.RunPath = folders(s) },
	} {
		if at, ok := t.one[tag]; ok {
			s, err := strs.at(at)
			if err != nil {
				return err
			}
			to(s)
		}
	}
	return nil
}

// folders are those of a search path: none for "".
func folders(path string) []string {
	if path == "" {
		return []string{}
	}
	return strings.Split(path, ":")
}

// table is DT_STRTAB.
type table struct {
	im   *image
	text string
}

func (im *image) strings(t *tags) (*table, error) {
	addr, ok := t.one[elf.DT_STRTAB]
	if !ok {
		return &table{im: im}, nil
	}
	off, rest, err := im.offset(addr)
	if err != nil {
		return nil, err
	}
	size, ok := t.one[elf.DT_STRSZ]
	if !ok {
		size = rest
	}
	if size > rest {
		return nil, im.damaged("its strings go beyond their segment")
	}
	if size > maxStrings {
		return nil, im.damaged("its strings have %d bytes", size)
	}
	var text strings.Builder
	text.Grow(int(size))
	part := make([]byte, min(size, 32<<10))
	if _, err := io.CopyBuffer(&text, io.NewSectionReader(im.r, int64(off), int64(size)), part); err != nil {
		return nil, err
	}
	if text.Len() != int(size) {
		return nil, im.o.fault(TooShort, "")
	}
	return &table{im: im, text: text.String()}, nil
}

// at is the string at an offset.
func (t *table) at(off uint64) (string, error) {
	if off >= uint64(len(t.text)) {
		return "", t.im.damaged("a name lies beyond its strings")
	}
	s := t.text[off:]
	n := strings.IndexByte(s[:min(len(s), maxName)], 0)
	if n < 0 {
		return "", t.im.damaged("a name has no end")
	}
	return s[:n], nil
}
