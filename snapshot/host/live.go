package host

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// Live implements snapshot.Host: it is known for the running system only.
func (d *Dir) Live(context.Context) (snapshot.Live, error) {
	if !d.live {
		return snapshot.Live{}, nil
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return snapshot.Live{}, fmt.Errorf("reading the kernel's release: %w", err)
	}
	l := snapshot.Live{Kernel: unix.ByteSliceToString(u.Release[:])}
	if f, err := os.Open("/proc/version"); err == nil {
		defer f.Close()
		if line, err := bufio.NewReader(io.LimitReader(f, maxVersion)).ReadString('\n'); err == nil {
			l.KernelVersion = version(line)
		}
	}
	l.SystemCalls = systemCalls(l.Kernel)
	l.CPU = cpu(u)
	return l, nil
}

// Machine tells of the running system what takes no time to find: its kernel's release and
// its processor's level; "" for what isn't known.
func Machine() (kernel, level string) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", ""
	}
	return unix.ByteSliceToString(u.Release[:]), cpu(u)
}

func cpu(u unix.Utsname) string {
	if unix.ByteSliceToString(u.Machine[:]) != "x86_64" {
		return ""
	}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	return cpuLevel(bufio.NewScanner(f))
}

// maxVersion is more than /proc/version has.
const maxVersion = 4096

// version is the text of /proc/version, or nothing where it can't be one.
func version(line string) string {
	line = strings.TrimSuffix(line, "\n")
	if len(line) > maxVersion || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
		return ""
	}
	return line
}

// systemCalls reads the running kernel's: from its own table of symbols, or from the one
// that a distribution installs with it.
func systemCalls(release string) []string {
	for _, name := range []string{"/proc/kallsyms", "/boot/System.map-" + release, "/lib/modules/" + release + "/System.map"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		calls, err := snapshot.ReadKernelSymbols(f)
		f.Close()
		if err == nil && calls != nil {
			return calls
		}
	}
	return nil
}

// levels are the micro-architecture levels of the x86-64 psABI, by the names that
// Linux gives the features (abm is LZCNT, pni is SSE3, osxsave shows as xsave).
var levels = []struct{ name, flags string }{
	{"x86-64-v1", "cmov cx8 fpu fxsr mmx syscall sse sse2"},
	{"x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"},
	{"x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"},
	{"x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"},
}

// cpuLevel finds the highest level of which all features, and those of the levels
// below, are in the first processor's flags.
func cpuLevel(cpuinfo *bufio.Scanner) string {
	for cpuinfo.Scan() {
		key, value, _ := strings.Cut(cpuinfo.Text(), ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		has := map[string]bool{}
		for f := range strings.FieldsSeq(value) {
			has[f] = true
		}
		level := ""
		for _, l := range levels {
			for f := range strings.FieldsSeq(l.flags) {
				if !has[f] {
					return level
				}
			}
			level = l.name
		}
		return level
	}
	return ""
}
