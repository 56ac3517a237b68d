package host

import "golang.org/x/sys/unix"

// foreign are the file systems that hold no file of the host itself: what the
// kernel makes up, what lives in memory until the next boot, and what another
// machine serves. Magic numbers from statfs(2). One of them is entered all the
// same where it is the root's own.
var foreign = map[uint32]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.DEVPTS_SUPER_MAGIC: "devpts",
	unix.CGROUP_SUPER_MAGIC: "cgroup", unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.DEBUGFS_MAGIC: "debugfs",
	unix.TRACEFS_MAGIC: "tracefs", unix.SECURITYFS_MAGIC: "securityfs", unix.SELINUX_MAGIC: "selinuxfs",
	unix.SMACK_MAGIC: "smackfs", unix.PSTOREFS_MAGIC: "pstore", unix.EFIVARFS_MAGIC: "efivarfs",
	unix.BPF_FS_MAGIC: "bpf", unix.BINFMTFS_MAGIC: "binfmt_misc", unix.HUGETLBFS_MAGIC: "hugetlbfs",
	unix.NSFS_MAGIC: "nsfs", unix.AUTOFS_SUPER_MAGIC: "autofs", unix.RDTGROUP_SUPER_MAGIC: "resctrl",
	0x19800202: "mqueue", 0x65735543: "fusectl", 0x62656570: "configfs", 0x67596969: "rpc_pipefs",
	unix.TMPFS_MAGIC:     "tmpfs", // HUGETLBFS_MAGIC is ramfs too
	unix.NFS_SUPER_MAGIC: "nfs", unix.SMB_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "cifs",
	unix.SMB2_SUPER_MAGIC: "smb3", unix.NCP_SUPER_MAGIC: "ncp", unix.CODA_SUPER_MAGIC: "coda",
	unix.AFS_SUPER_MAGIC: "afs", unix.AFS_FS_MAGIC: "afs", unix.CEPH_SUPER_MAGIC: "ceph",
	unix.V9FS_MAGIC: "9p", unix.FUSE_SUPER_MAGIC: "fuse", unix.OCFS2_SUPER_MAGIC: "ocfs2",
	0x01161970: "gfs2", 0x0bd00bd0: "lustre",
}

// isForeign looks at the file system mounted on a folder without opening it: an
// open would set an automount off.
func isForeign(parent int, name, path string) (bool, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return absent(err), nil
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false, err
	}
	magic := uint32(st.Type)
	// Below /var an overlay is a running container's view of layers that are
	// listed where they lie; elsewhere it can be the system's own (systemd-sysext).
	if magic == unix.OVERLAYFS_SUPER_MAGIC && len(path) > 4 && path[:4] == "var/" {
		return true, nil
	}
	return foreign[magic] != "", nil
}
