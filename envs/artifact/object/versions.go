package object

import "debug/elf"

const (
	maxVersion    = 1 << 15 // versions have 15 bits
	hiddenVersion = 1 << 15 // and the one above says that it isn't the default
)

// version is what an index of DT_VERSYM stands for.
type version struct {
	name, file string
}

// versions reads DT_VERDEF and DT_VERNEED, and gives what each index stands for.
func (im *image) versions(t *tags, strs *table) ([]version, error) {
	im.o.Versioned = t.has(elf.DT_VERSYM)
	v := &versionTable{im: im, strs: strs, byIndex: make([]version, 3)}
	if addr, ok := t.one[elf.DT_VERDEF]; ok {
		if err := v.definitions(addr); err != nil {
			return nil, err
		}
	}
	if addr, ok := t.one[elf.DT_VERNEED]; ok {
		if err := v.requirements(addr); err != nil {
			return nil, err
		}
	}
	return v.byIndex, nil
}

type versionTable struct {
	im      *image
	strs    *table
	byIndex []version
	count   int
}

func (v *versionTable) set(index uint16, is version) {
	index &= maxVersion - 1
	for int(index) >= len(v.byIndex) {
		v.byIndex = append(v.byIndex, version{})
	}
	v.byIndex[index] = is
}

// step counts entries: both tables are chains, which can go round.
func (v *versionTable) step() error {
	if v.count++; v.count > maxVersion {
		return v.im.damaged("its versions have no end")
	}
	return nil
}

func (v *versionTable) definitions(addr uint64) error {
	u16, u32 := v.im.order.Uint16, v.im.order.Uint32
	for {
		if err := v.step(); err != nil {
			return err
		}
		b, err := v.im.memory(addr, 20)
		if err != nil {
			return err
		}
		flags, index := u16(b[2:]), u16(b[4:])
		if u16(b) != 1 {
			return v.im.damaged("it defines versions in a format %d", u16(b))
		}
		aux, err := v.im.memory(addr+uint64(u32(b[12:])), 8)
		if err != nil {
			return err
		}
		name, err := v.strs.at(uint64(u32(aux)))
		if err != nil {
			return err
		}
		d := Definition{Name: name, Index: index & (maxVersion - 1), Base: flags&1 != 0, Weak: flags&2 != 0}
		if u32(b[8:]) == sysvHashOf(name) { // else nobody finds it
			v.im.o.Definitions = append(v.im.o.Definitions, d)
		}
		if !d.Base {
			v.set(index, version{name: name})
		}
		next := u32(b[16:])
		if next == 0 {
			return nil
		}
		addr += uint64(next)
	}
}

func (v *versionTable) requirements(addr uint64) error {
	u16, u32 := v.im.order.Uint16, v.im.order.Uint32
	for {
		if err := v.step(); err != nil {
			return err
		}
		b, err := v.im.memory(addr, 16)
		if err != nil {
			return err
		}
		if u16(b) != 1 {
			return v.im.damaged("it requires versions in a format %d", u16(b))
		}
		file, err := v.strs.at(uint64(u32(b[4:])))
		if err != nil {
			return err
		}
		r := Requirement{File: file}
		for at := addr + uint64(u32(b[8:])); ; {
			if err := v.step(); err != nil {
				return err
			}
			a, err := v.im.memory(at, 16)
			if err != nil {
				return err
			}
			name, err := v.strs.at(uint64(u32(a[8:])))
			if err != nil {
				return err
			}
			if u32(a) != sysvHashOf(name) {
				return v.im.damaged("the hash of version %s isn't right", name)
			}
			r.Versions = append(r.Versions, Required{Name: name, Weak: u16(a[4:])&2 != 0})
			v.set(u16(a[6:]), version{name: name, file: file})
			next := u32(a[12:])
			if next == 0 {
				break
			}
			at += uint64(next)
		}
		v.im.o.Requirements = append(v.im.o.Requirements, r)
		next := u32(b[12:])
		if next == 0 {
			return nil
		}
		addr += uint64(next)
	}
}
