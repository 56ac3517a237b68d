package containerd

import (
	"archive/tar"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// layer writes a root filesystem as one uncompressed tar: the same bytes for the
// same root, whichever machine it was made on.
type layer struct {
	tar  *tar.Writer
	root string
	seen map[inode]string // files with several names, by the first of them
	// programs counts what processors the programs are for.
	programs map[elf.Machine]int
}

type inode struct{ dev, ino uint64 }

// writeLayer writes root to w, and returns the processor of most of its programs.
func writeLayer(ctx context.Context, w io.Writer, root string) (elf.Machine, error) {
	l := &layer{tar: tar.NewWriter(w), root: root, seen: map[inode]string{}, programs: map[elf.Machine]int{}}
	if err := l.folder(ctx, "."); err != nil {
		return 0, err
	}
	if err := l.tar.Close(); err != nil {
		return 0, err
	}
	var most elf.Machine
	for m, n := range l.programs {
		if n > l.programs[most] || n == l.programs[most] && m < most {
			most = m
		}
	}
	return most, nil
}

// folder writes a folder and all below it. Its own time is that of the newest file in
// it: when it was made here is nothing of the root's.
func (l *layer) folder(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	entries, err := os.ReadDir(filepath.Join(l.root, name)) // sorted
	if err != nil {
		return err
	}
	newest := time.Unix(0, 0)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".wh.") {
			return entryError(path.Join(name, e.Name()), errors.New("in an image its name means that a file was removed"))
		}
		if e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	h, err := l.header(name)
	if err != nil {
		return err
	}
	h.ModTime = newest
	whole := *h
	h.PAXRecords = maps.Clone(h.PAXRecords)
	delete(h.PAXRecords, defaultACL)
	if err := l.tar.WriteHeader(h); err != nil {
		return entryError(name, err)
	}
	for _, e := range entries {
		below := path.Join(name, e.Name())
		if e.IsDir() {
			err = l.folder(ctx, below)
		} else {
			err = l.entry(below)
		}
		if err != nil {
			return err
		}
	}
	// What is unpacked into a folder with default ACLs inherits them: they come last.
	if _, ok := whole.PAXRecords[defaultACL]; ok {
		return l.tar.WriteHeader(&whole)
	}
	return nil
}

const defaultACL = "SCHILY.xattr.system.posix_acl_default"

func entryError(name string, err error) error {
	return fmt.Errorf("reading /%s of the env: %w", name, err)
}

func (l *layer) header(name string) (*tar.Header, error) {
	full := filepath.Join(l.root, name)
	info, err := os.Lstat(full)
	if err != nil {
		return nil, err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(full); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, entryError(name, err)
	}
	h.Name = name
	if info.IsDir() {
		h.Name += "/"
	}
	// Names of users are this machine's, and times of access and change are of this
	// copy. What PAX is needed for shows in the bytes only where it is.
	h.Uname, h.Gname, h.Format = "", "", tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	h.PAXRecords, err = attributes(full)
	if err != nil {
		return nil, entryError(name, err)
	}
	return h, nil
}

// entry writes what is no folder.
func (l *layer) entry(name string) error {
	h, err := l.header(name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(l.root, name), &st); err != nil {
		return entryError(name, err)
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := l.seen[id]; ok {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
			return l.tar.WriteHeader(h)
		}
		l.seen[id] = name
	}
	if err := l.tar.WriteHeader(h); err != nil {
		return entryError(name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(l.root, name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if h.Mode&0o111 != 0 {
		l.count(f)
	}
	_, err = io.Copy(l.tar, f)
	return err
}

// count notes the processor of a program.
func (l *layer) count(f *os.File) {
	var head [20]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:4]) != elf.ELFMAG {
		return
	}
	number := uint16(head[18]) | uint16(head[19])<<8
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		number = number<<8 | number>>8
	}
	l.programs[elf.Machine(number)]++
}

// attributes are the extended attributes that are part of an env, as PAX records.
func attributes(file string) (map[string]string, error) {
	size, err := unix.Llistxattr(file, nil)
	if errors.Is(err, unix.ENOTSUP) || size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(file, list); err != nil {
		return nil, err
	}
	var records map[string]string
	for name := range strings.SplitSeq(string(list[:size]), "\x00") {
		if !kept(name) {
			continue
		}
		value, err := attribute(file, name)
		if err != nil {
			return nil, err
		}
		if records == nil {
			records = map[string]string{}
		}
		records["SCHILY.xattr."+name] = value
	}
	return records, nil
}

func kept(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

func attribute(file, name string) (string, error) {
	size, err := unix.Lgetxattr(file, name, nil)
	if err != nil {
		return "", err
	}
	value := make([]byte, size)
	if size, err = unix.Lgetxattr(file, name, value); err != nil {
		return "", err
	}
	return string(value[:size]), nil
}

// architectures are the names that OCI has for processors.
var architectures = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_386: "386", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm",
	elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_RISCV: "riscv64", elf.EM_LOONGARCH: "loong64",
	elf.EM_MIPS: "mips64le",
}
