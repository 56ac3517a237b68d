package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// CheckVsyscall reports why programs of a C library ("glibc 2.12") for an
// architecture, by Debian's name, may die on this machine; nil where they don't.
// Those of CentOS 5 and 6 jump to a page that a kernel may be without.
func CheckVsyscall(libc, architecture string) error {
	if architecture != "amd64" || !callsVsyscall(libc) {
		return nil
	}
	if CheckArchitecture(architecture) != nil {
		return nil // what runs them instead has its own
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil || hasVsyscall(maps) {
		return nil
	}
	return &Error{Op: "looking for vsyscall", Code: CodeEngine,
		Err:    fmt.Errorf("this machine's kernel has none, and kills programs of %s that ask for the time: exit code 139", libc),
		Remedy: "boot it with vsyscall=emulate on the kernel's command line"}
}

// hasVsyscall reads the table of a process's memory: proc_pid_maps(5).
func hasVsyscall(maps []byte) bool { return bytes.Contains(maps, []byte(" [vsyscall]\n")) }

// callsVsyscall reports whether a C library is a glibc before 2.14, which was the
// first to use nothing but the vDSO.
func callsVsyscall(libc string) bool {
	version, ok := strings.CutPrefix(libc, "glibc ")
	if !ok {
		return false
	}
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return errors.Join(err, err2) == nil && (major < 2 || major == 2 && minor < 14)
}
