package runtime

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// handlers is where the kernel shows what else it can execute: binfmt_misc.
const handlers = "/proc/sys/fs/binfmt_misc"

// format reports why the kernel would not execute the file at p, a path inside
// that is free of links, or nil where it would, or where that can't be known. An
// OCI runtime tells this too late for an exit code of its own: execve(2).
func (in *inside) format(p string) *Error {
	f, err := os.OpenFile(in.host(p), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	head := make([]byte, 256) // BINPRM_BUF_SIZE
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil
	}
	head = head[:n]
	switch line, script := bytes.CutPrefix(head, []byte("#!")); {
	case script:
		line, _, _ = bytes.Cut(line, []byte("\n"))
		if words := strings.Fields(string(line)); len(words) > 0 {
			if bad := in.needs("interpreter", words[0]); bad != nil {
				return bad
			}
			return in.foreign(in.begins(words[0]))
		}
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)) && n >= 52: // the smallest header
		if bad := in.foreign(head); bad != nil {
			return bad
		}
		return in.needs("loader", loader(f))
	}
	if entries, _ := os.ReadDir(handlers); len(entries) > 2 { // beside register and status
		return nil
	}
	return &Error{Code: CodeNotExecutable, Err: errors.New("it is neither a program nor a script with a #! line"),
		Remedy: "give a script to its shell: sh FILE"}
}

// needs reports that a file which the kernel starts a program with isn't there.
func (in *inside) needs(what, name string) *Error {
	if !strings.HasPrefix(name, "/") {
		return nil
	}
	if p, err := in.resolve(name); err == nil {
		if _, err := os.Stat(in.host(p)); err == nil || !errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	return &Error{Code: CodeNotFound, Err: errors.New("its " + what + " " + name + " is not there")}
}

// begins gives the first bytes of a program that a script names; nil where it can't
// be read.
func (in *inside) begins(name string) []byte {
	p, err := in.resolve(name)
	if err != nil || !strings.HasPrefix(name, "/") {
		return nil
	}
	f, err := os.OpenFile(in.host(p), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return nil
	}
	return head[:n]
}

// loader is the program that a dynamic executable names to load it; "" where
// there is none.
func loader(r io.ReaderAt) string {
	file, err := elf.NewFile(r)
	if err != nil {
		return ""
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(p.Open(), unix.PathMax))
			if err != nil {
				return ""
			}
			return string(bytes.TrimRight(name, "\x00"))
		}
	}
	return ""
}
