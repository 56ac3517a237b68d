package chroot

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reportsAt is where a guard, and a command that is being started, have the pipe for
// reports.
const reportsAt = 3

// runCommand turns a forked process into the session's command; see forkGuard for
// what it must not do.
//
//go:norace
//go:nosplit
func runCommand(c *command) {
	if !c.terminal {
		syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	}
	syscall.RawSyscall(unix.SYS_UMASK, c.umask, 0, 0)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE,
		uintptr(unsafe.Pointer(&c.nofile)), 0, 0, 0); errno != 0 {
		failed(c, stepLimits, errno)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(c.root)), 0, 0); errno != 0 {
		failed(c, stepRoot, errno)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0); errno != 0 {
		failed(c, stepFolder, errno)
	}
	become(c)
	// After the change of user, which clears it.
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
	resetSignals(c)
	execute(c)
}

// failed reports the step that could not be done, and ends the process.
//
//go:norace
//go:nosplit
func failed(c *command, step uintptr, errno syscall.Errno) {
	tell(c, reportError, step<<16|uintptr(errno))
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
}

// streams gives the process the command's streams and takes all other open files: a folder
// among them would be a way out.
//
//go:norace
//go:nosplit
func streams(c *command) {
	const high = 10 // above all places that are filled
	pipe, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, c.pipe, unix.F_DUPFD_CLOEXEC, high)
	if errno != 0 {
		failed(c, stepStreams, errno)
	}
	c.pipe = pipe
	in, _, e1 := syscall.RawSyscall(unix.SYS_FCNTL, c.in, unix.F_DUPFD, high)
	out, _, e2 := syscall.RawSyscall(unix.SYS_FCNTL, c.out, unix.F_DUPFD, high)
	err, _, e3 := syscall.RawSyscall(unix.SYS_FCNTL, c.err, unix.F_DUPFD, high)
	if errno = e1 | e2 | e3; errno != 0 {
		failed(c, stepStreams, errno)
	}
	_, _, e1 = syscall.RawSyscall(unix.SYS_DUP3, in, 0, 0)
	_, _, e2 = syscall.RawSyscall(unix.SYS_DUP3, out, 1, 0)
	_, _, e3 = syscall.RawSyscall(unix.SYS_DUP3, err, 2, 0)
	if errno = e1 | e2 | e3; errno != 0 {
		failed(c, stepStreams, errno)
	}
	if _, _, errno = syscall.RawSyscall(unix.SYS_DUP3, pipe, reportsAt, unix.O_CLOEXEC); errno != 0 {
		failed(c, stepStreams, errno)
	}
	c.pipe = reportsAt
	closeFrom(reportsAt + 1)
}

// become gives up what the session's user may not have. The kernel keeps no
// capability of a user who stops being root, and gives root at execve(2) what is
// in the bounding set.
//
//go:norace
//go:nosplit
func become(c *command) {
	for i := uintptr(0); i < 64; i++ {
		if c.drop&(1<<i) == 0 {
			continue
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, i, 0); errno != 0 {
			failed(c, stepBound, errno)
		}
	}
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	var groups uintptr
	if len(c.groups) > 0 {
		groups = uintptr(unsafe.Pointer(&c.groups[0]))
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(c.groups)), groups, 0); errno != 0 {
		failed(c, stepUser, errno)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESGID, c.gid, c.gid, c.gid); errno != 0 {
		failed(c, stepUser, errno)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, c.uid, c.uid, c.uid); errno != 0 {
		failed(c, stepUser, errno)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&c.capHeader)),
		uintptr(unsafe.Pointer(&c.capData[0])), 0); errno != 0 {
		failed(c, stepCapabilities, errno)
	}
}

// resetSignals takes Go's handlers away before a signal can reach one, and leaves
// ignored what was ignored before.
//
//go:norace
//go:nosplit
func resetSignals(c *command) {
	for sig := uintptr(1); sig <= 64; sig++ {
		var now, standard sigaction
		if _, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&now)), sigsetSize, 0, 0); errno != 0 {
			continue
		}
		if now.handler > 1 {
			syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&standard)), 0, sigsetSize, 0, 0)
		}
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&c.mask)), 0, sigsetSize, 0, 0)
}

// execute tries the candidates as execvp(3) does.
//
//go:norace
//go:nosplit
func execute(c *command) {
	denied := syscall.Errno(0)
	errno := syscall.ENOENT
	for i := 0; i < len(c.candidates); i++ {
		_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(c.candidates[i])),
			uintptr(unsafe.Pointer(&c.argv[0])), uintptr(unsafe.Pointer(&c.envv[0])))
		if errno == syscall.EACCES {
			denied = errno
			continue
		}
		if errno != syscall.ENOENT && errno != syscall.ENOTDIR {
			break
		}
	}
	if denied != 0 && (errno == syscall.ENOENT || errno == syscall.ENOTDIR) {
		errno = denied
	}
	failed(c, stepExecute, errno)
}
