package loader

import (
	"debug/elf"
	"errors"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// Bits of e_flags that keep objects of one machine apart.
const (
	armEABIMask  = 0xff000000
	armEABI5     = 0x05000000
	armSoftFloat = 0x200
	armHardFloat = 0x400
	riscvFloat   = 0x6
	ppc64ABI     = 0x3
	mipsABI2     = 0x20
	armAEABI     = 64 // in the OS ABI
	mipsNaN2008  = 0x400
)

// header is what a loader looks at before anything else.
type header struct {
	class      elf.Class
	data       elf.Data
	abi        elf.OSABI
	abiVersion uint8
	machine    elf.Machine
	flags      uint32
}

// headerOf is a file's, even of one that is broken behind it; ok is false where there is
// none.
func headerOf(o *object.Object, err error) (h header, ok bool) {
	if o != nil {
		return header{o.Class, o.Data, o.OSABI, o.ABIVersion, o.Machine, o.Flags}, true
	}
	var broken *object.Error
	if errors.As(err, &broken) && broken.Reason != object.TooShort && broken.Reason != object.NotELF {
		return header{broken.Class, broken.Data, broken.OSABI, broken.ABIVersion, broken.Machine, broken.Flags}, true
	}
	return header{}, false
}

// takes says whether a file's machine is the loader's: others are passed over.
func (m *machine) takes(h header) bool {
	if h.machine != m.loader.Machine {
		return false
	}
	flags := m.loader.Flags
	switch h.machine {
	case elf.EM_RISCV:
		return h.flags&riscvFloat == flags&riscvFloat
	case elf.EM_PPC64:
		return h.flags&ppc64ABI == 0 || h.flags&ppc64ABI == flags&ppc64ABI
	case elf.EM_MIPS:
		return (h.flags^flags)&(mipsABI2|mipsNaN2008) == 0
	}
	return true
}

// refusesHeader says why the loader gives up on a file of its own class before it looks at
// the machine; "" where it goes on.
func (m *machine) refusesHeader(h header) string {
	arm := m.loader.Machine == elf.EM_ARM
	switch {
	case m.self != nil && h.data != m.self.Data:
		return "its byte order is another"
	case h.abi != elf.ELFOSABI_NONE && h.abi != elf.ELFOSABI_LINUX && !(arm && h.abi == armAEABI):
		return "its OS ABI is another"
	case h.abiVersion != 0 && !(h.abi == elf.ELFOSABI_LINUX && h.abiVersion < 4) && m.loader.Machine != elf.EM_MIPS:
		return "its ABI version is another"
	case arm && h.flags&armEABIMask == armEABI5 && h.flags&m.wrongFloat() != 0:
		return "its floating point ABI is another"
	}
	return ""
}

// refuses says why the loader gives up on an object of its own machine, "" for one that it
// loads.
func (m *machine) refuses(o *object.Object) string {
	switch {
	case o.OddIdent:
		return "its identification isn't padded with zeros"
	case o.Type == elf.ET_EXEC, o.PIE && !m.before(2, 30):
		return "it is a program, not a library"
	case o.Type != elf.ET_DYN:
		return "it is neither program nor library"
	case !o.Dynamic:
		return "it has no dynamic section"
	case o.Unaligned && m.before(2, 35):
		return "the alignment of a segment isn't a page's"
	}
	return ""
}

// wrongFloat is the mark of the objects that an ARM loader doesn't take.
func (m *machine) wrongFloat() uint32 {
	if m.loader.Flags&armHardFloat != 0 {
		return armSoftFloat
	}
	return armHardFloat
}

// CacheFlags is the mark that ldconfig gives to the libraries of a loader in ld.so.cache.
func CacheFlags(l *system.Loader) uint32 { return cacheFlags(l) }

// cacheFlags is the mark of a loader's own entries in ld.so.cache.
func cacheFlags(l *system.Loader) uint32 {
	const libc6 = 3
	wide := l.Class == elf.ELFCLASS64
	switch l.Machine {
	case elf.EM_X86_64:
		if !wide {
			return 0x0800 | libc6 // x32
		}
		return 0x0300 | libc6
	case elf.EM_AARCH64:
		return 0x0a00 | libc6
	case elf.EM_ARM:
		if l.Flags&armHardFloat != 0 {
			return 0x0900 | libc6
		}
		return 0x0b00 | libc6
	case elf.EM_S390:
		if wide {
			return 0x0400 | libc6
		}
	case elf.EM_PPC64:
		return 0x0500 | libc6
	case elf.EM_SPARCV9:
		return 0x0100 | libc6
	case elf.EM_IA_64:
		return 0x0200 | libc6
	case elf.EM_RISCV:
		if l.Flags&riscvFloat == 0x4 {
			return 0x1000 | libc6
		}
		return 0x0f00 | libc6
	case elf.EM_MIPS:
		return mipsCacheFlags(l) | libc6
	}
	return libc6
}

func mipsCacheFlags(l *system.Loader) uint32 {
	nan := l.Flags&mipsNaN2008 != 0
	switch {
	case l.Class == elf.ELFCLASS64 && nan:
		return 0x0e00
	case l.Class == elf.ELFCLASS64:
		return 0x0700
	case l.Flags&mipsABI2 != 0 && nan:
		return 0x0d00
	case l.Flags&mipsABI2 != 0:
		return 0x0600
	case nan:
		return 0x0c00
	}
	return 0
}

// takesFlags says whether an entry of ld.so.cache is for this loader.
func (m *machine) takesFlags(flags uint32) bool {
	own := cacheFlags(m.loader)
	switch {
	case flags == own:
		return true
	case m.loader.Machine == elf.EM_ARM:
		return flags == 3 // not marked as either
	}
	return own == 3 && flags == 1
}

// Capabilities as older loaders have them: bits in ld.so.cache, folders beside libraries.
const (
	oldSSE2     = 1 << 0
	oldX86      = 1 << 1
	oldAVX512   = 1 << 2
	oldPlatform = 48 // the first of the bits for platforms
	oldTLS      = 63
)

var oldPlatforms = []string{"i586", "i686", "haswell", "xeon_phi"}

// takesOldHWCap says whether an entry of ld.so.cache that asks for capabilities in the old
// way is for this processor, as far as that is known.
func (m *machine) takesOldHWCap(bits uint64) bool {
	if bits == 0 {
		return true
	}
	if !m.before(2, 37) {
		return false
	}
	var has uint64
	switch m.loader.Machine {
	case elf.EM_X86_64:
		has = oldX86
		if hasAVX512(m.loader) {
			has |= oldAVX512
		}
	case elf.EM_386:
		if len(m.loader.HWCaps) > 0 {
			has = oldSSE2
		}
	}
	platforms := uint64(0xf) << oldPlatform
	if bits&^(has|platforms|1<<oldTLS) != 0 {
		return false
	}
	if want := bits & platforms; want != 0 {
		for i, p := range oldPlatforms {
			if p == m.loader.Platform {
				return want == 1<<(oldPlatform+i)
			}
		}
		return false
	}
	return true
}

// capabilities are the folders that a loader looks into below each folder, the best first,
// "" for the folder itself.
func capabilities(l *system.Loader, version [2]int) (subs []string) {
	if l.Family != system.GLibC {
		return []string{""}
	}
	known := version != [2]int{}
	if !known || version[0] > 2 || version[1] >= 33 {
		for _, h := range l.HWCaps {
			subs = append(subs, "glibc-hwcaps/"+h)
		}
	}
	if known && version[0] == 2 && version[1] < 37 {
		parts := oldParts(l)
		for mask := 1<<len(parts) - 1; mask > 0; mask-- {
			var sub []string
			for i, p := range parts {
				if mask&(1<<(len(parts)-1-i)) != 0 {
					sub = append(sub, p)
				}
			}
			subs = append(subs, strings.Join(sub, "/"))
		}
	}
	return append(subs, "")
}

// oldParts are the folders that older loaders combine, the first one varying slowest.
func oldParts(l *system.Loader) []string {
	parts := []string{"tls"}
	wide := l.Machine == elf.EM_X86_64
	if l.Platform != "" && l.Platform != "x86_64" {
		parts = append(parts, l.Platform)
	}
	if hasAVX512(l) {
		parts = append(parts, "avx512_1")
	}
	if wide {
		parts = append(parts, "x86_64")
	}
	if l.Machine == elf.EM_386 && len(l.HWCaps) > 0 {
		parts = append(parts, "sse2")
	}
	return parts
}

// hasAVX512 says whether older loaders count a processor among those with AVX-512: only one
// vendor's, which have a platform of their own.
func hasAVX512(l *system.Loader) bool {
	return l.Platform == "haswell" && slices.Contains(l.HWCaps, "x86-64-v4")
}

// expand puts the values of $ORIGIN, $LIB and $PLATFORM into a path or a name, "" where one
// has none.
func expand(s string, m *Mapped, l *system.Loader) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s) && out.Len() <= maxPath; { // what is longer is never there
		if s[i] != '$' {
			out.WriteByte(s[i])
			i++
			continue
		}
		value, n := token(s[i+1:], m, l)
		switch {
		case n == 0:
			out.WriteByte('$')
			i++
		case value == "":
			return ""
		default:
			out.WriteString(value)
			i += 1 + n
		}
	}
	return out.String()
}

// token is the value of the token that a text after a dollar sign begins with, and its
// length; 0 for none that the loader knows.
func token(s string, m *Mapped, l *system.Loader) (value string, n int) {
	for _, name := range []string{"ORIGIN", "PLATFORM", "LIB"} {
		if strings.HasPrefix(s, "{"+name+"}") {
			n = len(name) + 2
		} else if strings.HasPrefix(s, name) && !(len(s) > len(name) && isWord(s[len(name)])) {
			n = len(name)
		} else {
			continue
		}
		switch name {
		case "ORIGIN":
			return origin(m.Name), n
		case "PLATFORM":
			return l.Platform, n
		}
		return l.Lib, n
	}
	return "", 0
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
