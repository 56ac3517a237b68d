package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fileSystems are the names of those that stores are found on: statfs(2).
var fileSystems = map[uint32]string{
	0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x01021994: "tmpfs", 0x794c7630: "overlay", 0x6969: "NFS",
	0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x65735546: "FUSE", 0x01021997: "9p", 0x2fc12fc1: "ZFS",
	0xf2f52010: "f2fs", 0xca451a4e: "bcachefs", 0x6a656a63: "virtiofs", 0x858458f6: "ramfs",
}

func fileSystem(kind int64) string {
	if name, ok := fileSystems[uint32(kind)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", uint32(kind))
}

// little is the space below which an env may not fit.
const little = 4 << 30

// Store is about the folder that the store is in, which needn't be there yet.
func Store(dir string, human func(int64) string) []Check {
	c := Check{Name: "place", For: "Package files, trees and envs are kept there."}
	there := dir
	var fs unix.Statfs_t
	err := unix.Statfs(there, &fs)
	for ; err == unix.ENOENT && there != filepath.Dir(there); err = unix.Statfs(there, &fs) {
		there = filepath.Dir(there)
	}
	if err != nil {
		c.Remedy = "STEAD_STORE=FOLDER names another place"
		return []Check{c.with(Missing, "%s: %v", dir, err)}
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		c.Remedy = "chmod 0700 " + dir
		return []Check{c.with(Missing, "%s is open to others, and is refused: it holds years-old setuid programs", dir)}
	}
	found := fmt.Sprintf("%s on %s", dir, fileSystem(int64(fs.Type)))
	if there != dir {
		found += ", to be made"
	}
	free := int64(fs.Bavail) * fs.Bsize
	space := Check{Name: "space", For: "An env takes one to three gigabytes, and shares what others have, too."}
	if free < little {
		space.Remedy = "stead gc removes what nothing needs; STEAD_STORE=FOLDER names another place"
		space = space.with(Warning, "%s are free", human(free))
	} else {
		space = space.with(OK, "%s are free", human(free))
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		c.Remedy = "STEAD_STORE=FOLDER names another place"
		return []Check{c.with(Missing, "%s, which is read-only", found), space}
	}
	return append([]Check{c.with(OK, "%s", found), space}, links(dir)...)
}

// links tries hard links and reflinks, in a folder that is gone afterwards.
func links(store string) []Check {
	hard := Check{Name: "hard links", For: "Envs share the files of their packages; without links each has copies."}
	ref := Check{Name: "reflinks", For: "Projects are copied for builds, and roots for chroot sessions, at no cost."}
	dir, clean, err := scratch(store)
	if err != nil {
		hard.Remedy = "STEAD_STORE=FOLDER names a place that is yours"
		return []Check{hard.with(Missing, "not tried: %v", err)}
	}
	defer clean()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	err = os.WriteFile(a, []byte("content"), 0o600)
	if err == nil {
		hard.Remedy = "STEAD_STORE=FOLDER names a place on another file system"
		hard = hard.or(os.Link(a, filepath.Join(dir, "c")), "one was made", Warning)
		err = clone(a, b)
	}
	if err != nil {
		return []Check{hard, ref.with(OK, "none: files are copied, which takes longer")}
	}
	return []Check{hard, ref.with(OK, "one was made")}
}

func clone(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
}
