package artifact

import (
	"debug/elf"
	"slices"
	"strconv"
	"strings"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// architectures are the names that distributions have for a machine, the clearest first.
var architectures = map[elf.Machine][]string{
	elf.EM_X86_64:      {"amd64", "x86_64"},
	elf.EM_386:         {"i386", "i486", "i586", "i686"},
	elf.EM_AARCH64:     {"arm64", "aarch64"},
	elf.EM_ARM:         {"armhf", "armel", "armv7l", "armv7hl", "armv6l"},
	elf.EM_PPC64:       {"ppc64el", "ppc64le", "ppc64"},
	elf.EM_S390:        {"s390x"},
	elf.EM_RISCV:       {"riscv64"},
	elf.EM_MIPS:        {"mips64el", "mipsel", "mips"},
	elf.EM_LOONGARCH:   {"loong64", "loongarch64"},
	elf.EM_PPC:         {"powerpc", "ppc"},
	elf.EM_SPARCV9:     {"sparc64"},
	elf.EM_PARISC:      {"hppa"},
	elf.EM_68K:         {"m68k"},
	elf.EM_ALPHA:       {"alpha"},
	elf.EM_ALPHA_STD:   {"alpha"},
	elf.EM_IA_64:       {"ia64"},
	elf.EM_SH:          {"sh4"},
	elf.EM_SPARC:       {"sparc"},
	elf.EM_SPARC32PLUS: {"sparc"},
}

// also are machines whose kernels run another's static programs too.
var also = map[elf.Machine]elf.Machine{elf.EM_X86_64: elf.EM_386}

// bigEndian tells architectures by the names that distributions have for them.
func bigEndian(architecture string) bool {
	return slices.Contains([]string{"s390x", "powerpc", "ppc", "ppc64", "mips", "sparc64", "sparc",
		"hppa", "m68k"}, architecture)
}

// isX32 tells amd64's ABI with pointers of 32 bits, which kernels can be told to run.
func isX32(o *object.Object) bool { return o.Machine == elf.EM_X86_64 && o.Class == elf.ELFCLASS32 }

// otherOrder tells whether a loader's system has the other byte order than a program, which
// some machines can be run in.
func (c *check) otherOrder(l *system.Loader) bool {
	f, ok := c.System.Find(l.Path)
	if !ok || f.Object == nil {
		return false
	}
	o, err := f.Object()
	return err == nil && o.Machine == c.file.Object.Machine && o.Data != c.file.Object.Data
}

// checkMachine judges whether the target's kernel takes a program that needs no loader.
func (c *check) checkMachine() {
	machine := c.file.Object.Machine
	known := false
	takes := func(m elf.Machine) bool {
		known = true
		return m == machine || also[m] == machine && machine != 0
	}
	for _, l := range c.System.Loaders() {
		if !takes(l.Machine) || c.otherOrder(l) {
			continue
		}
		if isX32(c.file.Object) && l.Class != elf.ELFCLASS32 {
			c.unproven(string(loader.WrongMachine), "%s is for x32, and whether %s's kernel runs that isn't known: most don't",
				c.name, c.Name).way("build it for amd64")
		}
		return
	}
	for m, names := range architectures {
		big := c.file.Object.Data == elf.ELFDATA2MSB
		if slices.Contains(names, c.Host.Architecture) && takes(m) && big == bigEndian(c.Host.Architecture) {
			return
		}
	}
	if !known {
		c.unproven(string(loader.WrongMachine), "%s is for %s, and what %s is isn't known", c.name,
			machineName(c.file.Object), c.Name)
		return
	}
	c.wrongMachine()
}

// kernelFloor is what something asks of the kernel, by its own word.
type kernelFloor struct {
	of      string
	version [3]uint32
}

// goKernels are the oldest kernels of Go's releases (its release notes), the latest first.
var goKernels = []struct {
	since string
	linux [3]uint32
}{
	{"1.24", [3]uint32{3, 2}},
	{"1.18", [3]uint32{2, 6, 32}},
	{"1.0", [3]uint32{2, 6, 23}},
}

// rustKernels are those of Rust's standard library on Linux with glibc.
var rustKernels = []struct {
	since string
	linux [3]uint32
}{
	{"1.64", [3]uint32{3, 2}},
	{"1.0", [3]uint32{2, 6, 32}},
}

// floors are what an object asks of the kernel.
func floors(o *object.Object) []kernelFloor {
	var all []kernelFloor
	if o.Kernel != [3]uint32{} {
		all = append(all, kernelFloor{"its ABI note", o.Kernel})
	}
	if v, ok := strings.CutPrefix(o.Go, "go"); ok {
		for _, k := range goKernels {
			if compareNumbers(v, k.since) >= 0 {
				all = append(all, kernelFloor{"Go " + v, k.linux})
				break
			}
		}
	}
	if v, ok := strings.CutPrefix(o.Compiler, "rustc version "); ok {
		v, _, _ = strings.Cut(v, " ")
		for _, k := range rustKernels {
			if compareNumbers(v, k.since) >= 0 {
				all = append(all, kernelFloor{"Rust " + v, k.linux})
				break
			}
		}
	}
	return all
}

// checkKernel compares the artifact's own floors with the target's kernel. Where that
// isn't known, its C library's own floor counts as met: the target runs.
func (c *check) checkKernel(own []*object.Object, l *system.Loader) {
	kernel, known := kernelVersion(c.Host.Kernel)
	if !known {
		kernel = c.libcFloor(l)
	}
	for _, o := range own {
		for _, f := range floors(o) {
			if slices.Compare(kernel[:], f.version[:]) >= 0 {
				continue
			}
			name := c.name
			if o != c.file.Object && o.Soname != "" {
				name = o.Soname
			}
			want := kernelString(f.version)
			switch {
			case !known:
				c.unproven("kernel", "%s asks for Linux %s (%s), and %s's kernel isn't known", name, want, f.of, c.Name)
			case f.of == "its ABI note" && unenforced(l):
				c.unproven("kernel", "%s asks for Linux %s (%s), and %s has %s: glibc %s lets it start nevertheless",
					name, want, f.of, c.Name, c.Host.Kernel, l.Version)
			default:
				r := c.fails("kernel", "%s asks for Linux %s (%s), and %s has %s", name, want, f.of, c.Name, c.Host.Kernel)
				r.Version, r.When = want, atLoad
			}
		}
	}
}

// unenforced tells loaders that read no floor any more: glibc's since 2.36, and musl's.
func unenforced(l *system.Loader) bool {
	return l != nil && (l.Family == system.Musl || compareNumbers(l.Version, "2.36") >= 0)
}

// muslFloor counts as met where musl is that of 2020 or later, which names no floor itself:
// kernels before it had no fixes for years by then.
var muslFloor = [3]uint32{3, 2}

func hasMuslFloor(l *system.Loader) bool {
	return l.Family == system.Musl && compareNumbers(l.Version, "1.2") >= 0
}

// libcFloor is the floor in the notes of the target's own C library or loader.
func (c *check) libcFloor(l *system.Loader) [3]uint32 {
	if all := c.System.Loaders(); l == nil && len(all) > 0 && hasMuslFloor(all[0]) || l != nil && hasMuslFloor(l) {
		return muslFloor
	}
	var paths []string
	if l != nil {
		paths = append(paths, l.Path)
		for _, dir := range l.SystemDirs {
			paths = append(paths, dir+"/libc.so.6")
		}
	} else {
		for _, l := range c.System.Loaders() {
			paths = append(paths, l.Path)
			for _, dir := range l.SystemDirs {
				paths = append(paths, dir+"/libc.so.6")
			}
		}
	}
	var floor [3]uint32
	for _, p := range paths {
		f, ok := c.System.Find(p)
		if !ok || f.Object == nil {
			continue
		}
		if o, err := f.Object(); err == nil && slices.Compare(o.Kernel[:], floor[:]) > 0 {
			floor = o.Kernel
		}
	}
	return floor
}

// kernelVersion reads the numbers of a kernel's release: "5.10.0-28-amd64".
func kernelVersion(release string) (version [3]uint32, ok bool) {
	release, _, _ = strings.Cut(release, "-")
	for i, part := range strings.SplitN(release, ".", 3) {
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end >= 0 {
			part = part[:end]
		}
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return version, i > 0
		}
		version[i] = uint32(n)
	}
	return version, true
}

