package session

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Anchor is the first process of a session's PID namespace. It waits for the end
// of a pipe that only this process holds open; when this process closes it, or
// dies in whatever way, the anchor exits and the kernel kills everything in the
// namespace with it: pid_namespaces(7). Being the namespace's init it also reaps
// orphans, and leaves the command the default actions of signals, which the
// kernel denies to an init.
type Anchor struct {
	pid  int
	pipe *os.File // its end ends the session
	gone bool
}

// NewAnchor starts an anchor from the calling thread, in whose mount namespace it
// is locked into the empty folder dir.
func NewAnchor(dir string) (*Anchor, error) { return newAnchor(dir, 0) }

// NewRootAnchor starts an anchor in a user namespace of its own, too, in which this
// process's uid and gid are root's, and the only ones.
func NewRootAnchor(dir string) (*Anchor, error) {
	a, err := newAnchor(dir, unix.CLONE_NEWUSER)
	if err != nil {
		return nil, err
	}
	write := func(name, format string, id ...any) {
		if err == nil {
			err = os.WriteFile(fmt.Sprintf("/proc/%d/%s", a.pid, name), fmt.Appendf(nil, format, id...), 0)
		}
	}
	write("uid_map", "0 %d 1", os.Getuid())
	write("setgroups", "deny")
	write("gid_map", "0 %d 1", os.Getgid())
	if err == nil {
		_, err = a.pipe.Write([]byte{0}) // it waits with what hides it from us
	}
	if err != nil {
		a.Wait()
		return nil, fmt.Errorf("making a user namespace: %w", err)
	}
	return a, nil
}

func newAnchor(dir string, flags uintptr) (*Anchor, error) {
	path, err := unix.BytePtrFromString(dir)
	if err != nil {
		return nil, err
	}
	var ends [2]int // not os.Pipe, whose ends don't block
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer unix.Close(ends[0])
	pipe := os.NewFile(uintptr(ends[1]), "anchor")
	pid, errno := forkAnchor(flags, uintptr(ends[0]), uintptr(ends[1]), path, &anchorName[0])
	if errno != 0 {
		pipe.Close()
		return nil, fmt.Errorf("making a PID namespace: %w", errno)
	}
	return &Anchor{pid: int(pid), pipe: pipe}, nil
}

// Namespace is the path of the anchor's PID namespace.
func (a *Anchor) Namespace() string { return fmt.Sprintf("/proc/%d/ns/pid", a.pid) }

// UserNamespace is the path of the anchor's user namespace.
func (a *Anchor) UserNamespace() string { return fmt.Sprintf("/proc/%d/ns/user", a.pid) }

// End kills everything in the session. It may be called more than once.
func (a *Anchor) End() { a.pipe.Close() }

// Wait ends the session and returns when no process of it is left.
func (a *Anchor) Wait() {
	if a.gone {
		return
	}
	a.End()
	begun := time.Now()
	fd, err := unix.PidfdOpen(a.pid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 5*time.Millisecond) {
		if pid, err := unix.Wait4(a.pid, nil, unix.WNOHANG, nil); pid == a.pid || err == unix.ECHILD {
			a.gone = true
			return
		}
		reap(time.Since(begun) > time.Second)
		if err != nil { // Linux before 5.3
			time.Sleep(pause)
			continue
		}
		timeout := unix.NsecToTimespec(pause.Nanoseconds())
		unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, &timeout, nil)
	}
}

// reap waits for dead children of this process that came to it as the parent of
// orphans: crun's, which it leaves when it goes to the background, or kills on its own
// way out. An anchor isn't gone before everything in its namespace has been waited
// for. They lead no terminal session, as a command does that somebody is about to wait
// for, and are in none that this process has programs in. What is dead for long is
// waited for by nobody. Some tell nobody of their end: clone(2).
func reap(long bool) {
	own, _ := unix.Getsid(0)
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(text)) {
			stat, _ := os.ReadFile("/proc/" + child + "/stat")
			// state, parent, process group, session: proc_pid_stat(5)
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			pid, err := strconv.Atoi(child)
			if err != nil || len(fields) < 4 || fields[0] != "Z" {
				continue
			}
			if fields[3] != child && fields[3] != strconv.Itoa(own) || long && nested(child) {
				unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, nil)
			}
		}
	}
}

// nested reports whether a process is in a PID namespace below this one.
func nested(pid string) bool {
	text, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(ids)) > 1
		}
	}
	return false
}

// anchorName is what ps shows for the anchor, and slash where it is locked in.
var (
	anchorName = [...]byte{'s', 't', 'e', 'a', 'd', '-', 'i', 'n', 'i', 't', 0}
	slash      = [...]byte{'/', 0}
)

// sigaction is struct kernel_sigaction of rt_sigaction(2).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// forkAnchor forks without executing anything, which spares a program start. The
// child has this one thread and a copy of this process's memory in an unknown
// state: it must not allocate, grow its stack or meet Go's scheduler, hence
// nothing but raw system calls, as in the syscall package's own fork.
//
//go:norace
//go:nosplit
func forkAnchor(flags, pipe, feed uintptr, dir, name *byte) (uintptr, syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), unsafe.Sizeof(all), 0, 0)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWPID|flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
			uintptr(unsafe.Pointer(&old)), 0, unsafe.Sizeof(all), 0, 0)
		return pid, errno
	}

	// The child. Every signal stays blocked; SIGKILL and SIGSTOP can't be. Away from
	// the terminal, from this machine's files, and from all open files but the pipe.
	var b byte
	syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	if flags != 0 {
		syscall.RawSyscall(unix.SYS_CLOSE, feed, 0, 0) // or its end would never come
		syscall.RawSyscall(unix.SYS_READ, pipe, uintptr(unsafe.Pointer(&b)), 1)
	}
	if _, _, errno = syscall.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(dir)), 0, 0); errno != 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
	syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(&slash)), 0, 0)
	syscall.RawSyscall(unix.SYS_DUP3, pipe, 0, 0)
	if _, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 1, uintptr(^uint32(0)), 0); errno != 0 {
		for fd := uintptr(1); fd < 1<<16; fd++ { // Linux before 5.9
			syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
	}
	// Nobody inside may look at or trace it; ignored children need no reaping:
	// wait(2).
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0)
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0)
	ignore := sigaction{handler: 1} // SIG_IGN
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD),
		uintptr(unsafe.Pointer(&ignore)), 0, unsafe.Sizeof(all), 0, 0)
	for {
		_, _, errno = syscall.RawSyscall(unix.SYS_READ, 0, uintptr(unsafe.Pointer(&b)), 1)
		if errno != syscall.EINTR {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}
