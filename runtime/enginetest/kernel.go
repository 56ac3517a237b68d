package enginetest

import (
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// CallProgram is a C program that makes system calls which kernels got late, and
// prints what became of each: "there", or "missing" for ENOSYS.
const CallProgram = `#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *name, long got) {
	printf("%s %s\n", name, got == -1 && errno == ENOSYS ? "missing" : "there");
	fflush(stdout);
}

int main(void) {
	struct statx stx;
	struct { unsigned long long flags, mode, resolve; } how = { O_RDONLY, 0, 0 };
	unsigned long long clone[8];
	char random[4];
	tell("statx", syscall(SYS_statx, AT_FDCWD, "/", 0, STATX_ALL, &stx));
	tell("openat2", syscall(437, AT_FDCWD, "/", &how, sizeof how));
	tell("getrandom", syscall(SYS_getrandom, random, sizeof random, 0));
	memset(clone, 0, sizeof clone);
	clone[4] = 17; /* SIGCHLD */
	long pid = syscall(435, clone, sizeof clone);
	if (pid == 0)
		_exit(0);
	tell("clone3", pid);
	tell("mount", syscall(SYS_mount, 0, 0, 0, 0, 0));
	tell("signalfd4", syscall(SYS_signalfd4, -1, 0, 0, 0));
	tell("openat", syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY));
#ifdef __x86_64__
	if (access("/proc/sys/abi/vsyscall32", F_OK) == 0) { /* 32-bit programs run */
		long got;
		__asm__ volatile("int $0x80" : "=a"(got) : "a"(383), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
		errno = -got;
		tell("statx of i386", got < 0 ? -1 : got);
		__asm__ volatile("int $0x80" : "=a"(got) : "a"(224) : "memory");
		errno = -got;
		tell("gettid of i386", got < 0 ? -1 : got);
	}
#endif
	printf("files %ld\n", sysconf(_SC_OPEN_MAX));
	while (wait(0) > 0)
		;
	return 0;
}
`

// CompileCalls compiles CallProgram, for any userland.
func CompileCalls(t testing.TB, to string, flags ...string) {
	t.Helper()
	cmd := exec.Command("gcc", append(flags, "-static", "-O1", "-x", "c", "-o", to, "-")...)
	cmd.Stdin = strings.NewReader(CallProgram)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
}

// kernel shows another kernel than this machine's to programs.
func (s *suite) kernel(t *testing.T) {
	dir := t.TempDir()
	CompileCalls(t, filepath.Join(dir, "calls"))
	spec := s.spec()
	spec.Mounts = []runtime.Mount{{Source: dir, Target: "/opt/test", ReadOnly: true}}
	if s.options.NoSeccomp {
		spec.Command, spec.Kernel = []string{"true"}, &runtime.Kernel{Release: "3.10.0", Syscalls: []string{"read"}}
		_, err := s.engine.Run(t.Context(), spec, runtime.Stdio{})
		if hint, ok := err.(interface{ Hint() string }); !ok || hint.Hint() == "" {
			t.Errorf("another kernel without a system call filter: %v, want runtime.RefuseKernel's error", err)
		}
		return
	}
	own := s.shell(t, spec, "/opt/test/calls")
	for _, line := range []string{"statx there", "openat2 there", "getrandom there", "clone3 there", "mount there", "openat there"} {
		if !slices.Contains(strings.Split(own, "\n"), line) {
			t.Errorf("this machine's kernel: %q, want %s", own, line)
		}
	}
	osrelease, err := os.ReadFile("/proc/sys/kernel/osrelease")
	must(t, err)
	if got := s.shell(t, spec, "cat /proc/sys/kernel/osrelease"); got+"\n" != string(osrelease) {
		t.Errorf("this machine's kernel is shown as %q", got)
	}
	s.oldKernel(t, spec)
	for _, release := range []string{"4.9.0", "5.10.0-28-amd64"} {
		spec.Kernel = &runtime.Kernel{Release: release, Syscalls: snapshot.CallsOfRelease(release, goruntime.GOARCH)}
		if got := s.shell(t, spec, `(true); ls / | grep -c etc; cat /proc/sys/kernel/osrelease /proc/version`); got != "1\n"+release+
			"\nLinux version "+release {
			t.Errorf("%s: got %q", release, got)
		}
		spec.Command, spec.Terminal = []string{"bash", "-c", "cat /proc/sys/kernel/osrelease; exit 7"}, true
		term := StartTerminal(t, helper(t, spec), 24, 80)
		term.Expect(release)
		term.Exit(7)
		spec.Terminal = false
	}
	// This machine's C library needs Linux 3.2; what starts a session needs less.
	spec.Kernel.Release, spec.Kernel.Syscalls = "2.6.18", snapshot.CallsOfRelease("2.6.18", goruntime.GOARCH)
	spec.Command, spec.NoFile = []string{"/opt/test/calls"}, 512
	for range 10 {
		if got, _, _ := s.output(t, spec); !strings.Contains(got, "signalfd4 missing\nopenat there\n") || !strings.HasSuffix(got, "files 512\n") {
			t.Errorf("under Linux 2.6.18: got %q", got)
		}
	}
}

// oldKernel asks everything of a session under an old one.
func (s *suite) oldKernel(t *testing.T, spec runtime.Spec) {
	spec.Kernel = &runtime.Kernel{Release: "3.10.0-1160.el7.x86_64", Version: "Linux version 3.10.0-1160.el7.x86_64 (builder) #1 SMP",
		Syscalls: snapshot.CallsOfRelease("3.10.0", goruntime.GOARCH)}
	compat := func(statx string) string {
		if _, err := os.Stat("/proc/sys/abi/vsyscall32"); err != nil {
			return ""
		}
		return "statx of i386 " + statx + "\ngettid of i386 there\n"
	}
	want := "statx missing\nopenat2 missing\ngetrandom missing\nclone3 missing\nmount there\nsignalfd4 there\nopenat there\n" + compat("missing") + "files 1024"
	if got := s.shell(t, spec, "/opt/test/calls"); got != want {
		t.Errorf("under Linux 3.10:\n%s\nwant\n%s", got, want)
	}
	const script = `cat /proc/version /proc/sys/kernel/osrelease
		(echo x >/proc/sys/kernel/osrelease) 2>/dev/null || echo read-only
		umount /proc/version 2>/dev/null || echo mounted
		(echo x >/proc/sys/kernel/domainname) 2>/dev/null || echo read-only
		stat -c %a /proc/version /proc/sys/kernel/osrelease`
	want = spec.Kernel.Version + "\n" + spec.Kernel.Release + "\nread-only\nmounted\nread-only\n444\n444"
	if got := s.shell(t, spec, script); got != want {
		t.Errorf("under Linux 3.10: got %q, want %q", got, want)
	}
	spec.Kernel.Syscalls = slices.DeleteFunc(slices.Clone(spec.Kernel.Syscalls), func(name string) bool { return name == "mount" || name == "unshare" })
	if got := s.shell(t, spec, "/opt/test/calls"); !strings.Contains(got, "mount missing\n") {
		t.Errorf("without mount: got %q", got)
	}
}
