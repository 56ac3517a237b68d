package runtime

import (
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// denied are old system calls that programs know to be refused rather than
// missing: they answer EPERM, as without a filter. What the filter doesn't know
// answers ENOSYS, so that libc and programs take their older way.
var denied = []string{
	"acct", "bpf", "clock_settime", "delete_module", "fanotify_init", "finit_module", "init_module",
	"ioperm", "iopl", "kexec_file_load", "kexec_load", "mount", "open_by_handle_at", "perf_event_open",
	"pivot_root", "quotactl", "reboot", "setdomainname", "sethostname", "setns", "settimeofday", "stime",
	"swapoff", "swapon", "syslog", "umount", "umount2", "unshare", "vhangup",
}

// seccompFilter is the field's default profile for the capabilities of s, without what a
// kernel that isn't this machine's lacks.
func seccompFilter(s *specs.Spec, kernel *Kernel) (*specs.LinuxSeccomp, error) {
	filter, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		return nil, err
	}
	// libseccomp takes 11 ms of every start to build the part for x32, which no
	// distribution ships programs for and most kernels have switched off.
	filter.Architectures = slices.DeleteFunc(filter.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	enosys, eperm := uint(unix.ENOSYS), uint(unix.EPERM)
	filter.DefaultErrnoRet = &enosys
	known := map[string]bool{}
	for _, rule := range filter.Syscalls {
		for _, name := range rule.Names {
			known[name] = true
		}
	}
	names := slices.DeleteFunc(slices.Clone(denied), func(name string) bool { return known[name] })
	filter.Syscalls = append(filter.Syscalls,
		specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &eperm})
	kernel.limit(filter)
	return filter, nil
}

// allowUserNamespace lets clone(2) make a user namespace, and still none of another
// kind. Whoever asks for it says how many there may be.
func allowUserNamespace(filter *specs.LinuxSeccomp) {
	for i, rule := range filter.Syscalls {
		if !slices.Contains(rule.Names, "clone") {
			continue
		}
		rule.Args = slices.Clone(rule.Args)
		for j := range rule.Args {
			if rule.Args[j].Op == specs.OpMaskedEqual {
				rule.Args[j].Value &^= unix.CLONE_NEWUSER
			}
		}
		filter.Syscalls[i] = rule
	}
}
