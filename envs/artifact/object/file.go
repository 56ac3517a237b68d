package object

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// Bounds on what a file can make a reader do: far above what real objects have, of which
// the largest exports some hundred thousand symbols.
const (
	maxAddress = 1 << 56   // the most of memory
	maxMemory  = 1 << 36   // bytes of a segment in memory
	maxHeaders = 1 << 16   // bytes of program headers: the kernel's own limit
	maxDynamic = 1 << 16   // entries of PT_DYNAMIC
	maxStrings = 64 << 20  // bytes of DT_STRTAB
	maxSymbols = 1 << 20   // symbols
	maxNames   = 48 << 20  // bytes of all their names: names can lie in each other
	maxName    = 1 << 16   // bytes of a name
	maxRelocs  = 256 << 20 // bytes of a table of relocations
	maxNotes   = 1 << 20   // bytes of a segment of notes
	window     = 1 << 16   // bytes read at once of tables that aren't kept
)

// image is a file as a loader maps it.
type image struct {
	r     io.ReaderAt
	size  int64
	order binary.ByteOrder
	is64  bool
	mips  bool
	progs []elf.ProgHeader
	o     *Object

	goNote bool // a note says that Go built it
	tls    bool // it has a PT_TLS
}

// damaged is the error of a file whose header is one, and the rest isn't.
func (im *image) damaged(format string, args ...any) error {
	return im.o.fault(Damaged, fmt.Sprintf(format, args...))
}

// fault is an error about a file whose header says what o says so far.
func (o *Object) fault(reason Reason, detail string) *Error {
	return &Error{Reason: reason, Detail: detail, Class: o.Class, Data: o.Data, OSABI: o.OSABI,
		ABIVersion: o.ABIVersion, Machine: o.Machine, Flags: o.Flags}
}

// open reads the header and the program headers, in the order in which glibc looks at them.
func open(r io.ReaderAt, size int64) (*image, error) {
	im := &image{r: r, size: size, o: &Object{}}
	o := im.o
	if size < 52 {
		return nil, o.fault(TooShort, "")
	}
	head := make([]byte, min(size, 64))
	if err := im.read(head, 0); err != nil {
		return nil, err
	}
	ident := head[:elf.EI_NIDENT]
	if string(ident[:4]) != elf.ELFMAG {
		return nil, o.fault(NotELF, "")
	}
	o.Class, o.Data = elf.Class(ident[elf.EI_CLASS]), elf.Data(ident[elf.EI_DATA])
	o.OSABI, o.ABIVersion = elf.OSABI(ident[elf.EI_OSABI]), ident[elf.EI_ABIVERSION]
	switch o.Class {
	case elf.ELFCLASS64:
		im.is64 = true
		if size < 64 {
			return nil, o.fault(TooShort, "")
		}
	case elf.ELFCLASS32:
	default:
		return nil, im.damaged("it is of class %d", ident[elf.EI_CLASS])
	}
	switch o.Data {
	case elf.ELFDATA2LSB:
		im.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		im.order = binary.BigEndian
	default:
		return nil, o.fault(ByteOrder, "")
	}
	if ident[elf.EI_VERSION] != 1 || im.order.Uint32(head[20:]) != 1 {
		return nil, im.damaged("its version isn't 1")
	}
	o.Type = elf.Type(im.order.Uint16(head[16:]))
	o.Machine = elf.Machine(im.order.Uint16(head[18:]))
	im.mips = o.Machine == elf.EM_MIPS || o.Machine == elf.EM_MIPS_RS3_LE
	return im, im.headers(head)
}

// headers reads the rest of the header and the program headers.
func (im *image) headers(head []byte) error {
	o := im.o
	var start, at uint64
	var entry, count int
	if im.is64 {
		start, at = im.order.Uint64(head[24:]), im.order.Uint64(head[32:])
		o.Flags = im.order.Uint32(head[48:])
		entry, count = int(im.order.Uint16(head[54:])), int(im.order.Uint16(head[56:]))
	} else {
		start, at = uint64(im.order.Uint32(head[24:])), uint64(im.order.Uint32(head[28:]))
		o.Flags = im.order.Uint32(head[36:])
		entry, count = int(im.order.Uint16(head[42:])), int(im.order.Uint16(head[44:]))
	}
	o.OddIdent = strings.Trim(string(head[elf.EI_ABIVERSION+1:elf.EI_NIDENT]), "\x00") != ""
	if o.Type != elf.ET_EXEC && o.Type != elf.ET_DYN {
		return o.fault(NotLoadable, "")
	}
	if entry != im.pick(32, 56) {
		return im.damaged("its program headers have %d bytes each", entry)
	}
	if count*entry > maxHeaders {
		return im.damaged("it has %d program headers", count)
	}
	table := make([]byte, count*entry)
	if err := im.file(table, at); err != nil {
		return err
	}
	im.progs = make([]elf.ProgHeader, count)
	for i := range im.progs {
		im.progs[i] = im.prog(table[i*entry:])
	}
	if err := im.checkLoads(); err != nil {
		return err
	}
	return im.checkStart(start, at, uint64(len(table)))
}

