package snapshot

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// symbols makes a table as /proc/kallsyms shows it to users: without addresses.
func symbols(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("0000000000000000 " + line + "\n")
	}
	return b.String()
}

func TestReadKernelSymbols(t *testing.T) {
	for name, test := range map[string]struct {
		symbols []string
		want    string
	}{
		"Linux 6.1 on amd64": {[]string{
			"T __x64_sys_read", "T __ia32_sys_read", "T __x64_sys_write", "T __x64_sys_execve", "T __x64_sys_exit_group",
			"T __pfx___x64_sys_openat2", "t __do_sys_openat2", "t do_sys_openat2", "T __x64_sys_newstat", "T __x64_sys_stat",
			"T __x64_sys_umount", "T __ia32_sys_oldumount", "W __x64_sys_acct", "W __ia32_compat_sys_kexec_load",
			"t __x64_sys_statx\t[rootkit]", "T __x64_sys_chown", "T __ia32_sys_chown16", "T __ia32_compat_sys_ia32_pread64",
			"T __x64_sys_futex", "T __ia32_sys_futex_time32", "T __ia32_sys_clock_gettime32", "T __x64_sys_clock_gettime",
			"t __x64_sys_setitimer.cold", "T sys_ni_syscall", "T __x64_sys_ni_syscall", "t sys_off_notify", "T sys_mount",
			"T __x64_sys_newerthanstead", "T __x64_sys_select",
		}, "_newselect chown chown32 clock_gettime clock_gettime64 execve exit_group futex futex_time64 newerthanstead oldstat pread64 " +
			"read select stat umount umount2 write"},
		"Linux 4.18 on amd64": {[]string{
			"T __x64_sys_read", "T __x64_sys_write", "T __x64_sys_execve", "T __x64_sys_exit_group", "T __ia32_compat_sys_x86_mmap",
			"T sys32_rt_sigreturn", "T __ia32_compat_sys_x86_stat64",
		}, "execve exit_group mmap read rt_sigreturn stat64 write"},
		"Linux 3.10 on amd64": {[]string{
			"T sys_read", "T SyS_read", "t SYSC_read", "T sys_write", "T sys_execve", "T sys_exit_group", "T stub_execve", "T sys_newfstat",
			"T compat_sys_fcntl64", "T sys32_mmap2", "T sys32_fstatat", "W compat_sys_kexec_load", "W sys_bpf", "t sys_dmi_field_show",
			"T sys_tz", "T sys_getuid", "T sys_getuid16",
		}, "execve exit_group fcntl64 fstat fstatat64 getuid getuid32 mmap2 read write"},
		"Linux 5.10 on arm64": {[]string{
			"T __arm64_sys_read", "T __arm64_sys_write", "T __arm64_sys_execve", "T __arm64_sys_exit_group", "T __arm64_sys_newfstatat",
			"T __arm64_sys_arm64_personality", "T __arm64_sys_fadvise64_64", "T __arm64_compat_sys_aarch32_statfs64",
			"W __arm64_sys_memfd_secret",
		}, "execve exit_group fadvise64 fadvise64_64 newfstatat personality read statfs64 write"},
		"names that are hidden": {[]string{"T __x64_sys_read", "t bpf_prog_6deef7357e7b4530"}, ""},
		"nothing":               {nil, ""},
	} {
		got, err := ReadKernelSymbols(strings.NewReader(symbols(test.symbols...)))
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, %v\nwant %q", name, got, err, test.want)
		}
	}
}

// This machine's own kernel has what its version tells, unless it was made without.
func TestOwnKernel(t *testing.T) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Skip("this machine's kernel shows no symbols")
	}
	defer f.Close()
	calls, err := ReadKernelSymbols(f)
	if err != nil || calls == nil {
		t.Fatalf("no calls: %v", err)
	}
	for _, name := range strings.Fields("openat statx clone3 umount2 fstat newfstatat uname sendfile pread64 mmap rt_sigreturn exit") {
		if !slices.Contains(calls, name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestCallsOfRelease(t *testing.T) {
	for _, test := range []struct{ release, architecture, has, lacks string }{
		{"5.10.0-28-amd64", "amd64", "read statx clone3 openat2 close_range kexec_file_load", "epoll_pwait2 mount_setattr"},
		{"3.10.0-1160.el7.x86_64", "amd64", "openat setns finit_module fstatat64", "statx clone3 openat2 getrandom renameat2 clock_gettime64"},
		{"2.6.32-754.el6.x86_64", "amd64", "accept4 preadv", "recvmmsg prlimit64"},
		{"4.19.0+", "arm64", "statx", "kexec_file_load"},
		{"4.11.12", "arm64", "openat", "statx"},
		{"99.1", "amd64", "statx", "nosuch"},
	} {
		calls := CallsOfRelease(test.release, test.architecture)
		for name := range strings.FieldsSeq(test.has) {
			if !slices.Contains(calls, name) {
				t.Errorf("%s lacks %s", test.release, name)
			}
		}
		for name := range strings.FieldsSeq(test.lacks) {
			if slices.Contains(calls, name) {
				t.Errorf("%s has %s", test.release, name)
			}
		}
		if !slices.Equal(calls, SystemCalls(calls)) {
			t.Errorf("%s: not sorted", test.release)
		}
	}
	for _, release := range []string{"", "vmlinux", "5", "2.4.21", "99999999999999999999.1"} {
		if calls := CallsOfRelease(release, "amd64"); calls != nil {
			t.Errorf("%q has %d calls", release, len(calls))
		}
	}
}

func FuzzKernelSymbols(f *testing.F) {
	f.Add(symbols("T __x64_sys_read", "T __x64_sys_write", "T sys_execve", "T SyS_exit_group", "T compat_sys_old_readdir"))
	f.Add(symbols("T sys_read", "T sys_write", "T sys_execve", "T sys_exit_group", "T sys32_mmap2", "T sys_clock_gettime32"))
	f.Fuzz(func(t *testing.T, text string) {
		calls, err := ReadKernelSymbols(strings.NewReader(text))
		if err == nil && !slices.Equal(calls, SystemCalls(calls)) {
			t.Errorf("%q", calls)
		}
	})
}

func FuzzKernelRelease(f *testing.F) {
	f.Add("5.10.0-28-amd64", "amd64")
	f.Fuzz(func(t *testing.T, release, architecture string) {
		if calls := CallsOfRelease(release, architecture); !slices.Equal(calls, SystemCalls(calls)) {
			t.Errorf("%q", calls)
		}
	})
}