func kernelString(v [3]uint32) string {
	s := strconv.Itoa(int(v[0])) + "." + strconv.Itoa(int(v[1]))
	if v[2] != 0 {
		s += "." + strconv.Itoa(int(v[2]))
	}
	return s
}

// cpuLevels are x86-64's, as locks name them, with the bit that notes have for each.
var cpuLevels = []struct {
	name string
	bit  uint32
}{
	{"x86-64-v1", 1}, {"x86-64-v2", 2}, {"x86-64-v3", 4}, {"x86-64-v4", 8},
}

// checkCPU compares what notes and build flags ask of the processor with the target's.
// Most programs say nothing, whatever they were built with.
func (c *check) checkCPU(own []*object.Object, l *system.Loader) {
	have := slices.IndexFunc(cpuLevels, func(level struct {
		name string
		bit  uint32
	}) bool {
		return level.name == c.Host.CPU
	})
	for _, o := range own {
		if o.Machine != elf.EM_X86_64 {
			continue
		}
		want, from := 0, ""
		for i, level := range cpuLevels {
			if o.ISA&level.bit != 0 && i > want {
				want, from = i, "its note says"
			}
			if o.GoLevel == level.name[len("x86-64-"):] && i > want {
				want, from = i, "it was built with GOAMD64="+o.GoLevel
			}
		}
		if want == 0 || have >= want {
			continue
		}
		if strings.Contains(c.file.Path, "/glibc-hwcaps/") {
			c.remark("cpu", "%s is for processors of %s: others load the one beside its folder", c.name, cpuLevels[want].name)
			continue
		}
		name := c.name
		if o != c.file.Object && o.Soname != "" {
			name = o.Soname
		}
		if have < 0 {
			r := c.unproven("cpu", "%s is for processors of %s (%s), and %s's isn't known", name, cpuLevels[want].name, from, c.Name)
			if o.GoLevel != "" {
				r.way("build it for all: GOAMD64=v1")
			}
			r.way("take %s's snapshot from the machine as it runs, which tells its processor", c.Name)
			continue
		}
		r := c.fails("cpu", "%s is for processors of %s (%s), and %s has %s", name, cpuLevels[want].name, from,
			c.Name, c.Host.CPU)
		r.When = atLoad
		r.way("build it for %s", c.Host.CPU)
	}
}