// checkStart looks at what a program needs to be started: where its code is, and program
// headers in memory, for its loader to find.
func (im *image) checkStart(entry, headers, size uint64) error {
	im.o.NoEntry = !im.code(entry)
	mapped, program, placed := false, false, false
	for _, p := range im.progs {
		switch p.Type {
		case elf.PT_LOAD:
			mapped = mapped || headers >= p.Off && headers+size <= p.Off+p.Filesz
			im.o.Unaligned = im.o.Unaligned || p.Align%page != 0
		case elf.PT_INTERP:
			program = true
		case elf.PT_PHDR:
			placed = true // by it, glibc knows where a program lies
		}
	}
	im.o.NoEntry = im.o.NoEntry || program && !placed && im.o.Type == elf.ET_DYN
	if program && !mapped {
		return im.damaged("no segment has its program headers")
	}
	return im.checkSegments()
}

const page = 4096 // the least that there are

func (im *image) prog(b []byte) elf.ProgHeader {
	u := im.order.Uint32
	if !im.is64 {
		return elf.ProgHeader{Type: elf.ProgType(u(b)), Off: uint64(u(b[4:])), Vaddr: uint64(u(b[8:])),
			Filesz: uint64(u(b[16:])), Memsz: uint64(u(b[20:])), Flags: elf.ProgFlag(u(b[24:])), Align: uint64(u(b[28:]))}
	}
	w := im.order.Uint64
	return elf.ProgHeader{Type: elf.ProgType(u(b)), Flags: elf.ProgFlag(u(b[4:])), Off: w(b[8:]), Vaddr: w(b[16:]),
		Filesz: w(b[32:]), Memsz: w(b[40:]), Align: w(b[48:])}
}

// checkLoads holds what is to be mapped against what the kernel and loaders can map.
func (im *image) checkLoads() error {
	var loads int
	var last uint64
	for _, p := range im.progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		switch {
		case p.Off > uint64(im.size) || p.Filesz > uint64(im.size)-p.Off:
			return im.damaged("it ends within a segment")
		case p.Filesz > p.Memsz || p.Memsz > maxMemory || p.Vaddr > maxAddress:
			return im.damaged("a segment has no size that can be")
		case (p.Vaddr-p.Off)%page != 0:
			return im.damaged("a segment's address and offset don't agree")
		case loads > 0 && p.Vaddr < last:
			return im.damaged("its segments are in no order")
		}
		last = p.Vaddr + p.Memsz
		loads++
	}
	if loads == 0 {
		return im.damaged("it has no segment to load")
	}
	return nil
}

// pick is a size that depends on the class.
func (im *image) pick(for32, for64 int) int {
	if im.is64 {
		return for64
	}
	return for32
}

// word reads a value of the class's width.
func (im *image) word(b []byte) uint64 {
	if im.is64 {
		return im.order.Uint64(b)
	}
	return uint64(im.order.Uint32(b))
}

// read fills b from an offset that lies in the file, or did when its size was asked for.
func (im *image) read(b []byte, off int64) error {
	n, err := im.r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return im.o.fault(TooShort, "")
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(b), off, err)
}

// file fills b from an offset that the file itself names.
func (im *image) file(b []byte, off uint64) error {
	if off > uint64(im.size) || uint64(len(b)) > uint64(im.size)-off {
		return im.damaged("it ends at %d, where it needs %d bytes more", im.size, len(b))
	}
	return im.read(b, int64(off))
}

// offset is where in the file an address lies, and how many bytes of its segment follow.
func (im *image) offset(addr uint64) (off, rest uint64, err error) {
	for _, p := range slices.Backward(im.progs) { // where they overlap, the last is on top
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_R != 0 && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return p.Off + (addr - p.Vaddr), p.Filesz - (addr - p.Vaddr), nil
		}
	}
	return 0, 0, im.damaged("its address %#x lies in no segment", addr)
}

// memory reads n bytes at an address.
func (im *image) memory(addr, n uint64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	off, rest, err := im.offset(addr)
	if err != nil {
		return nil, err
	}
	if n > rest {
		return nil, im.damaged("a table at %#x goes beyond its segment", addr)
	}
	b := make([]byte, n)
	return b, im.read(b, int64(off))
}

var buffers = sync.Pool{New: func() any { return new([window]byte) }}

// each hands over the entries of a table, of which it keeps one window at a time.
func (im *image) each(addr, size uint64, entry int, fn func(i int, b []byte) error) error {
	return im.windows(addr, size, entry, func(i int, b []byte) error {
		for ; len(b) > 0; b = b[entry:] {
			if err := fn(i, b[:entry:entry]); err != nil {
				return err
			}
			i++
		}
		return nil
	})
}

// windows hands over a table in parts, each of whole entries. i counts the first of them.
func (im *image) windows(addr, size uint64, entry int, fn func(i int, b []byte) error) error {
	size -= size % uint64(entry)
	if size == 0 {
		return nil
	}
	off, rest, err := im.offset(addr)
	if err != nil {
		return err
	}
	if size > rest {
		return im.damaged("a table at %#x goes beyond its segment", addr)
	}
	whole := buffers.Get().(*[window]byte)
	defer buffers.Put(whole)
	buf := whole[:min(size, uint64(window-window%entry))]
	for i := 0; size > 0; i += len(buf) / entry {
		buf = buf[:min(size, uint64(len(buf)))]
		if err := im.read(buf, int64(off)); err != nil {
			return err
		}
		if err := fn(i, buf); err != nil {
			return err
		}
		off, size = off+uint64(len(buf)), size-uint64(len(buf))
	}
	return nil
}
