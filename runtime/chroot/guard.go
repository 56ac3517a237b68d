package chroot

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guard is the process between this one and a session's command. All orphans of
// the session come to it; it tells how the command ended, kills what is left, and
// does the same when this process dies: what a PID namespace would do, without
// the right to make one.
type guard struct {
	pid     int
	reports *os.File
	first   [reportSize]byte // has been read, and not been asked for
	unread  bool
}

// forking is held until a new guard has closed what it got of this process's open
// files: a program that another one has open for writing, as while it is copied,
// can't be executed.
var forking sync.Mutex

// The reports of a guard, and of a command that could not be started: a kind and
// a value, four bytes each.
const (
	reportPID    = iota + 1 // the command's process id
	reportStatus            // how it ended, as wait4(2) tells it
	reportError             // the step that failed, and the error number
	reportSize   = 8
)

// The steps of starting a command, for people.
const (
	stepStreams = iota + 1
	stepLimits
	stepRoot
	stepFolder
	stepBound
	stepUser
	stepCapabilities
	stepExecute
)

var steps = map[int]string{
	stepStreams: "setting up standard streams", stepLimits: "setting limits", stepRoot: "changing the root",
	stepFolder: "changing to its folder", stepBound: "giving up capabilities", stepUser: "changing the user",
	stepCapabilities: "giving up capabilities", stepExecute: "executing it",
}

// command is all that a forked process needs, without any memory left to allocate.
type command struct {
	root, dir  *byte
	candidates []*byte // files to execute, tried in this order
	argv, envv []*byte // ended by nil
	in, out    uintptr // descriptors
	err        uintptr
	terminal   bool // stays with this process's terminal
	umask      uintptr
	nofile     unix.Rlimit
	uid, gid   uintptr
	groups     []uint32
	drop       uint64 // capabilities to leave the bounding set, by number
	capHeader  unix.CapUserHeader
	capData    [2]unix.CapUserData

	pipe     uintptr // for reports
	mask     uint64  // signals blocked before the fork
	parent   uintptr
	self     uintptr // the command's process id, in the guard
	status   int32
	report   [reportSize]byte
	children [4096]byte
	wait     [2]int64 // struct timespec
}

// startGuard forks a guard, and it the command, from the calling thread: when that
// ends, the guard takes this process for dead.
func startGuard(c *command) (*guard, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	c.pipe, c.parent = uintptr(ends[1]), uintptr(os.Getpid())
	forking.Lock()
	defer forking.Unlock()
	pid, errno := forkGuard(c)
	if errno != 0 {
		unix.Close(ends[0])
		unix.Close(ends[1])
		return nil, fmt.Errorf("making a process: %w", errno)
	}
	g := &guard{pid: int(pid), reports: os.NewFile(uintptr(ends[0]), "guard")}
	unix.Close(ends[1]) // or there would be no end of reports
	if _, err := io.ReadFull(g.reports, g.first[:]); err == nil {
		g.unread = true
	}
	return g, nil
}

// next is the next report; io.EOF when the guard is gone.
func (g *guard) next() (kind, value int, err error) {
	b := g.first
	if g.unread {
		g.unread = false
	} else if _, err := io.ReadFull(g.reports, b[:]); err != nil {
		return 0, 0, io.EOF
	}
	return int(binary.NativeEndian.Uint32(b[:])), int(binary.NativeEndian.Uint32(b[4:])), nil
}

// end kills everything in the session.
func (g *guard) end() { unix.Kill(g.pid, unix.SIGTERM) }

