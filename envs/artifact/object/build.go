package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
)

const (
	goMagic    = "\xff Go buildinf:"
	goAlign    = 16
	goInline   = 2        // a flag: the strings follow, as since Go 1.18
	maxGoData  = 64 << 20 // bytes of data that are searched for it
	maxGoText  = 1 << 20  // bytes of one of its strings
	maxComment = 64 << 10 // bytes of .comment
)

// levels are the settings of a Go build that tell what processor it needs.
var levels = []string{"GOAMD64", "GO386", "GOARM", "GOARM64", "GOMIPS", "GOMIPS64", "GOPPC64", "GORISCV64"}

// goBuild reads what Go's linker left at the start of a section of data.
func (im *image) goBuild() error {
	if !im.goNote && im.o.Dynamic {
		return nil
	}
	left := uint64(maxGoData)
	for _, p := range im.progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_W == 0 {
			continue
		}
		at, err := im.findGo(p, left)
		left -= min(left, p.Filesz)
		if at > 0 && err == nil {
			err = im.readGo(at)
		}
		if err != nil || im.o.Go != "" {
			return err
		}
	}
	return nil
}

// findGo searches so many bytes of a segment; 0 is nowhere.
func (im *image) findGo(p elf.ProgHeader, most uint64) (addr uint64, err error) {
	start := roundUp(p.Vaddr, goAlign)
	if start-p.Vaddr >= p.Filesz {
		return 0, nil
	}
	size := min(p.Filesz-(start-p.Vaddr), most)
	err = im.each(start, size, goAlign, func(i int, b []byte) error {
		if addr == 0 && string(b[:len(goMagic)]) == goMagic {
			addr = start + uint64(i)*goAlign
		}
		return nil
	})
	return addr, err
}

func (im *image) readGo(at uint64) error {
	head, err := im.some(at, 32)
	if len(head) < 32 || err != nil {
		return err
	}
	var release, settings string
	if head[15]&goInline != 0 {
		b, err := im.some(at+32, maxGoText)
		if err != nil {
			return err
		}
		release, b = goText(b)
		settings, _ = goText(b)
	} else {
		// Older linkers leave two addresses of strings.
		width := uint64(im.pick(4, 8))
		for i, to := range []*string{&release, &settings} {
			if *to, err = im.goString(im.word(head[16+uint64(i)*width:])); err != nil {
				return err
			}
		}
	}
	if !strings.HasPrefix(release, "go") && !strings.HasPrefix(release, "devel") {
		return nil
	}
	im.o.Go, _, _ = strings.Cut(release, " X:") // experiments
	for line := range strings.Lines(settings) {
		setting, ok := strings.CutPrefix(strings.TrimSpace(line), "build\t")
		if name, value, _ := strings.Cut(setting, "="); ok && slices.Contains(levels, name) {
			im.o.GoLevel = value
		}
	}
	return nil
}

// goText splits a string with its length before it off b.
func goText(b []byte) (string, []byte) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return "", nil
	}
	return string(b[w : w+int(n)]), b[w+int(n):]
}

// goString reads a string whose address and length lie at addr.
func (im *image) goString(addr uint64) (string, error) {
	width := uint64(im.pick(4, 8))
	b, err := im.some(addr, 2*width)
	if uint64(len(b)) < 2*width || err != nil {
		return "", err
	}
	n := im.word(b[width:])
	text, err := im.some(im.word(b), min(n, maxGoText))
	return string(text), err
}

// some reads up to n bytes at an address: none, where nothing is.
func (im *image) some(addr, n uint64) ([]byte, error) {
	off, rest, err := im.offset(addr)
	if err != nil {
		return nil, nil
	}
	b := make([]byte, min(n, rest))
	return b, im.read(b, int64(off))
}

// comment looks for rustc's mark, which lies in no segment: where there are no sections,
// or none that make sense, there is none.
func (im *image) comment() error {
	head := make([]byte, im.pick(52, 64))
	if err := im.read(head, 0); err != nil {
		return err
	}
	at := im.word(head[im.pick(32, 40):])
	tail := head[im.pick(46, 58):]
	entry, count, names := int(im.order.Uint16(tail)), int(im.order.Uint16(tail[2:])), int(im.order.Uint16(tail[4:]))
	if at == 0 || entry != im.pick(40, 64) || names >= count {
		return nil
	}
	sections, err := im.part(at, uint64(count*entry))
	if err != nil || sections == nil {
		return err
	}
	place := func(i int) (name uint32, off, size uint64) {
		b := sections[i*entry:]
		return im.order.Uint32(b), im.word(b[im.pick(16, 24):]), im.word(b[im.pick(20, 32):])
	}
	_, off, size := place(names)
	text, err := im.part(off, min(size, maxComment))
	if err != nil {
		return err
	}
	for i := range count {
		name, off, size := place(i)
		if uint64(name) >= uint64(len(text)) || !bytes.HasPrefix(text[name:], []byte(".comment\x00")) {
			continue
		}
		b, err := im.part(off, min(size, maxComment))
		if err != nil {
			return err
		}
		for mark := range bytes.SplitSeq(b, []byte{0}) {
			if bytes.HasPrefix(mark, []byte("rustc version ")) {
				im.o.Compiler = string(mark)
			}
		}
	}
	return nil
}

// part reads a part of the file, nil where it has none such.
func (im *image) part(off, n uint64) ([]byte, error) {
	if off > uint64(im.size) || n > uint64(im.size)-off {
		return nil, nil
	}
	b := make([]byte, n)
	return b, im.read(b, int64(off))
}
