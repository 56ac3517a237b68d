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
func seccompFilter(s *specs.Spec, kernel *Kernel, guard bool) (*specs.LinuxSeccomp, error) {
	filter, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		return nil, err
	}
	// libseccomp takes 11 ms of every start to build the part for x32, which no
	// distribution ships programs for and most kernels have switched off.
	filter.Architectures = slices.DeleteFunc(filter.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	// The profile hides clone3, whose arguments no filter can read, so that nobody makes
	// namespaces with it. libc and programs want it; what one could do with them stays
	// refused, as to mount. Podman's profile has it, too.
	for i := range filter.Syscalls {
		rule := &filter.Syscalls[i]
		rule.Names = slices.DeleteFunc(slices.Clone(rule.Names), func(name string) bool { return name == "clone3" })
	}
	filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActAllow})
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
	if guard && s.Linux != nil {
		guardDevices(filter, s.Linux.Devices)
	}
	filter.Syscalls = slices.DeleteFunc(filter.Syscalls, func(rule specs.LinuxSyscall) bool { return len(rule.Names) == 0 })
	kernel.limit(filter)
	return filter, nil
}

// guardDevices lets a session make the device nodes that runtimes allow everybody, those
// that it is shown, and overlay's whiteouts, but none else of this machine's: what a cgroup for devices does,
// without one. To put a process into a cgroup can take the kernel 20 ms.
func guardDevices(filter *specs.LinuxSeccomp, shown []specs.LinuxDevice) {
	eperm := uint(unix.EPERM)
	for call, mode := range map[string]uint{"mknod": 1, "mknodat": 2} {
		for i := range filter.Syscalls {
			rule := &filter.Syscalls[i]
			rule.Names = slices.DeleteFunc(slices.Clone(rule.Names), func(name string) bool { return name == call })
		}
		add := func(action specs.LinuxSeccompAction, errno *uint, tests ...specs.LinuxSeccompArg) {
			filter.Syscalls = append(filter.Syscalls,
				specs.LinuxSyscall{Names: []string{call}, Action: action, ErrnoRet: errno, Args: tests})
		}
		kind := func(format uint64) specs.LinuxSeccompArg {
			return specs.LinuxSeccompArg{Index: mode, Op: specs.OpMaskedEqual, Value: unix.S_IFMT, ValueTwo: format}
		}
		for _, format := range []uint64{0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK} {
			add(specs.ActAllow, nil, kind(format))
		}
		add(specs.ActErrno, &eperm, kind(unix.S_IFCHR))
		add(specs.ActErrno, &eperm, kind(unix.S_IFBLK))
		node := func(format, dev uint64) {
			add(specs.ActAllow, nil, kind(format), specs.LinuxSeccompArg{Index: mode + 1, Op: specs.OpEqualTo, Value: dev})
		}
		// null, zero, full, random, urandom, tty, ptmx, and a whiteout
		for _, dev := range []uint64{1<<8 | 3, 1<<8 | 5, 1<<8 | 7, 1<<8 | 8, 1<<8 | 9, 5 << 8, 5<<8 | 2, 0} {
			node(unix.S_IFCHR, dev)
		}
		for _, d := range shown {
			format := map[string]uint64{"c": unix.S_IFCHR, "b": unix.S_IFBLK}[d.Type]
			minor := uint64(d.Minor) // as the kernel has both in one number: new_encode_dev
			node(format, minor&0xff|uint64(d.Major)<<8|minor&^0xff<<12)
		}
		const major, pts = 0xfff00, 136 << 8
		add(specs.ActAllow, nil, kind(unix.S_IFCHR), specs.LinuxSeccompArg{Index: mode + 1, Op: specs.OpMaskedEqual, Value: major, ValueTwo: pts})
	}
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

// pretend answers system calls as if they had gone well.
func pretend(filter *specs.LinuxSeccomp, names ...string) {
	for i := range filter.Syscalls {
		rule := &filter.Syscalls[i]
		rule.Names = slices.DeleteFunc(slices.Clone(rule.Names), func(name string) bool { return slices.Contains(names, name) })
	}
	filter.Syscalls = slices.DeleteFunc(filter.Syscalls, func(rule specs.LinuxSyscall) bool { return len(rule.Names) == 0 })
	filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: new(uint)})
}
