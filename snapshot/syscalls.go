package snapshot

import (
	"bufio"
	"io"
	"slices"
	"strings"
)

// Bounds of a kernel's symbols.
const (
	maxSymbols     = 64 << 20 // bytes; a kernel of a distribution with all its modules has 15 MB
	maxSystemCalls = 2048
	maxCallName    = 64
)

// KernelSymbols gathers the system calls that a kernel has from the names of its
// functions, as /proc/kallsyms and System.map tell them (nm(1)).
type KernelSymbols struct {
	wrapped, plain map[string]bool // calls, by how their functions are named
	compat, time64 bool            // 32-bit programs run, and have times of 64 bits
}

// ReadKernelSymbols reads a table of symbols. What doesn't name enough for any program to
// run gives nil: the kernel hides its names, or it has none.
func ReadKernelSymbols(r io.Reader) ([]string, error) {
	var k KernelSymbols
	in := bufio.NewScanner(io.LimitReader(r, maxSymbols))
	in.Buffer(nil, 64<<10)
	for in.Scan() {
		_, rest, _ := strings.Cut(in.Text(), " ")
		// A weak symbol (W) stands for a call that the kernel was made without.
		if kind, name, ok := strings.Cut(rest, " "); ok && (kind == "T" || kind == "t") {
			k.Add(name)
		}
	}
	return k.Calls(), in.Err()
}

// wrappers begin the names of functions since Linux 4.17 (x86) and 4.19 (arm64), and
// nothing else.
var wrappers = []struct {
	prefix string
	compat bool
}{
	{"__x64_sys_", false}, {"__arm64_sys_", false}, {"__ia32_compat_sys_", true}, {"__ia32_sys_", true},
	{"__arm64_compat_sys_", true},
}

// plainPrefixes begin those of older kernels, and other functions too.
var plainPrefixes = []struct {
	prefix string
	compat bool
}{{"sys_", false}, {"SyS_", false}, {"compat_sys_", true}, {"compat_SyS_", true}, {"sys32_", true}}

// Add takes the name of a function of the kernel's own.
func (k *KernelSymbols) Add(symbol string) {
	if k.plain == nil {
		k.plain, k.wrapped = map[string]bool{}, map[string]bool{}
	}
	if len(symbol) > maxCallName || len(k.wrapped)+len(k.plain) > maxSystemCalls {
		return
	}
	for _, w := range wrappers {
		if name, ok := strings.CutPrefix(symbol, w.prefix); ok {
			k.add(k.wrapped, name, w.compat)
			return
		}
	}
	for _, p := range plainPrefixes {
		if name, ok := strings.CutPrefix(symbol, p.prefix); ok {
			k.add(k.plain, name, p.compat)
			return
		}
	}
}

func (k *KernelSymbols) add(to map[string]bool, function string, compat bool) {
	if !validCall(function) {
		return
	}
	k.compat = k.compat || compat || function == "getuid16" // which 32-bit programs alone have
	k.time64 = k.time64 || function == "clock_gettime32"
	for _, name := range callsOf(function) {
		to[name] = true
	}
}

// functions have other names than the calls that they are for.
var functions = map[string][]string{
	"newstat": {"stat"}, "newfstat": {"fstat"}, "newlstat": {"lstat"}, "stat": {"oldstat"}, "fstat": {"oldfstat"},
	"lstat": {"oldlstat"}, "newuname": {"uname"}, "uname": {"olduname"}, "olduname": {"oldolduname"},
	"umount": {"umount2"}, "oldumount": {"umount"}, "sendfile64": {"sendfile", "sendfile64"}, "select": {"select", "_newselect"},
	"llseek": {"_llseek"}, "mmap_pgoff": {"mmap2"}, "getrlimit": {"getrlimit", "ugetrlimit"},
	"fadvise64_64": {"fadvise64", "fadvise64_64"}, "pread": {"pread64"}, "pwrite": {"pwrite64"}, "preadv64": {"preadv"},
	"pwritev64": {"pwritev"}, "preadv64v2": {"preadv2"}, "pwritev64v2": {"pwritev2"}, "arm64_personality": {"personality"},
	"vm86_warning": {"vm86"}, "fstatat": {"fstatat64"}, "ni_syscall": nil, "tz": nil,
}

// callsOf gives the calls that a function is for, by libseccomp's names.
func callsOf(function string) []string {
	for _, prefix := range []string{"ia32_", "x86_", "aarch32_"} {
		function = strings.TrimPrefix(function, prefix)
	}
	if names, ok := functions[function]; ok {
		return names
	}
	for _, suffix := range []string{"_wrapper", "_time32"} {
		function = strings.TrimSuffix(function, suffix)
	}
	if old, ok := strings.CutPrefix(function, "old_"); ok {
		function = old
	}
	for _, suffix := range []string{"16", "32"} { // of ids, and of times
		if name, ok := strings.CutSuffix(function, suffix); ok && systemCalls()[name] != "" {
			function = name
		}
	}
	return []string{function}
}

// Calls are the system calls, sorted, by libseccomp's names; nil where there can't be
// all.
func (k *KernelSymbols) Calls() []string {
	calls := map[string]bool{}
	for name := range k.plain {
		// Other functions begin like this too.
		if systemCalls()[name] != "" && (len(k.wrapped) == 0 || name == "sigreturn" || name == "rt_sigreturn") {
			calls[name] = true
		}
	}
	for name := range k.wrapped {
		calls[name] = true
	}
	for _, needed := range []string{"read", "write", "execve", "exit_group"} {
		if !calls[needed] {
			return nil
		}
	}
	if k.compat {
		k.addCompat(calls)
	}
	list := make([]string, 0, len(calls))
	for name := range calls {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// addCompat adds the names that 32-bit programs have for calls that are here.
func (k *KernelSymbols) addCompat(calls map[string]bool) {
	for name, since := range systemCalls() {
		for _, suffix := range []string{"32", "64", "_time64"} {
			base, ok := strings.CutSuffix(name, suffix)
			if !ok || !calls[base] || suffix != "32" && (since != time64Since || !k.time64) {
				continue
			}
			calls[name] = true
		}
	}
}

// validCall reports whether a name can be a system call's.
func validCall(name string) bool {
	return name != "" && len(name) <= maxCallName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// SystemCalls sorts names that were told, and leaves out what can't be one.
func SystemCalls(names []string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !validCall(name) })
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxSystemCalls)]
}
