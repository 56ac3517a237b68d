package snapshot

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// time64Since is the kernel that gave 32-bit programs times of 64 bits.
const time64Since = "5.1"

// arisen tells the kernels that brought system calls to amd64, with its 32-bit programs,
// and to arm64: syscalls(2), and the kernel's syscall_64.tbl, syscall_32.tbl and
// asm-generic/unistd.h. What older kernels than these have is in "2.6.0".
var arisen = []struct{ since, names string }{
	{"2.6.0", `_llseek _newselect _sysctl accept access acct add_key adjtimex afs_syscall alarm arch_prctl bdflush bind break
		brk capget capset chdir chmod chown chown32 chroot clock_getres clock_gettime clock_nanosleep clock_settime clone
		close connect creat create_module delete_module dup dup2 epoll_create epoll_ctl epoll_ctl_old epoll_wait
		epoll_wait_old execve exit exit_group fadvise64 fadvise64_64 fchdir fchmod fchown fchown32 fcntl fcntl64 fdatasync
		fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatfs fstatfs64 fsync ftime ftruncate
		ftruncate64 futex get_kernel_syms get_mempolicy get_thread_area getcwd getdents getdents64 getegid getegid32 geteuid
		geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getpmsg getppid
		getpriority getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid
		gettimeofday getuid getuid32 getxattr gtty idle init_module io_cancel io_destroy io_getevents io_setup io_submit
		ioctl ioperm iopl ipc keyctl kill lchown lchown32 lgetxattr link listen listxattr llistxattr lock lookup_dcookie
		lremovexattr lseek lsetxattr lstat lstat64 madvise mbind mincore mkdir mknod mlock mlockall mmap mmap2 modify_ldt
		mount mprotect mpx mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget
		msgrcv msgsnd msync munlock munlockall munmap nanosleep nfsservctl nice oldfstat oldlstat oldolduname oldstat
		olduname open pause personality pipe pivot_root poll prctl pread64 prof profil ptrace putpmsg pwrite64 query_module
		quotactl read readahead readdir readlink readv reboot recvfrom recvmsg remap_file_pages removexattr rename
		request_key restart_syscall rmdir rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
		rt_sigsuspend rt_sigtimedwait sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam
		sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setparam sched_setscheduler sched_yield security
		select semctl semget semop semtimedop sendfile sendfile64 sendmsg sendto set_mempolicy set_thread_area
		set_tid_address setdomainname setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
		sethostname setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
		setreuid32 setrlimit setsid setsockopt settimeofday setuid setuid32 setxattr sgetmask shmat shmctl shmdt shmget
		shutdown sigaction sigaltstack signal sigpending sigprocmask sigreturn sigsuspend socket socketcall socketpair
		ssetmask stat stat64 statfs statfs64 stime stty swapoff swapon symlink sync sysfs sysinfo syslog tgkill time
		timer_create timer_delete timer_getoverrun timer_gettime timer_settime times tkill truncate truncate64 tuxcall
		ugetrlimit ulimit umask umount umount2 uname unlink uselib ustat utime utimes vfork vhangup vm86 vm86old vserver
		wait4 waitid waitpid write writev`},
	{"2.6.13", "inotify_add_watch inotify_init inotify_rm_watch ioprio_get ioprio_set kexec_load"},
	{"2.6.16", `faccessat fchmodat fchownat fstatat64 futimesat linkat migrate_pages mkdirat mknodat newfstatat openat ppoll
		pselect6 readlinkat renameat symlinkat unlinkat unshare`},
	{"2.6.17", "get_robust_list set_robust_list splice sync_file_range tee vmsplice"},
	{"2.6.18", "move_pages"},
	{"2.6.19", "epoll_pwait getcpu"},
	{"2.6.22", "eventfd signalfd utimensat"},
	{"2.6.23", "fallocate"},
	{"2.6.25", "timerfd_create timerfd_gettime timerfd_settime"},
	{"2.6.27", "dup3 epoll_create1 eventfd2 inotify_init1 pipe2 signalfd4"},
	{"2.6.28", "accept4"},
	{"2.6.30", "preadv pwritev"},
	{"2.6.31", "perf_event_open rt_tgsigqueueinfo"},
	{"2.6.33", "recvmmsg"},
	{"2.6.36", "prlimit64"},
	{"2.6.37", "fanotify_init fanotify_mark"},
	{"2.6.39", "clock_adjtime name_to_handle_at open_by_handle_at syncfs"},
	{"3.0", "sendmmsg setns"},
	{"3.2", "process_vm_readv process_vm_writev"},
	{"3.5", "kcmp"},
	{"3.8", "finit_module"},
	{"3.14", "sched_getattr sched_setattr"},
	{"3.15", "renameat2"},
	{"3.17", "getrandom kexec_file_load memfd_create seccomp"},
	{"3.18", "bpf"},
	{"3.19", "execveat"},
	{"4.3", "membarrier userfaultfd"},
	{"4.4", "mlock2"},
	{"4.5", "copy_file_range"},
	{"4.6", "preadv2 pwritev2"},
	{"4.9", "pkey_alloc pkey_free pkey_mprotect"},
	{"4.11", "statx"},
	{"4.18", "io_pgetevents rseq"},
	{time64Since, `clock_adjtime64 clock_getres_time64 clock_gettime64 clock_nanosleep_time64 clock_settime64 futex_time64
		io_pgetevents_time64 io_uring_enter io_uring_register io_uring_setup mq_timedreceive_time64 mq_timedsend_time64
		pidfd_send_signal ppoll_time64 pselect6_time64 recvmmsg_time64 rt_sigtimedwait_time64 sched_rr_get_interval_time64
		semtimedop_time64 timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64`},
	{"5.2", "fsconfig fsmount fsopen fspick move_mount open_tree"},
	{"5.3", "clone3 pidfd_open"},
	{"5.6", "openat2 pidfd_getfd"},
	{"5.8", "faccessat2"},
	{"5.9", "close_range"},
	{"5.10", "process_madvise"},
	{"5.11", "epoll_pwait2"},
	{"5.12", "mount_setattr"},
	{"5.13", "landlock_add_rule landlock_create_ruleset landlock_restrict_self"},
	{"5.14", "memfd_secret quotactl_fd"},
	{"5.15", "process_mrelease"},
	{"5.16", "futex_waitv"},
	{"5.17", "set_mempolicy_home_node"},
	{"6.5", "cachestat"},
	{"6.6", "fchmodat2 map_shadow_stack"},
	{"6.7", "futex_requeue futex_wait futex_wake"},
	{"6.8", "listmount lsm_get_self_attr lsm_list_modules lsm_set_self_attr statmount"},
	{"6.10", "mseal"},
	{"6.11", "uretprobe"},
	{"6.13", "getxattrat listxattrat removexattrat setxattrat"},
	{"6.15", "open_tree_attr"},
	{"6.17", "file_getattr file_setattr"},
	{"6.18", "uprobe"},
	{"6.19", "listns"},
}

