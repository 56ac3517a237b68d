package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// entry is all that must come back of one path.
type entry struct {
	path     string // relative to the root
	mode     uint32 // type and permissions, as stat(2) has them
	uid, gid uint32
	size     int64
	mtime    int64 // whole seconds; cut, not rounded
	target   string
	xattrs   map[string]string
	inode    [2]uint64 // device and inode: which names are one file
}

func (e entry) kind() uint32 { return e.mode & syscall.S_IFMT }

// readDisk lists everything below root.
func readDisk(root string) (map[string]entry, error) {
	all := map[string]entry{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		e := entry{path: rel, mode: st.Mode, uid: st.Uid, gid: st.Gid, size: st.Size, mtime: st.Mtim.Sec,
			inode: [2]uint64{uint64(st.Dev), st.Ino}}
		if e.kind() == syscall.S_IFLNK {
			e.target, err = os.Readlink(path)
		} else {
			e.xattrs, err = readXattrs(path)
		}
		all[rel] = e
		return err
	})
	return all, err
}

// readXattrs reads the extended attributes that mean something on another machine.
func readXattrs(path string) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := syscall.Listxattr(path, list)
	if err != nil && !errors.Is(err, syscall.ENOTSUP) {
		return nil, &fs.PathError{Op: "listxattr", Path: path, Err: err}
	}
	var all map[string]string
	for name := range strings.SplitSeq(string(list[:max(n, 0)]), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "system.posix_acl_") &&
			(!strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.")) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := syscall.Getxattr(path, name, value)
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = string(value[:n])
	}
	return all, nil
}

// difference says in what two entries differ, "" where they don't; files with the same
// facts are read.
func difference(hostRoot, envRoot string, h, e entry) (string, error) {
	var not []string
	differ := func(what string, a, b any) {
		if a != b {
			not = append(not, fmt.Sprintf("%s %v, on the host %v", what, b, a))
		}
	}
	differ("mode", fmt.Sprintf("%#o", h.mode), fmt.Sprintf("%#o", e.mode))
	differ("owner", h.uid, e.uid)
	differ("group", h.gid, e.gid)
	differ("target", h.target, e.target)
	if h.kind() == syscall.S_IFREG {
		differ("size", h.size, e.size)
	}
	if h.kind() == syscall.S_IFREG || h.kind() == syscall.S_IFLNK {
		differ("mtime", h.mtime, e.mtime)
	}
	if !maps.Equal(h.xattrs, e.xattrs) {
		not = append(not, fmt.Sprintf("extended attributes %q, on the host %q", e.xattrs, h.xattrs))
	}
	if h.kind() == syscall.S_IFREG && e.kind() == h.kind() && h.size == e.size {
		same, err := sameContent(filepath.Join(hostRoot, h.path), filepath.Join(envRoot, e.path))
		if err != nil {
			return "", err
		}
		if !same {
			not = append(not, "content")
		}
	}
	return strings.Join(not, "; "), nil
}

func sameContent(a, b string) (bool, error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	x, y := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		n, errA := io.ReadFull(f, x)
		m, errB := io.ReadFull(g, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return ended(errA) && ended(errB), nil
		}
	}
}

func ended(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