// wait waits until the guard is gone, and with it all that it guarded.
func (g *guard) wait() {
	for {
		if _, err := unix.Wait4(g.pid, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	g.reports.Close()
}

// sigaction is struct kernel_sigaction of rt_sigaction(2).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const sigsetSize = 8

var (
	guardName    = [...]byte{'s', 't', 'e', 'a', 'd', '-', 'g', 'u', 'a', 'r', 'd', 0}
	childrenFile = []byte("/proc/thread-self/children\x00")
)

// forkGuard forks without executing anything. The child has this one thread and a
// copy of this process's memory in an unknown state: it must not allocate, grow its
// stack or meet Go's scheduler, hence nothing but raw system calls, as in the
// syscall package's own fork.
//
//go:norace
//go:nosplit
func forkGuard(c *command) (uintptr, syscall.Errno) {
	all := ^uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&c.mask)), sigsetSize, 0, 0)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
			uintptr(unsafe.Pointer(&c.mask)), 0, sigsetSize, 0, 0)
		return pid, errno
	}
	// The guard. Every signal stays blocked; those that matter are waited for.
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0)
	if parent, _, _ := syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); parent != c.parent {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0) // dead before it was asked to tell
	}
	var action sigaction // SIG_DFL: an ignored SIGCHLD would take the statuses
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0)
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0)
	// Nobody inside may look at or trace it.
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0)
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&guardName[0])), 0)
	streams(c)
	c.self, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if c.self == 0 && errno == 0 {
		runCommand(c)
	}
	if errno != 0 {
		tell(c, reportError, uintptr(errno)|stepExecute<<16)
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
	for fd := uintptr(0); fd < reportsAt; fd++ {
		syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
	tell(c, reportPID, c.self)
	stand(c)
	return 0, 0
}

// tell writes a report, which is small enough to be whole.
//
//go:norace
//go:nosplit
func tell(c *command, kind, value uintptr) {
	binary.NativeEndian.PutUint32(c.report[:4], uint32(kind))
	binary.NativeEndian.PutUint32(c.report[4:], uint32(value))
	syscall.RawSyscall(unix.SYS_WRITE, c.pipe, uintptr(unsafe.Pointer(&c.report[0])), reportSize)
}

//go:norace
//go:nosplit
func closeFrom(fd uintptr) {
	if _, _, errno := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, fd, uintptr(^uint32(0)), 0); errno != 0 {
		for ; fd < 1<<16; fd++ { // Linux before 5.9, or a filter that doesn't know it
			syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
	}
}

// stand waits for the command's end, or for the order to end it, and then kills
// until no child is left.
//
//go:norace
//go:nosplit
func stand(c *command) {
	heed := uint64(1)<<(unix.SIGCHLD-1) | uint64(1)<<(unix.SIGTERM-1)
	kill := false
	for {
		var timeout uintptr
		if kill {
			c.wait[0], c.wait[1] = 0, 1000000
			timeout = uintptr(unsafe.Pointer(&c.wait[0]))
		}
		sig, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT,
			uintptr(unsafe.Pointer(&heed)), 0, timeout, sigsetSize, 0, 0)
		if errno == 0 && sig == uintptr(unix.SIGTERM) {
			kill = true
		}
		for {
			pid, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0),
				uintptr(unsafe.Pointer(&c.status)), unix.WNOHANG, 0, 0, 0)
			if errno == syscall.ECHILD {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			if errno != 0 || pid == 0 {
				break
			}
			if pid == c.self {
				tell(c, reportStatus, uintptr(uint32(c.status)))
				c.self, kill = 0, true
			}
		}
		if kill {
			killChildren(c)
		}
	}
}

// killChildren kills the children there are now. Their own come to this process.
//
//go:norace
//go:nosplit
func killChildren(c *command) {
	if c.self != 0 {
		syscall.RawSyscall(unix.SYS_KILL, c.self, uintptr(unix.SIGKILL), 0)
	}
	at := unix.AT_FDCWD
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(at),
		uintptr(unsafe.Pointer(&childrenFile[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return
	}
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&c.children[0])), unsafe.Sizeof(c.children))
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	if errno != 0 {
		return
	}
	pid := uintptr(0)
	for i := uintptr(0); i < n && i < uintptr(len(c.children)); i++ {
		if b := c.children[i]; b >= '0' && b <= '9' {
			pid = pid*10 + uintptr(b-'0')
			continue
		}
		if pid > 1 {
			syscall.RawSyscall(unix.SYS_KILL, pid, uintptr(unix.SIGKILL), 0)
		}
		pid = 0
	}
}