// arm64Later are the calls that arm64 got later than amd64.
var arm64Later = map[string]string{"kexec_file_load": "5.0", "statx": "4.12", "map_shadow_stack": "6.13"}

// systemCalls are all calls of the table, with the kernel that brought them.
var systemCalls = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	for _, row := range arisen {
		for name := range strings.FieldsSeq(row.names) {
			all[name] = row.since
		}
	}
	return all
})

// CallsOfRelease guesses the system calls of a kernel from its release (uname -r) and an
// architecture by Debian's name. Kernels of enterprise distributions have later ones too.
// It gives nil where the release tells no version.
func CallsOfRelease(release, architecture string) []string {
	version, ok := kernelVersion(release)
	if !ok {
		return nil
	}
	var calls []string
	for name, since := range systemCalls() {
		if later := arm64Later[name]; architecture == "arm64" {
			since = cmp.Or(later, since)
		}
		if v, _ := kernelVersion(since); slices.Compare(v, version) <= 0 {
			calls = append(calls, name)
		}
	}
	slices.Sort(calls)
	return calls
}

// kernelVersion takes the three numbers that a release begins with.
func kernelVersion(release string) ([]int, bool) {
	end := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end >= 0 {
		release = release[:end]
	}
	parts := strings.Split(strings.Trim(release, "."), ".")
	if len(parts) < 2 {
		return nil, false
	}
	version := make([]int, 3)
	for i := range min(3, len(parts)) {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return nil, false
		}
		version[i] = n
	}
	return version, version[0] > 2 || version[0] == 2 && version[1] == 6
}
