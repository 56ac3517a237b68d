package object

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"slices"
)

// The notes that are read, by their owner's name.
const (
	noteABI      = 1          // of GNU: the oldest kernel
	noteProperty = 5          // of GNU: what a processor needs
	noteGoBuild  = 4          // of Go: there is an identity of the build
	noteDlopen   = 0x407c0c0a // of FDO: what may be loaded

	propertyISA = 0xc0008002 // GNU_PROPERTY_X86_ISA_1_NEEDED
	maxDlopen   = 256        // entries of .note.dlopen
)

// notes reads the segments of notes. Loaders need none: what isn't there is left out.
func (im *image) notes() error {
	var total uint64
	for _, p := range im.progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxNotes-total {
			continue
		}
		b, err := im.part(p.Off, p.Filesz)
		if err != nil {
			return err
		}
		total += uint64(len(b))
		align := uint64(4)
		if p.Align == 8 {
			align = 8
		}
		im.noteSegment(b, align)
	}
	return nil
}

// noteSegment reads notes up to the first that makes no sense: no loader needs one.
func (im *image) noteSegment(b []byte, align uint64) {
	for len(b) >= 12 {
		names, descs, kind := uint64(im.order.Uint32(b)), uint64(im.order.Uint32(b[4:])), im.order.Uint32(b[8:])
		start := roundUp(12+names, align)
		if names == 0 || start > uint64(len(b)) || descs > uint64(len(b))-start {
			return
		}
		im.note(string(bytes.TrimRight(b[12:12+names], "\x00")), kind, b[start:start+descs])
		b = b[min(uint64(len(b)), roundUp(start+descs, align)):]
	}
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) / to * to }

func (im *image) note(owner string, kind uint32, desc []byte) {
	o := im.o
	switch {
	case owner == "GNU" && kind == noteABI && len(desc) >= 16 && im.order.Uint32(desc) == 0: // Linux
		for i := range o.Kernel {
			o.Kernel[i] = im.order.Uint32(desc[4+4*i:])
		}
	case owner == "GNU" && kind == noteProperty && (o.Machine == elf.EM_X86_64 || o.Machine == elf.EM_386):
		for len(desc) >= 8 {
			size := uint64(im.order.Uint32(desc[4:]))
			if size > uint64(len(desc)-8) {
				return
			}
			if im.order.Uint32(desc) == propertyISA && size == 4 {
				o.ISA = im.order.Uint32(desc[8:])
			}
			desc = desc[min(uint64(len(desc)), roundUp(8+size, uint64(im.pick(4, 8)))):]
		}
	case owner == "Go" && kind == noteGoBuild:
		im.goNote = true
	case owner == "FDO" && kind == noteDlopen && len(o.Dlopen) < maxDlopen:
		var entries []DlopenNote
		if json.Unmarshal(bytes.TrimRight(desc, "\x00"), &entries) == nil {
			entries = slices.DeleteFunc(entries, func(n DlopenNote) bool { return len(n.Sonames) == 0 })
			o.Dlopen = append(o.Dlopen, entries[:min(len(entries), maxDlopen-len(o.Dlopen))]...)
		}
	}
}
