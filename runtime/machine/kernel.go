package machine

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/stead-env/stead/runtime"
)

// Kernel is about this machine's kernel.
func Kernel() Check {
	c := Check{Name: "kernel", For: "Sessions of ordinary users need overlay in a user namespace, which came with Linux 5.11."}
	version, processor := release()
	if major, minor := numbers(version); major < 5 || major == 5 && minor < 11 {
		c.Remedy = "use a kernel of 5.11 or later (distributions' own may have it earlier), or run as root"
		return c.with(Warning, "Linux %s on %s", version, processor)
	}
	return c.with(OK, "Linux %s on %s", version, processor)
}

// numbers are the first two numbers of a version.
func numbers(version string) (major, minor int) {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	second = second[:len(second)-len(strings.TrimLeft(second, "0123456789"))]
	major, _ = strconv.Atoi(first)
	minor, _ = strconv.Atoi(second)
	return major, minor
}

// Seccomp is about system call filters.
func Seccomp() Check {
	c := Check{Name: "seccomp", For: "A session's system calls are filtered, and --kernel target hides those that the host lacks."}
	text, _ := os.ReadFile("/proc/self/status")
	if !bytes.Contains(text, []byte("\nSeccomp:")) || !strings.Contains(setting("kernel/seccomp/actions_avail"), "errno") {
		c.Remedy = "use a kernel with CONFIG_SECCOMP_FILTER"
		return c.with(Missing, "this kernel has no filters")
	}
	return c.with(OK, "filters can answer errors")
}

// Vsyscall is about the oldest userlands.
func Vsyscall() Check {
	c := Check{Name: "vsyscall", For: "Programs of CentOS 5 and 6, and of others with a glibc before 2.14, call the kernel by it."}
	return c.or(runtime.CheckVsyscall("glibc 2.5", "amd64"), "the kernel has it", Warning)
}

// Processors is about programs for other processors.
func Processors() Check {
	c := Check{Name: "processors", For: "Envs of hosts with another processor run through an interpreter that is registered for it."}
	var run []string
	var first error
	for _, name := range []string{"amd64", "i386", "arm64", "armhf", "ppc64el", "s390x", "riscv64"} {
		err := runtime.CheckArchitecture(name)
		if err == nil {
			run = append(run, name)
		} else if first == nil {
			first = err
		}
	}
	if len(run) > 2 { // beyond this machine's own
		first = nil
	}
	c = c.or(first, "", Warning)
	return c.with(c.State, "this machine runs programs for %s", strings.Join(run, ", "))
}
