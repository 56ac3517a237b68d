package chroot

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// same reports whether two files are the same for everybody who reads them:
// owner, mode and content, and the time of a regular file.
func same(a string, x *unix.Stat_t, b string, y *unix.Stat_t) (bool, error) {
	if x.Mode != y.Mode || x.Uid != y.Uid || x.Gid != y.Gid {
		return false, nil
	}
	switch x.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if x.Size != y.Size || x.Mtim != y.Mtim {
			return false, nil
		}
		return sameFiles(a, b)
	case unix.S_IFLNK:
		s, err := readlink(a)
		if err != nil {
			return false, err
		}
		t, err := readlink(b)
		return s == t, err
	case unix.S_IFBLK, unix.S_IFCHR:
		return x.Rdev == y.Rdev, nil
	}
	return true, nil
}

func sameFiles(a, b string) (bool, error) {
	x, err := openFile(a)
	if err != nil {
		return false, err
	}
	defer unix.Close(x)
	y, err := openFile(b)
	if err != nil {
		return false, err
	}
	defer unix.Close(y)
	return sameContent(x, y)
}

// openFile opens a regular file; nothing else can make it wait.
func openFile(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("reading %s: %w", name, err)
	}
	return fd, nil
}

func readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(name, buf)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return string(buf[:n]), nil
}
