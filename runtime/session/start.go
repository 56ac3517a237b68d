package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StartIn starts a program in a user namespace that is there already, as its root, and
// in a process group of its own. Together with all that it starts it may make so many
// further user namespaces. Of attr.Sys nothing is heeded. The calling thread's mount
// namespace is the program's, too.
//
// A process with several threads can't enter a user namespace, setns(2), which every
// Go program has; the child of a fork has one.
func StartIn(namespace, path string, args []string, attr *os.ProcAttr, further int) (*os.Process, error) {
	ns, err := os.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer w.Close()
	files := attr.Files
	// Above all numbers that the child needs, so that none is lost while they move.
	high := make([]uintptr, len(files)+1)
	for i, f := range append(files[:len(files):len(files)], w) {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, len(files))
		if err != nil {
			return nil, err
		}
		if i < len(files) {
			defer unix.Close(fd)
		}
		high[i] = uintptr(fd)
	}
	report := high[len(files)]
	limit, err := unix.BytePtrFromString("/proc/sys/user/max_user_namespaces")
	if err != nil {
		return nil, err
	}
	c := child{namespace: ns.Fd(), report: report, files: high[:len(files)], limit: limit, further: []byte(strconv.Itoa(further))}
	if c.path, err = syscall.BytePtrFromString(path); err != nil {
		return nil, err
	}
	if c.dir, err = syscall.BytePtrFromString(attr.Dir); err != nil {
		return nil, err
	}
	if c.args, err = syscall.SlicePtrFromStrings(args); err != nil {
		return nil, err
	}
	if c.env, err = syscall.SlicePtrFromStrings(attr.Env); err != nil {
		return nil, err
	}
	pid, errno := forkIn(&c)
	w.Close()
	unix.Close(int(report))
	if errno != 0 {
		return nil, os.NewSyscallError("fork", errno)
	}
	process, err := os.FindProcess(int(pid))
	if err != nil {
		return nil, err
	}
	var failed [8]byte
	if _, err := io.ReadFull(r, failed[:]); err == nil {
		_, err = process.Wait()
		return nil, errors.Join(fmt.Errorf("starting %s: %w", path, syscall.Errno(binary.NativeEndian.Uint64(failed[:]))), err)
	}
	return process, nil
}

// child is what a forked process needs, made before the fork.
type child struct {
	namespace, report uintptr
	files             []uintptr
	limit, path, dir  *byte
	further           []byte
	args, env         []*byte
}

// forkIn forks, and in the child does as StartIn says. What forkAnchor says of the
// child is true here, too.
//
//go:norace
//go:nosplit
func forkIn(c *child) (uintptr, syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), unsafe.Sizeof(all), 0, 0)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
			uintptr(unsafe.Pointer(&old)), 0, unsafe.Sizeof(all), 0, 0)
		return pid, errno
	}

	// The child. Signals stay blocked until handlers are gone, which are the parent's.
	_, _, errno = syscall.RawSyscall(unix.SYS_SETNS, c.namespace, unix.CLONE_NEWUSER, 0)
	if errno == 0 {
		var fd uintptr
		at := unix.AT_FDCWD
		fd, _, errno = syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(c.limit)), unix.O_WRONLY|unix.O_CLOEXEC, 0, 0, 0)
		if errno == 0 {
			_, _, errno = syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(c.further))), uintptr(len(c.further)))
		}
	}
	if errno == 0 {
		_, _, errno = syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0)
	}
	syscall.RawSyscall(unix.SYS_SETPGID, 0, 0, 0)
	for i := 0; i < len(c.files) && errno == 0; i++ {
		_, _, errno = syscall.RawSyscall(unix.SYS_DUP3, c.files[i], uintptr(i), 0)
	}
	if errno == 0 {
		forget := sigaction{} // SIG_DFL
		for sig := uintptr(1); sig <= 64; sig++ {
			var now sigaction
			syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&now)), unsafe.Sizeof(all), 0, 0)
			if now.handler > 1 { // neither the default nor ignored
				syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&forget)), 0, unsafe.Sizeof(all), 0, 0)
			}
		}
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, unsafe.Sizeof(all), 0, 0)
		_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)),
			uintptr(unsafe.Pointer(unsafe.SliceData(c.args))), uintptr(unsafe.Pointer(unsafe.SliceData(c.env))))
	}
	failed := uint64(errno)
	syscall.RawSyscall(unix.SYS_WRITE, c.report, uintptr(unsafe.Pointer(&failed)), 8)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}
