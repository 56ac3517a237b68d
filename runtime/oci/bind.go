package oci

import (
	"fmt"
	"os"
	"strings"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// bind mounts what the session is shown, where the OCI runtime is another user than
// this process: root of a user namespace is nobody to NFS and to other users' FUSE,
// and couldn't reach a project there. What lies in the runtime's own mounts is left
// to it.
func (s *running) bind(spec runtime.Spec) (runtime.Spec, error) {
	if standsOn() != mapped || os.Geteuid() == 0 || unix.MountSetattr(-1, "", 0, &unix.MountAttr{}) == unix.ENOSYS {
		return spec, nil
	}
	root, err := unix.Open(s.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return spec, err
	}
	defer unix.Close(root)
	var left []runtime.Mount
	for _, m := range spec.Mounts {
		if top, _, _ := strings.Cut(strings.TrimPrefix(m.Target, "/"), "/"); top == "dev" || top == "proc" || top == "sys" {
			left = append(left, m)
			continue
		}
		if err := bindOne(root, m); err != nil {
			return spec, &runtime.Error{Op: fmt.Sprintf("mounting %s at %s", m.Source, m.Target), Code: runtime.CodeEngine, Err: err}
		}
	}
	spec.Mounts = left
	return spec, nil
}

func bindOne(root int, m runtime.Mount) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if m.ReadOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	at, err := unix.Openat2(root, m.Target, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
