// Package chroottest makes what a CI container around stead would be.
package chroottest

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capabilities are those that container engines give to root.
var capabilities = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SYS_CHROOT,
	unix.CAP_MKNOD, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP,
}

// namespaces are the flags of clone(2) that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
	unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// Confine takes from the calling thread, and from programs that it starts, the
// right to make mounts and namespaces. The thread must end afterwards.
func Confine() error {
	if err := refuse(); err != nil {
		return fmt.Errorf("installing a system call filter: %w", err)
	}
	for bit := uintptr(0); bit <= unix.CAP_LAST_CAP; bit++ {
		if on, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, bit, 0, 0, 0); err != nil || on == 0 || slices.Contains(capabilities, bit) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, bit, 0, 0, 0); err != nil {
			return fmt.Errorf("dropping capability %d: %w", bit, err)
		}
	}
	return nil
}

// refuse installs a filter as the field's default one: EPERM for mounts, for
// unshare(2) whatever it is asked for, and for clone(2) with the flags of namespaces.
// clone3 is not known, so that nobody needs to look into its arguments.
func refuse() error {
	const nr, arg0 = 0, 16 // in struct seccomp_data, little-endian
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	jump := func(code uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: code, Jt: yes, Jf: no, K: k}
	}
	const load, equal, set, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{stmt(load, nr)}
	for _, call := range []uint32{unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_SETNS, unix.SYS_PIVOT_ROOT, unix.SYS_UNSHARE,
		unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_MOVE_MOUNT} {
		filter = append(filter, jump(equal, call, 0, 1), stmt(ret, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
	}
	filter = append(filter,
		jump(equal, unix.SYS_CLONE3, 0, 1), stmt(ret, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
		jump(equal, unix.SYS_CLONE, 0, 3),
		stmt(load, arg0), jump(set, namespaces, 0, 1), stmt(ret, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)),
		stmt(ret, unix.SECCOMP_RET_ALLOW))
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