// checkStack tells of objects that want an executable stack, which hardened systems refuse
// and glibc 2.41 gives no module any more.
func (c *check) checkStack(own []*object.Object, l *system.Loader) {
	for _, o := range own {
		if !o.ExecStack {
			continue
		}
		if o == c.file.Object && c.answer.Kind == Module && l != nil && l.Family == system.GLibC &&
			compareNumbers(l.Version, "2.41") >= 0 {
			c.unproven("stack", "%s asks for an executable stack, which glibc %s of %s gives no library that is loaded later",
				c.name, l.Version, c.Name).way("link it with -Wl,-z,noexecstack")
			continue
		}
		name := c.name
		if o != c.file.Object && o.Soname != "" {
			name = o.Soname
		}
		c.remark("stack", "%s asks for an executable stack: SELinux and the like may refuse it", name)
	}
}

// compareNumbers compares dotted versions number by number, for display and for the
// releases of C libraries and languages, never for the versions of symbols.
func compareNumbers(a, b string) int {
	for a != "" || b != "" {
		var x, y uint64
		x, a = leadingNumber(a)
		y, b = leadingNumber(b)
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return 0
}

// leadingNumber takes the first number out of a version, and what comes after.
func leadingNumber(s string) (n uint64, rest string) {
	s = strings.TrimLeftFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, _ = strconv.ParseUint(s[:min(end, 18)], 10, 64)
	return n, s[end:]
}
