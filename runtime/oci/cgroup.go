package oci

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// trimCgroups leaves of cgroup version 1 the one hierarchy that guards devices, in
// the calling thread's mount namespace. Runtimes make a cgroup in each hierarchy
// they find; a session wants no limits of its own, is better off under the
// caller's, and starts faster. crun makes none, and is shown none: before 1.9 it
// warns of version 2 beside 1. An ordinary user can't make any.
func trimCgroups(crun bool) error {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		return nil // version 2, or none
	}
	if crun {
		if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", unix.MS_RDONLY, "mode=0755"); err != nil {
			return fmt.Errorf("mounting a tmpfs on %s: %w", cgroupRoot, err)
		}
		return nil
	}
	if standsOn() != machine {
		return nil
	}
	devices := filepath.Join(cgroupRoot, "devices")
	fd, err := unix.Open(devices, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // an arrangement that only the runtime can judge
	}
	defer unix.Close(fd)
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil // Linux before 5.2
	}
	defer unix.Close(tree)
	if err := unix.Unmount(cgroupRoot, unix.MNT_DETACH); err != nil {
		return nil // locked by a container around this one
	}
	if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting a tmpfs on %s: %w", cgroupRoot, err)
	}
	if err := os.Mkdir(devices, 0o755); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, devices, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s: %w", devices, err)
	}
	return nil
}
